//! The known entries of a namespace's FDBs, and which ports flood them. Plain data: no I/O.
//!
//! A host may send frames from as many source addresses as it likes, and its bridge learns all of them. Beyond
//! [`MOST_LEARNED`] behind a port, none of them is kept here, whatever the bridge keeps. Addresses of inner ends are
//! always kept, so that what the lab's hosts send and receive does not depend on what another one invents.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::kernel::{FdbEntry, watch::Event};

/// How many addresses may be learned behind a port, other than those of inner ends, before it counts as flooding. And
/// how many may be learned there, or move there, in a second: two hosts can send from the same addresses in turns.
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
    /// How many were learned behind each port, or have moved there, in this second.
    recent: HashMap<u32, usize>,
    flooding: BTreeSet<u32>,
    flooding_changed: bool,
    incomplete: BTreeSet<u32>,
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

    /// The ports that are flooding, by ifindex.
    #[must_use]
    pub fn flooding(&self) -> &BTreeSet<u32> {
        &self.flooding
    }

    /// Whether the flooding ports have changed since the last call.
    #[must_use]
    pub fn take_flooding_changed(&mut self) -> bool {
        std::mem::take(&mut self.flooding_changed)
    }

    /// Ports that have stopped flooding since the last call: entries behind them are missing here.
    #[must_use]
    pub fn take_incomplete(&mut self) -> BTreeSet<u32> {
        std::mem::take(&mut self.incomplete)
    }

    /// Applies an event. Returns whether the kept entries have changed.
    pub fn apply_event(&mut self, event: &Event) -> bool {
        match event {
            Event::Learned(entry) => self.insert(*entry),
            Event::Forgot(entry) => self.remove(entry),
            _ => false,
        }
    }

    /// Adds an entry, in place of the former one of that address on that bridge and in that VLAN. Returns whether the
    /// kept entries have changed.
    pub fn insert(&mut self, entry: FdbEntry) -> bool {
        let former = self.take(&entry);
        if self.is_counted(&entry) {
            let learned = self.learned.entry(entry.port).or_default();
            *learned = learned.saturating_add(1);
            let recent = self.recent.entry(entry.port).or_default();
            *recent += usize::from(former.is_none_or(|former| former.port != entry.port));
            if (*learned).max(*recent) > MOST_LEARNED && self.flooding.insert(entry.port) {
                self.flooding_changed = true;
                let Self { entries, own, .. } = self;
                retain(entries, |known| known.port != entry.port || !known.ages || own.contains(&known.mac));
            }
            if self.is_flooding(entry.port) {
                return former.is_some();
            }
        }
        self.list(entry);
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
        let former = self.unlist(entry)?;
        if self.is_counted(&former) {
            self.count_down(former.port);
        }
        Some(former)
    }

    /// Adds an entry without counting it. There is none of that address, bridge and VLAN.
    fn list(&mut self, entry: FdbEntry) {
        self.entries.entry(entry.mac).or_insert_with(|| Vec::with_capacity(1)).push(entry);
    }

    /// Removes the entry of an address, bridge and VLAN, which stays counted.
    fn unlist(&mut self, entry: &FdbEntry) -> Option<FdbEntry> {
        let entries = self.entries.get_mut(&entry.mac)?;
        let at = entries.iter().position(|known| known.is_same(entry))?;
        let former = entries.swap_remove(at);
        if entries.is_empty() {
            self.entries.remove(&entry.mac);
        }
        Some(former)
    }

    fn is_counted(&self, entry: &FdbEntry) -> bool {
        is_learned(&self.own, entry)
    }

    fn count_down(&mut self, port: u32) {
        let learned = self.learned.entry(port).or_default();
        *learned = learned.saturating_sub(1);
        if *learned <= LEFT && self.flooding.remove(&port) {
            self.flooding_changed = true;
            self.incomplete.insert(port);
        }
    }

    /// A second is over.
    pub fn begin_second(&mut self) {
        self.recent.clear();
    }

    /// Removes the entries of addresses other than those of inner ends.
    pub fn drop_foreign(&mut self) {
        let own = &self.own;
        retain(&mut self.entries, |entry| own.contains(&entry.mac));
        self.learned.clear();
    }

    /// Sets the addresses of inner ends. Returns the former ones.
    pub fn set_own(&mut self, own: HashSet<[u8; 6]>) -> HashSet<[u8; 6]> {
        std::mem::replace(&mut self.own, own)
    }

    /// Sets the entries of ports to `dumped`. If these are not all, it is because a port has learned too many. Returns
    /// the addresses whose kept entries have changed.
    pub fn set_ports(
        &mut self,
        ports: &BTreeSet<u32>,
        dumped: &[FdbEntry],
        is_whole: bool,
    ) -> BTreeSet<[u8; 6]> {
        let mut learned: HashMap<u32, usize> = HashMap::new();
        for entry in dumped.iter().filter(|entry| is_learned(&self.own, entry)) {
            *learned.entry(entry.port).or_default() += 1;
        }
        for &port in ports {
            let learned = learned.get(&port).copied().unwrap_or_default();
            let recent = self.recent.get(&port).copied().unwrap_or_default();
            let most = if self.is_flooding(port) { LEFT } else { MOST_LEARNED };
            let floods = !is_whole || learned.max(recent) > most;
            self.flooding_changed |=
                if floods { self.flooding.insert(port) } else { self.flooding.remove(&port) };
        }
        let found: HashSet<_> = dumped.iter().collect();
        let Self { entries, own, flooding, .. } = self;
        let is_dropped = |entry: &FdbEntry| flooding.contains(&entry.port) && is_learned(own, entry);
        let mut changed = BTreeSet::new();
        retain(entries, |entry| {
            let is_there = !is_whole || found.contains(entry);
            let stays = !ports.contains(&entry.port) || is_there && !is_dropped(entry);
            if !stays {
                changed.insert(entry.mac);
            }
            stays
        });
        for entry in dumped.iter().filter(|entry| ports.contains(&entry.port)) {
            if self.is_flooding(entry.port) && self.is_counted(entry) {
                continue;
            }
            let former = self.unlist(entry);
            let has_left = |former: &FdbEntry| !ports.contains(&former.port) && self.is_counted(former);
            if let Some(former) = former.filter(has_left) {
                self.count_down(former.port);
            }
            self.list(*entry);
            if former != Some(*entry) {
                changed.insert(entry.mac);
            }
        }
        // Of a part, the number says nothing: events do not end the flood then.
        let count = |port| if is_whole { learned.get(port).copied().unwrap_or_default() } else { usize::MAX };
        self.learned.extend(ports.iter().map(|port| (*port, count(port))));
        changed
    }

    /// The addresses of inner ends.
    #[must_use]
    pub fn own(&self) -> &HashSet<[u8; 6]> {
        &self.own
    }
}

/// Whether an entry counts as learned, where `own` are the addresses of inner ends.
#[must_use]
pub fn is_learned(own: &HashSet<[u8; 6]>, entry: &FdbEntry) -> bool {
    entry.ages && !own.contains(&entry.mac)
}

fn retain(entries: &mut HashMap<[u8; 6], Vec<FdbEntry>>, mut is_kept: impl FnMut(&FdbEntry) -> bool) {
    entries.retain(|_, entries| {
        entries.retain(&mut is_kept);
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
        let mut fdb = Fdb::default();
        let _ = fdb.set_own(own);
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
    fn addresses_that_move_to_and_fro_are_a_flood_too() {
        let mut fdb = Fdb::default();
        let move_all = |fdb: &mut Fdb, port| {
            (0..1000).for_each(|number| {
                let _ = fdb.insert(entry(port, number));
            });
        };
        for _ in 0..4 {
            move_all(&mut fdb, HOME);
            move_all(&mut fdb, FLOODER);
        }
        assert!(!fdb.is_flooding(HOME) && !fdb.is_flooding(FLOODER));
        fdb.begin_second();
        for _ in 0..5 {
            move_all(&mut fdb, HOME);
            move_all(&mut fdb, FLOODER);
        }
        assert!(fdb.is_flooding(HOME) && fdb.is_flooding(FLOODER));
        let _ = fdb.set_ports(&BTreeSet::from([FLOODER]), &[], true);
        assert!(fdb.is_flooding(FLOODER), "it goes on");
        fdb.begin_second();
        let _ = fdb.set_ports(&BTreeSet::from([FLOODER]), &[], true);
        assert!(!fdb.is_flooding(FLOODER));
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
        assert_eq!(fdb.take_incomplete(), BTreeSet::from([FLOODER]), "the other half is not kept");
    }

    #[test]
    fn a_dump_of_a_port_that_has_learned_too_many_finds_its_hosts_alone() {
        let mut fdb = at_the_limit();
        let (own, elsewhere) = (entry(FLOODER, 0xfff1), entry(HOME, 7));
        let strangers = |count| (0..count).map(|number| entry(FLOODER, number));
        let dumped: Vec<_> = strangers(MOST_LEARNED + 1).chain([own, entry(FLOODER, 0xfff2)]).collect();
        let changed = fdb.set_ports(&BTreeSet::from([FLOODER]), &dumped, false);
        assert!(fdb.is_flooding(FLOODER) && fdb.take_flooding_changed());
        assert_eq!(changed.len(), MOST_LEARNED, "what was kept until now");
        assert_eq!(fdb.of(own.mac), [own]);
        assert_eq!(fdb.of(entry(HOME, 0xfff2).mac), [entry(HOME, 0xfff2)], "an event will show it");
        assert!(fdb.insert(elsewhere), "another port");
        let dumped: Vec<_> = strangers(LEFT + 1).collect();
        let changed = fdb.set_ports(&BTreeSet::from([FLOODER]), &dumped, true);
        assert!(fdb.is_flooding(FLOODER) && !fdb.take_flooding_changed(), "too many are left");
        assert_eq!(changed, BTreeSet::from([own.mac]), "it is gone");
    }

    #[test]
    fn a_dump_of_a_port_that_has_few_left_finds_all() {
        let mut fdb = at_the_limit();
        let _ = fdb.insert(entry(FLOODER, MOST_LEARNED));
        let _ = fdb.take_flooding_changed();
        fdb.begin_second();
        let dumped: Vec<_> = (0..LEFT).map(|number| entry(FLOODER, number)).collect();
        let changed = fdb.set_ports(&BTreeSet::from([FLOODER]), &dumped, true);
        assert!(!fdb.is_flooding(FLOODER) && fdb.take_flooding_changed());
        assert_eq!(changed.len(), LEFT + 1, "those that are left, and the host that is gone");
        assert!(fdb.take_incomplete().is_empty(), "nothing is missing");
        let more = (LEFT..MOST_LEARNED).map(|number| entry(FLOODER, number));
        fdb.extend(more);
        assert!(!fdb.is_flooding(FLOODER), "each was counted once");
        assert_eq!(
            fdb.set_ports(&BTreeSet::from([FLOODER]), &[entry(FLOODER, 0xfff2)], true).len(),
            MOST_LEARNED + 1
        );
        assert_eq!(fdb.of(entry(HOME, 0xfff2).mac), [entry(FLOODER, 0xfff2)], "it has moved");
    }

    #[test]
    fn a_dump_of_two_ports_finds_what_has_moved_between_them() {
        let mut fdb = at_the_limit();
        let (moved, third) = (entry(HOME, 1), entry(7, 0xfff3));
        assert!(fdb.insert(third));
        let dumped = [entry(HOME, 0xfff0), moved, entry(FLOODER, 0xfff1), FdbEntry { port: 8, ..moved }];
        let changed = fdb.set_ports(&BTreeSet::from([HOME, FLOODER]), &dumped, true);
        // All that was learned, 0xfff2 included.
        assert_eq!(changed.len(), MOST_LEARNED + 1);
        assert_eq!(fdb.of(moved.mac), [moved]);
        assert_eq!(fdb.of(third.mac), [third], "of a port that was not dumped");
        fdb.extend((2..=MOST_LEARNED).map(|number| entry(HOME, number)));
        assert!(!fdb.is_flooding(HOME), "each was counted once");
        assert!(!fdb.insert(entry(HOME, 0)) && fdb.is_flooding(HOME));
    }

    #[test]
    fn static_entries_are_no_flood() {
        let mut fdb = Fdb::default();
        fdb.extend((0..2 * MOST_LEARNED).map(|number| FdbEntry { ages: false, ..entry(HOME, number) }));
        assert!(!fdb.is_flooding(HOME) && fdb.macs().count() == 2 * MOST_LEARNED);
        fdb.extend((0..=MOST_LEARNED).map(|number| entry(FLOODER, number + 2 * MOST_LEARNED)));
        assert!(fdb.is_flooding(FLOODER));
        (0..=MOST_LEARNED).for_each(|number| {
            let _ = fdb.remove(&entry(FLOODER, number + 2 * MOST_LEARNED));
        });
        assert!(!fdb.is_flooding(FLOODER) && fdb.macs().count() == 2 * MOST_LEARNED);
    }
}
