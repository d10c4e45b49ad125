//! Guest ports: veth ports that other programs plug into bridges with `guests`. Which there are, and their numbers in the
//! maps. Plain data: no I/O.

use std::collections::{BTreeMap, BTreeSet};

use vethpath_common::{NO_PAIR, PortKey, PortRecord};

use super::{
    NotArmed,
    layout::{LabPort, Layout},
    netns_state::NetnsState,
};
use crate::{
    kernel::LinkFacts,
    plan::owner,
    topology::{GuestRange, IfName, Place},
};

/// The kind of link that a guest port is.
const VETH: &str = "veth";

/// The numbers of a lab's guest ports. A port keeps its number until it leaves. The number is given to another port only
/// after its counts were moved to [`GuestRange::former`], when no program counts under it any more.
#[derive(Clone, Debug, Default)]
pub struct GuestNumbers {
    range: Option<GuestRange>,
    by_port: BTreeMap<PortKey, u32>,
    /// Ports that an earlier agent numbered, and that were not found yet.
    inherited: BTreeSet<PortKey>,
    /// Numbers of ports that have left.
    left: BTreeSet<u32>,
}

impl GuestNumbers {
    /// The numbers as an earlier agent left them, whose maps hold these ports. Any other number may have counts.
    #[must_use]
    pub fn take_over(range: Option<GuestRange>, records: &BTreeMap<PortKey, PortRecord>) -> Self {
        let mut numbers = Self { range, ..Self::default() };
        let Some(range) = range else { return numbers };
        let guests = records.iter().filter(|(_, record)| range.numbers().contains(&record.pair));
        numbers.by_port = guests.map(|(key, record)| (*key, record.pair)).collect();
        numbers.inherited = numbers.by_port.keys().copied().collect();
        let used: BTreeSet<u32> = numbers.by_port.values().copied().collect();
        numbers.left = range.numbers().filter(|number| !used.contains(number)).collect();
        numbers
    }

    /// Takes over the range of a changed lab. It changes only from none.
    pub fn set_range(&mut self, range: Option<GuestRange>) {
        self.range = self.range.or(range);
    }

    /// The range.
    #[must_use]
    pub fn range(&self) -> Option<GuestRange> {
        self.range
    }

    /// The number of a port; `None` if all are in use. `is_same` returns whether the port with that key is the one that an
    /// earlier agent numbered.
    pub fn of(&mut self, key: PortKey, is_same: impl FnOnce() -> bool) -> Option<u32> {
        if self.inherited.remove(&key) && !is_same() {
            self.leave(key);
        }
        if let Some(&number) = self.by_port.get(&key) {
            return Some(number);
        }
        let used: BTreeSet<u32> = self.by_port.values().copied().collect();
        let number =
            self.range?.numbers().find(|number| !used.contains(number) && !self.left.contains(number))?;
        self.by_port.insert(key, number);
        Some(number)
    }

    /// The number that a port has; `None` if it has none.
    #[must_use]
    pub fn number_of(&self, key: PortKey) -> Option<u32> {
        self.by_port.get(&key).copied()
    }

    /// A port has left.
    pub fn leave(&mut self, key: PortKey) {
        self.inherited.remove(&key);
        self.left.extend(self.by_port.remove(&key));
    }

    /// The ports of a namespace that have numbers, by its number in the maps.
    #[must_use]
    pub fn ports_of(&self, domain: u16) -> Vec<PortKey> {
        self.by_port.keys().filter(|key| key.domain == u32::from(domain)).copied().collect()
    }

    /// All ports that have numbers.
    #[must_use]
    pub fn ports(&self) -> Vec<PortKey> {
        self.by_port.keys().copied().collect()
    }

    /// Numbers of ports that have left, whose counts were not moved yet.
    #[must_use]
    pub fn left(&self) -> &BTreeSet<u32> {
        &self.left
    }

    /// The counts of these numbers were moved.
    pub fn give_back(&mut self, numbers: &BTreeSet<u32>) {
        self.left.retain(|number| !numbers.contains(number));
    }
}

/// The guest ports of a namespace, by ifindex, without numbers. A port whose name no file could have is none.
#[must_use]
pub fn found(layout: &Layout, facts: &NetnsState) -> Vec<LabPort> {
    let bridges = layout.bridges.iter().filter(|bridge| bridge.guests);
    let bridges: BTreeMap<u32, _> =
        bridges.filter_map(|bridge| Some((facts.link(&bridge.name)?.ifindex, bridge))).collect();
    if bridges.is_empty() {
        return Vec::new();
    }
    let own: BTreeSet<&str> = layout.own_ports().map(|(port, _)| port.as_str()).collect();
    let guest = |link: &LinkFacts| {
        let bridge = bridges.get(&link.controller?)?;
        // `up` marks ports before they are on a bridge with guests, and the agent may not know them yet.
        let is_own = own.contains(link.name.as_str()) || owner(link.alias.as_deref()).is_some();
        let is_guest = link.kind.as_deref() == Some(VETH) && !is_own;
        Some(LabPort {
            counter: NO_PAIR,
            port: link.name.parse().ok().filter(|_| is_guest)?,
            bridge: bridge.name.clone(),
            barred: (!bridge.wants_programs).then_some(NotArmed::NotWanted),
            xdp: None,
            guest: Some(link.ifindex),
        })
    };
    facts.links.values().filter_map(guest).collect()
}

/// The name of a guest port in messages and events: `br0/veth1`, or `fabric:br0/veth1` in a namespace of the lab.
#[must_use]
pub fn guest_name(place: &Place, bridge: &IfName, port: &IfName) -> String {
    match place {
        Place::Host => format!("{bridge}/{port}"),
        Place::Namespace(name) => format!("{name}:{bridge}/{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(ifindex: u32) -> PortKey {
        PortKey { ifindex, domain: 0 }
    }

    fn numbers(known: &[(u32, u32)]) -> GuestNumbers {
        let record = |pair| PortRecord { pair, ..PortRecord::default() };
        let records = known.iter().map(|&(ifindex, pair)| (key(ifindex), record(pair))).collect();
        GuestNumbers::take_over(Some(GuestRange { former: 10 }), &records)
    }

    fn none_left(mut numbers: GuestNumbers) -> GuestNumbers {
        let left = numbers.left().clone();
        numbers.give_back(&left);
        numbers
    }

    #[test]
    fn a_port_keeps_its_number_and_gives_it_back_after_its_counts_were_moved() {
        let mut numbers = none_left(numbers(&[]));
        let of = |numbers: &mut GuestNumbers, ifindex| numbers.of(key(ifindex), || panic!("none is known"));
        assert_eq!(
            (of(&mut numbers, 5), of(&mut numbers, 6), of(&mut numbers, 5)),
            (Some(11), Some(12), Some(11))
        );
        numbers.leave(key(5));
        assert_eq!(of(&mut numbers, 7), Some(13), "11 has counts of another port");
        assert_eq!(numbers.left().iter().collect::<Vec<_>>(), [&11]);
        numbers.give_back(&BTreeSet::from([11]));
        assert_eq!(of(&mut numbers, 8), Some(11));
    }

    #[test]
    fn what_an_earlier_agent_numbered_is_kept_if_it_is_the_same_port() {
        let mut numbers = numbers(&[(5, 11), (6, 12), (1, 3)]);
        assert_eq!(numbers.of(key(5), || true), Some(11));
        assert_eq!(numbers.of(key(6), || false), None, "any other number may have counts");
        assert!(
            numbers.left().contains(&12) && !numbers.left().contains(&11) && !numbers.left().contains(&10)
        );
        let left = numbers.left().clone();
        numbers.give_back(&left);
        assert_eq!(numbers.of(key(6), || panic!("asked once")), Some(12));
        assert_eq!(numbers.ports_of(0), [key(5), key(6)]);
        assert_eq!(numbers.ports_of(1), []);
    }

    #[test]
    fn numbers_end() {
        let mut numbers = none_left(numbers(&[]));
        for ifindex in 0..GuestRange::MOST {
            assert_eq!(numbers.of(key(ifindex), || true), Some(11 + ifindex));
        }
        assert_eq!(numbers.of(key(5000), || true), None);
        assert_eq!(GuestNumbers::default().of(key(1), || true), None);
    }
}
