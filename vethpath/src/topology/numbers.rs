//! The numbers of a lab's parts in the BPF maps. A part that stays in the lab across an update keeps its number,
//! and with it its counters.

use std::collections::{BTreeMap, BTreeSet};

use super::{AdoptedBridge, Bridge, GuestRange, IfName, NsName, Pair, Place, Topology, Trunk};

type PairName<'a> = (&'a NsName, &'a IfName);
type BridgeName<'a> = (&'a Place, &'a IfName);
type TrunkName<'a> = (BridgeName<'a>, BridgeName<'a>);

/// A bridge with its numbers.
struct Numbered<'a> {
    name: BridgeName<'a>,
    number: u32,
    domain: u16,
}

impl Topology {
    /// Numbers every part. A part that an `earlier` topology of the same lab has by the same name keeps its number
    /// (the last one's). A new part gets the lowest number that none of them uses. A new trunk gets a number that
    /// no trunk had before, since the programs' counters still contain those of removed trunks.
    pub fn assign_numbers(&mut self, earlier: &[&Self]) {
        let pairs = known(earlier.iter().flat_map(|lab| &lab.pairs), |pair| (pair_name(pair), pair.number));
        let bridges = || earlier.iter().flat_map(|lab| lab.all_bridges());
        let bridge_numbers = known(bridges(), |bridge| (bridge.name, bridge.number));
        let domains = known(bridges(), |bridge| (bridge.name.0, bridge.domain));
        let trunks =
            known(earlier.iter().flat_map(|lab| &lab.trunks), |trunk| (trunk_name(trunk), trunk.number));

        let range = earlier.iter().rev().find_map(|lab| lab.guests);
        let numbers = numbers(self.pairs.iter().map(pair_name), &pairs, range);
        self.pairs.iter_mut().zip(numbers).for_each(|(pair, number)| pair.number = number);
        let domains = numbers_of_places(self.all_bridges().map(|bridge| bridge.name.0), &domains);
        let numbers = self::numbers(self.all_bridges().map(|bridge| bridge.name), &bridge_numbers, None);
        let own = self.bridges.iter_mut().map(|bridge| (&mut bridge.domain, &mut bridge.number));
        let adopted = self.adopted.iter_mut().map(|bridge| (&mut bridge.domain, &mut bridge.number));
        for ((domain, number), new) in own.chain(adopted).zip(domains.into_iter().zip(numbers)) {
            (*domain, *number) = new;
        }

        let mut next = earlier.iter().map(|lab| lab.next_trunk).max().unwrap_or_default();
        for trunk in &mut self.trunks {
            trunk.number = trunks.get(&trunk_name(trunk)).copied().unwrap_or_else(|| {
                next = next.saturating_add(1);
                next - 1
            });
        }
        self.next_trunk = next;

        // A range is kept: counters of ports that have left are there.
        let highest = self.pairs.iter().map(|pair| pair.number).chain(pairs.into_values()).max();
        let new = || GuestRange { former: highest.unwrap_or_default().saturating_add(1) };
        let has_guests = self.bridges_with_guests().next().is_some();
        self.guests = range.or_else(|| has_guests.then(new));
    }

    /// The bridges that the lab makes, and then those that it adopts.
    fn all_bridges(&self) -> impl Iterator<Item = Numbered<'_>> {
        let own = self.bridges.iter().map(|bridge| {
            let Bridge { place, name, number, domain, .. } = bridge;
            Numbered { name: (place, name), number: *number, domain: *domain }
        });
        let adopted = self.adopted.iter().map(|bridge| {
            let AdoptedBridge { place, name, number, domain, .. } = bridge;
            Numbered { name: (place, name), number: *number, domain: *domain }
        });
        own.chain(adopted)
    }
}

/// The known numbers by name. Later topologies override earlier ones.
fn known<T, K: Ord, N>(parts: impl Iterator<Item = T>, of: impl Fn(T) -> (K, N)) -> BTreeMap<K, N> {
    parts.map(of).collect()
}

/// The numbers of `names` in their order. New numbers start at 1, and are none of `kept`.
fn numbers<K: Ord>(
    names: impl Iterator<Item = K>,
    known: &BTreeMap<K, u32>,
    kept: Option<GuestRange>,
) -> Vec<u32> {
    let taken: BTreeSet<u32> = known.values().copied().collect();
    let is_kept = |number| kept.is_some_and(|range| range.contains(number));
    let mut free = (1..).filter(|&number| !taken.contains(&number) && !is_kept(number));
    names.map(|name| known.get(&name).copied().or_else(|| free.next()).unwrap_or_default()).collect()
}

/// The same for places. All bridges in a place share its number.
fn numbers_of_places<'a>(places: impl Iterator<Item = &'a Place>, known: &BTreeMap<&Place, u16>) -> Vec<u16> {
    let taken: BTreeSet<u16> = known.values().copied().collect();
    let mut free = (0..).filter(|number| !taken.contains(number));
    let mut given: BTreeMap<&Place, u16> = BTreeMap::new();
    let number = |place| {
        *given
            .entry(place)
            .or_insert_with(|| known.get(place).copied().or_else(|| free.next()).unwrap_or_default())
    };
    places.map(number).collect()
}

fn pair_name(pair: &Pair) -> PairName<'_> {
    (&pair.namespace, &pair.inner.name)
}

fn trunk_name(trunk: &Trunk) -> TrunkName<'_> {
    ((&trunk.a.place, &trunk.a.bridge), (&trunk.b.place, &trunk.b.bridge))
}

#[cfg(test)]
mod tests {
    use crate::topology::{Source, Topology, read};

    fn lab(pairs: &[(&str, &str)]) -> Topology {
        let mut bridges: Vec<_> = pairs.iter().map(|(_, bridge)| *bridge).collect();
        bridges.sort_unstable();
        bridges.dedup();
        let trunks =
            |n: usize| bridges.get(n + 1).map_or(String::new(), |to| format!("trunks = [\"{to}\"]\n"));
        let bridge = |(n, name)| format!("[bridge.{name}]\n{}", trunks(n));
        let pair =
            |(ns, bridge): &(&str, &str)| format!("[namespace.{ns}.interface.eth0]\nlink = \"{bridge}\"\n");
        let text: String = bridges.iter().enumerate().map(bridge).chain(pairs.iter().map(pair)).collect();
        read(Source { path: "lab.toml", text: &text }, Some("lab")).unwrap_or_else(|_| panic!("{text}"))
    }

    fn pairs(lab: &Topology) -> Vec<(String, u32)> {
        lab.pairs.iter().map(|pair| (pair.namespace.to_string(), pair.number)).collect()
    }

    fn expect(numbers: &[(&str, u32)]) -> Vec<(String, u32)> {
        numbers.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    }

    #[test]
    fn a_new_lab_is_numbered_in_the_order_of_its_file() {
        let lab = lab(&[("a", "br0"), ("b", "br0"), ("c", "br1")]);
        assert_eq!(pairs(&lab), expect(&[("a", 1), ("b", 2), ("c", 3)]));
        assert_eq!(lab.bridges.iter().map(|b| (b.number, b.domain)).collect::<Vec<_>>(), [(1, 0), (2, 0)]);
        assert_eq!((lab.trunks[0].number, lab.next_trunk), (0, 1));
    }

    #[test]
    fn what_stays_keeps_its_number_and_what_is_new_gets_a_free_one() {
        let first = lab(&[("a", "br0"), ("b", "br0"), ("c", "br0")]);
        let mut second = lab(&[("new", "br0"), ("c", "br0"), ("a", "br0")]);
        second.assign_numbers(&[&first]);
        // The first lab may still be present, so its numbers are in use.
        assert_eq!(pairs(&second), expect(&[("new", 4), ("c", 3), ("a", 1)]));
        let mut third = lab(&[("x", "br0"), ("new", "br0")]);
        third.assign_numbers(&[&second]);
        assert_eq!(pairs(&third), expect(&[("x", 2), ("new", 4)]));
    }

    #[test]
    fn a_pair_keeps_its_number_on_another_bridge() {
        let first = lab(&[("a", "br0"), ("b", "br1")]);
        let mut second = lab(&[("b", "br0")]);
        second.assign_numbers(&[&first]);
        assert_eq!(pairs(&second), expect(&[("b", 2)]));
    }

    #[test]
    fn no_trunk_has_the_number_of_another_that_is_gone() {
        let mut lab2 = lab(&[("a", "br1"), ("b", "br2")]);
        let first = lab(&[("a", "br0"), ("b", "br1")]);
        lab2.assign_numbers(&[&first]);
        assert_eq!((lab2.trunks[0].number, lab2.next_trunk), (1, 2));
        let mut none = lab(&[("a", "br0")]);
        none.assign_numbers(&[&lab2]);
        let mut again = lab(&[("a", "br0"), ("b", "br1")]);
        again.assign_numbers(&[&none]);
        assert_eq!(again.trunks[0].number, 2);
    }
}
