//! The known entries of a namespace's FDBs, and which ports flood them. Plain data: no I/O.
//!
//! A host may send frames from as many source addresses as it likes, and its bridge learns all of them. Beyond
//! [`MOST_LEARNED`] behind a port, none of them is kept here, whatever the bridge keeps. Addresses of inner ends are
//! always kept, so that what the lab's hosts send and receive does not depend on what another one invents.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::kernel::FdbEntry;

/// How many addresses may be learned behind a port, other than those of inner ends, before it counts as flooding.
pub const MOST_LEARNED: usize = 4096;

/// A port stops flooding when so many are left.
const LEFT: usize = MOST_LEARNED / 2;

/// FDB entries, by address.
#[derive(Clone, Debug, Default)]
pub struct Fdb {
    entries: HashMap<[u8; 6], Vec<FdbEntry>>,
    /// The addresses of inner ends.
    own: HashSet<[u8; 6]>,
    /// How many other addresses the bridges have learned behind each port. Of a flooding port, an event may be counted
    /// twice.
    learned: HashMap<u32, usize>,
    flooding: BTreeSet<u32>,
    flooding_changed: bool,
    is_incomplete: bool,
}

impl Fdb {
    /// The entry of an address on a bridge and in a VLAN; 0 is none.
    #[must_use]
    pub fn get(&self, bridge: u32, mac: [u8; 6], vlan: u16) -> Option<&FdbEntry> {
        self.of(mac).iter().find(|entry| (entry.bridge, entry.vlan) == (bridge, vlan))
    }

    /// The entries of an address, on all bridges and in all VLANs.
    #[must_use]
    pub fn of(&self, mac: [u8; 6]) -> &[FdbEntry] {
        self.entries.get(&mac).map_or(&[], Vec::as_slice)
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &FdbEntry> {
        self.entries.values().flatten()
    }

    /// All addresses.
    pub fn macs(&self) -> impl Iterator<Item = [u8; 6]> {
        self.entries.keys().copied()
    }

    /// Whether more addresses were learned behind a port than are kept.
    #[must_use]
    pub fn is_flooding(&self, port: u32) -> bool {
        self.flooding.contains(&port)
    }

    /// Whether any port is flooding.
    #[must_use]
    pub fn is_any_flooding(&self) -> bool {
        !self.flooding.is_empty()
    }

    /// Whether the flooding ports have changed since the last call.
    #[must_use]
    pub fn take_flooding_changed(&mut self) -> bool {
        std::mem::take(&mut self.flooding_changed)
    }

    /// Whether a port has stopped flooding since the last call: entries behind it are missing here.
    #[must_use]
    pub fn take_is_incomplete(&mut self) -> bool {
        std::mem::take(&mut self.is_incomplete)
    }

    /// Adds an entry, in place of the former one of that address on that bridge and in that VLAN. Returns whether the
    /// kept entries have changed.
    pub fn insert(&mut self, entry: FdbEntry) -> bool {
        let former = self.take(&entry);
        if self.is_counted(&entry) {
            let learned = self.learned.entry(entry.port).or_default();
            *learned += 1;
            if *learned > MOST_LEARNED && self.flooding.insert(entry.port) {
                self.flooding_changed = true;
                let Self { entries, own, .. } = self;
                retain(entries, |known| known.port != entry.port || !known.ages || own.contains(&known.mac));
            }
            if self.is_flooding(entry.port) {
                return former.is_some();
            }
        }
        self.entries.entry(entry.mac).or_insert_with(|| Vec::with_capacity(1)).push(entry);
        former != Some(entry)
    }

    /// Removes the entry of the same address, bridge and VLAN. Returns whether the kept entries have changed.
    pub fn remove(&mut self, entry: &FdbEntry) -> bool {
        if self.take(entry).is_some() {
            return true;
        }
        if self.is_flooding(entry.port) && self.is_counted(entry) {
            self.count_down(entry.port);
        }
        false
    }

    fn take(&mut self, entry: &FdbEntry) -> Option<FdbEntry> {
        let entries = self.entries.get_mut(&entry.mac)?;
        let at = entries.iter().position(|known| known.is_same(entry))?;
        let former = entries.swap_remove(at);
        if entries.is_empty() {
            self.entries.remove(&entry.mac);
        }
        if self.is_counted(&former) {
            self.count_down(former.port);
        }
        Some(former)
    }

    fn is_counted(&self, entry: &FdbEntry) -> bool {
        entry.ages && !self.own.contains(&entry.mac)
    }

    fn count_down(&mut self, port: u32) {
        let learned = self.learned.entry(port).or_default();
        *learned = learned.saturating_sub(1);
        if *learned <= LEFT && self.flooding.remove(&port) {
            (self.flooding_changed, self.is_incomplete) = (true, true);
        }
    }

    /// Removes the entries of a port, or of a bridge.
    pub fn forget_device(&mut self, ifindex: u32) {
        retain(&mut self.entries, |entry| entry.port != ifindex && entry.bridge != ifindex);
        self.learned.remove(&ifindex);
        self.flooding_changed |= self.flooding.remove(&ifindex);
    }

    /// An empty database that keeps the addresses `own`, for a dump. Ports that flood here flood there until the dump
    /// is complete.
    #[must_use]
    pub fn emptied(&self, own: HashSet<[u8; 6]>) -> Self {
        Self { own, flooding: self.flooding.clone(), ..Self::default() }
    }

    /// Ends the dump: ports behind which few addresses are left do not flood. If there are any, the dump has left their
    /// entries out.
    pub fn complete(&mut self) {
        let learned = &self.learned;
        let few = self.flooding.extract_if(.., |port| learned.get(port).is_none_or(|count| *count <= LEFT));
        if few.count() > 0 {
            (self.flooding_changed, self.is_incomplete) = (true, true);
        }
    }

    /// The addresses whose entries differ in another database.
    pub fn differing(&self, other: &Self) -> impl Iterator<Item = [u8; 6]> {
        let is_other = move |mac: &[u8; 6]| {
            let (here, there) = (self.of(*mac), other.of(*mac));
            here.len() != there.len() || !here.iter().all(|entry| there.contains(entry))
        };
        self.macs().chain(other.macs()).filter(is_other)
    }

    /// The addresses of inner ends.
    #[must_use]
    pub fn own(&self) -> &HashSet<[u8; 6]> {
        &self.own
    }
}

fn retain(entries: &mut HashMap<[u8; 6], Vec<FdbEntry>>, is_kept: impl Fn(&FdbEntry) -> bool) {
    entries.retain(|_, entries| {
        entries.retain(&is_kept);
        !entries.is_empty()
    });
}

impl Extend<FdbEntry> for Fdb {
    fn extend<I: IntoIterator<Item = FdbEntry>>(&mut self, entries: I) {
        for entry in entries {
            let _ = self.insert(entry);
        }
    }
}

impl FromIterator<FdbEntry> for Fdb {
    fn from_iter<I: IntoIterator<Item = FdbEntry>>(entries: I) -> Self {
        let mut all = Self::default();
        all.extend(entries);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: u32 = 5;
    const FLOODER: u32 = 6;

    fn entry(port: u32, number: usize) -> FdbEntry {
        let [.., high, low] = number.to_be_bytes();
        FdbEntry { bridge: 3, port, mac: [2, 0, 0, 0, high, low], vlan: 0, ages: true, trusted: true }
    }

    /// One host behind `HOME` and one behind `FLOODER`, which has sent from as many addresses as are kept.
    fn at_the_limit() -> Fdb {
        let own = HashSet::from([entry(HOME, 0xfff0).mac, entry(FLOODER, 0xfff1).mac]);
        let mut fdb = Fdb::default().emptied(own);
        fdb.extend([entry(HOME, 0xfff0), entry(FLOODER, 0xfff1), entry(HOME, 0xfff2)]);
        fdb.extend((0..MOST_LEARNED).map(|number| entry(FLOODER, number)));
        fdb
    }

    #[test]
    fn a_port_floods_beyond_the_limit_and_what_it_invents_is_dropped() {
        let mut fdb = at_the_limit();
        assert!(!fdb.is_flooding(FLOODER) && !fdb.take_flooding_changed());
        assert!(!fdb.insert(entry(FLOODER, MOST_LEARNED)), "it is not kept");
        assert!(fdb.is_flooding(FLOODER) && fdb.take_flooding_changed() && !fdb.is_flooding(HOME));
        let mut kept: Vec<_> = fdb.macs().collect();
        kept.sort_unstable();
        let own = [0xfff0, 0xfff1, 0xfff2].map(|number| entry(HOME, number).mac);
        assert_eq!(kept, own, "the hosts' own, and what was learned elsewhere");
    }

    #[test]
    fn an_address_that_moves_behind_a_flooding_port_is_not_at_home_any_more() {
        let mut fdb = at_the_limit();
        let _ = fdb.insert(entry(FLOODER, MOST_LEARNED));
        assert!(fdb.insert(entry(FLOODER, 0xfff0)), "a host's own");
        assert_eq!(fdb.of(entry(HOME, 0xfff0).mac), [entry(FLOODER, 0xfff0)]);
        assert!(fdb.insert(entry(FLOODER, 0xfff2)), "another");
        assert_eq!(fdb.of(entry(HOME, 0xfff2).mac), []);
    }

    #[test]
    fn a_flood_ends_when_half_has_aged_out() {
        let mut fdb = at_the_limit();
        let _ = fdb.insert(entry(FLOODER, MOST_LEARNED));
        let _ = fdb.take_flooding_changed();
        for number in 0..=LEFT {
            assert!(fdb.is_flooding(FLOODER), "{number}");
            assert!(!fdb.remove(&entry(FLOODER, number)));
        }
        assert!(!fdb.is_flooding(FLOODER) && fdb.take_flooding_changed());
        assert!(fdb.take_is_incomplete(), "the other half is not kept");
    }

    #[test]
    fn a_dump_lets_no_stranger_in_first() {
        let mut fdb = at_the_limit();
        let _ = fdb.insert(entry(FLOODER, MOST_LEARNED));
        let mut dump = fdb.emptied(fdb.own().clone());
        dump.extend((0..=MOST_LEARNED).map(|number| entry(FLOODER, number)));
        dump.extend([entry(HOME, 0xfff0)]);
        dump.complete();
        assert!(!dump.take_is_incomplete() && dump.is_flooding(FLOODER));
        assert_eq!(dump.macs().collect::<Vec<_>>(), [entry(HOME, 0xfff0).mac]);
        let mut dump = fdb.emptied(fdb.own().clone());
        dump.extend((0..LEFT).map(|number| entry(FLOODER, number)));
        dump.complete();
        assert!(dump.take_is_incomplete() && !dump.is_flooding(FLOODER), "it has ended, and a dump is due");
        assert_eq!(dump.macs().count(), 0);
    }

    #[test]
    fn static_entries_are_no_flood_and_a_port_that_is_gone_is_forgotten() {
        let mut fdb = Fdb::default();
        fdb.extend((0..2 * MOST_LEARNED).map(|number| FdbEntry { ages: false, ..entry(HOME, number) }));
        assert!(!fdb.is_flooding(HOME) && fdb.macs().count() == 2 * MOST_LEARNED);
        fdb.extend((0..=MOST_LEARNED).map(|number| entry(FLOODER, number + 2 * MOST_LEARNED)));
        assert!(fdb.is_flooding(FLOODER));
        fdb.forget_device(FLOODER);
        assert!(!fdb.is_flooding(FLOODER) && fdb.macs().count() == 2 * MOST_LEARNED);
        fdb.forget_device(3);
        assert_eq!(fdb.macs().count(), 0, "the bridge is gone");
    }
}
