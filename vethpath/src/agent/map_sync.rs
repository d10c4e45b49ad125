//! Applies the desired state to the maps.
//!
//! Entries that are gone or have changed are removed at once. Programs may use them until a grace period is over, and
//! their places are not written before ([`Table`]). New entries are announced, and confirmed later: see
//! [`Announcements`].
//!
//! Nothing here waits. Whoever calls [`MapSync::begin_grace_period`] waits for one, and calls
//! [`MapSync::end_grace_period`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aya::Pod;
use vethpath_common::{Config, Entry, NOT_THERE, PortKey, PortRecord, Source, SourceKey};

use super::{
    announcements::Announcements,
    desired::{Address, Desired, Entries},
    paths::Paths,
};
use crate::{
    datapath::{Added, Maps, Table},
    kernel::{Context, Error, Result, rcu},
};

/// How long programs use the fast path after the agent's last renewal of the lease.
pub const LEASE: Duration = Duration::from_secs(3);

/// The object of errors.
const MAP: &str = "a map";

/// After so many grace periods in which something else was removed each time, an update waits for one.
const MOST_ROUNDS: u32 = 4;

/// This bit of the generation is set while the fast path is suspended. No entry has it.
const SUSPENDED: u32 = 1 << 31;

/// The maps and their contents.
pub struct MapSync {
    maps: Maps,
    /// The records of ports that they hold.
    ports: BTreeMap<PortKey, PortRecord>,
    /// The entries that they hold.
    stations: BTreeMap<Address, Entries>,
    config: Config,
    is_suspended: bool,
    /// The numbers of paths across trunks.
    pub paths: Paths,
    /// The greatest path number that is in the map.
    written: u32,
    /// Addresses with entries whose place is not free yet.
    waiting: BTreeSet<Address>,
    /// Addresses with entries for which there is no room.
    left_out: BTreeSet<Address>,
    /// The number of entries of addresses other than those of inner ends, and its limit.
    foreign: usize,
    foreign_room: usize,
    /// Ports that are not written yet, since one was removed that programs may still use.
    ports_wait: bool,
    /// Whether a port was removed since the last grace period began, and before that.
    port_removed: (bool, bool),
    /// How many grace periods have ended while something was waiting for its place.
    rounds_waited: u32,
    announcements: Announcements,
}

impl MapSync {
    /// Takes the maps over. Voids and removes every station in them.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn take_over(maps: Maps) -> Result<Self> {
        let room = maps.room_for_paths()?;
        let known: Vec<_> = maps.paths.iter().collect::<std::result::Result<_, _>>().doing("read", MAP)?;
        let paths = Paths::known(known, room);
        let stations = maps.stations.room().and_then(|stations| Ok(stations.min(maps.sources.room()?)));
        let mut config = maps.config();
        config.generation &= !SUSPENDED;
        let mut sync = Self {
            config,
            is_suspended: false,
            written: paths.greatest(),
            paths,
            foreign: 0,
            foreign_room: stations.doing("look up", MAP)? as usize / 2,
            maps,
            ports: BTreeMap::new(),
            stations: BTreeMap::new(),
            waiting: BTreeSet::new(),
            left_out: BTreeSet::new(),
            ports_wait: false,
            port_removed: (false, false),
            rounds_waited: 0,
            announcements: Announcements::default(),
        };
        sync.start_over()?;
        Ok(sync)
    }

    /// Voids and removes every station, whatever the maps hold. Waits for a grace period.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn start_over(&mut self) -> Result<()> {
        self.void();
        // Ports stay known: otherwise frames before the next resync would be counted under no pair.
        let ports = self.maps.ports.iter().collect::<std::result::Result<_, _>>();
        self.ports = ports.doing("read", MAP)?;
        self.maps.sources.clear().doing("clear", MAP)?;
        self.maps.stations.clear().doing("clear", MAP)?;
        (self.stations, self.foreign) = (BTreeMap::new(), 0);
        (self.waiting, self.left_out) = (BTreeSet::new(), BTreeSet::new());
        self.free_places();
        // Without entries, announcements are counted from the beginning.
        self.announcements = Announcements::default();
        self.config.confirmed = 0;
        self.write_config();
        Ok(())
    }

    /// Voids every entry with one write, for good.
    pub fn void(&mut self) {
        let next = self.config.generation.wrapping_add(1) & !SUSPENDED;
        self.config.generation = if next == NOT_THERE { next + 1 } else { next };
        self.is_suspended = false;
        self.write_config();
    }

    /// Makes every frame take the slow path until [`Self::resume`], with one write. Entries stay.
    pub fn suspend(&mut self) {
        if !std::mem::replace(&mut self.is_suspended, true) {
            self.write_config();
        }
    }

    /// Ends [`Self::suspend`].
    pub fn resume(&mut self) {
        if std::mem::take(&mut self.is_suspended) {
            self.write_config();
        }
    }

    fn write_config(&mut self) {
        let suspended = if self.is_suspended { SUSPENDED } else { 0 };
        self.maps.set_config(Config { generation: self.config.generation | suspended, ..self.config });
    }

    /// Sets the lease to run until `until_ns` of the [kernel's clock](crate::kernel::clock); 0 ends it.
    pub fn lease(&mut self, until_ns: u64) {
        self.config.lease_until_ns = until_ns;
        self.write_config();
    }

    /// Starts another epoch with the next renewal of the lease. Must not be called more often than [`Self::seen`] is
    /// read: an epoch that is skipped is lost.
    pub fn next_epoch(&mut self) {
        self.config.epoch = self.config.epoch.wrapping_add(1);
    }

    /// The bridges that a station's fast frames passed by in the previous epoch, one bit each; 0 if it sent none, or
    /// is no station.
    #[must_use]
    pub fn seen(&self, key: &SourceKey) -> u64 {
        let last = self.config.epoch.wrapping_sub(1);
        let source = self.maps.sources.get(key);
        let seen = source.map(|source| source.seen[(last & 1) as usize]).unwrap_or_default();
        if seen.epoch == last { seen.bridges } else { 0 }
    }

    /// The pairs whose stations sent fast frames in the previous epoch.
    #[must_use]
    pub fn senders(&self) -> BTreeSet<u32> {
        let last = self.config.epoch.wrapping_sub(1);
        let is_of_last = |(key, _): &&(SourceKey, Source)| {
            self.maps.sources.get(key).is_some_and(|source| source.seen[(last & 1) as usize].epoch == last)
        };
        let sources = self.stations.values().flat_map(|entries| &entries.sources);
        sources.filter(is_of_last).map(|(_, source)| source.pair).collect()
    }

    /// Whether the lease has expired at `now_ns` of the [kernel's clock](crate::kernel::clock).
    #[must_use]
    pub fn lease_has_run_out(&self, now_ns: u64) -> bool {
        self.config.lease_until_ns <= now_ns
    }

    /// The current generation. Entries of any other are void.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.config.generation
    }

    /// The lease deadline, by the [kernel's clock](crate::kernel::clock).
    #[must_use]
    pub fn lease_until(&self) -> Duration {
        Duration::from_nanos(self.config.lease_until_ns)
    }

    /// Whether the maps have room for everything.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.left_out.is_empty()
    }

    /// The records of ports in the maps.
    #[must_use]
    pub fn ports(&self) -> &BTreeMap<PortKey, PortRecord> {
        &self.ports
    }

    /// Whether an address has an entry as a sender on a port.
    #[must_use]
    pub fn has_source(&self, address: Address, key: &SourceKey) -> bool {
        let entries = self.stations.get(&address);
        entries.is_some_and(|entries| entries.sources.iter().any(|(known, _)| known == key))
    }

    /// Number of stations, for frames that enter by each bridge.
    #[must_use]
    pub fn station_count(&self) -> usize {
        self.stations.values().map(|entries| entries.stations.len()).sum()
    }

    /// The maps themselves.
    #[must_use]
    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    /// Applies `desired` to the maps: removes first, then announces. What cannot be written now is left out, and its
    /// stations take the slow path: see [`Self::waiting`] and [`Self::left_out`].
    ///
    /// # Errors
    /// The kernel refuses for another reason than a full map.
    pub fn apply(&mut self, desired: Desired) -> Result<()> {
        let Desired { is_whole, mut ports, mut stations } = desired;
        if is_whole {
            let known = self.stations.keys().chain(&self.waiting).chain(&self.left_out);
            for address in known {
                let _ = stations.entry(*address).or_default();
            }
            for key in self.ports.keys() {
                let _ = ports.entry(*key).or_default();
            }
            self.ports_wait = false;
        }
        for (address, wanted) in &mut stations {
            self.stamp(wanted);
            let Some(now) = self.stations.get_mut(address) else { continue };
            let removed = remove(&mut self.maps.stations, &mut now.stations, &wanted.stations)?
                + remove(&mut self.maps.sources, &mut now.sources, &wanted.sources)?;
            if !now.is_own {
                self.foreign -= removed;
            }
        }
        self.apply_ports(&ports)?;
        for (number, path) in self.paths.beyond(self.written) {
            self.maps.paths.insert(number, path, 0).doing("write", MAP)?;
        }
        self.written = self.paths.greatest();
        if self.rounds_waited > MOST_ROUNDS {
            self.free_places();
        }
        // Others must leave room for the hosts' own addresses.
        let (own, others): (Vec<_>, Vec<_>) = stations.iter().partition(|(_, wanted)| wanted.is_own);
        own.into_iter().chain(others).try_for_each(|(address, wanted)| self.announce(*address, wanted))
    }

    /// Waits for a grace period, after which the places of all removed entries are free.
    fn free_places(&mut self) {
        rcu::grace_period();
        self.maps.stations.free_places();
        self.maps.sources.free_places();
        (self.port_removed, self.rounds_waited) = ((false, false), 0);
    }

    /// Removes ports that are gone, replaces changed ones in place, and adds others. A port that stays must be known at
    /// every moment, or its frames would be counted under no pair.
    fn apply_ports(&mut self, wanted: &BTreeMap<PortKey, Option<PortRecord>>) -> Result<()> {
        for key in wanted.iter().filter(|(_, record)| record.is_none()).map(|(key, _)| key) {
            if self.ports.contains_key(key) {
                self.maps.unregister_port(key)?;
                self.ports.remove(key);
                self.port_removed.0 = true;
            }
        }
        let may_add = self.port_removed == (false, false);
        for (key, record) in wanted.iter().filter_map(|(key, record)| Some((key, record.as_ref()?))) {
            let known = self.ports.get(key);
            if known.is_none() && !may_add {
                self.ports_wait = true;
            } else if known != Some(record) {
                self.maps.ports.insert(key, record, 0).doing("write", MAP)?;
                self.ports.insert(*key, *record);
            }
        }
        Ok(())
    }

    /// Adds the entries of an address that the maps lack.
    fn announce(&mut self, address: Address, wanted: &Entries) -> Result<()> {
        let now = self.stations.entry(address).or_default();
        let before = now.len();
        if !now.is_own {
            self.foreign -= before;
        }
        now.is_own = wanted.is_own;
        let is_beyond = !wanted.is_own && self.foreign + wanted.len() > self.foreign_room;
        let (mut is_later, mut is_full) = (false, wanted.is_unnumbered);
        if is_beyond {
            is_full |= wanted.len() > before;
        } else {
            let Maps { stations, sources, .. } = &mut self.maps;
            let (number, new) = (self.announcements.number(), &mut self.announcements);
            let added = [
                announce(stations, &mut now.stations, &wanted.stations, number, &mut new.stations)?,
                announce(sources, &mut now.sources, &wanted.sources, number, &mut new.sources)?,
            ];
            is_later |= added.contains(&Added::Later);
            is_full |= added.contains(&Added::Full);
        }
        let after = now.len();
        if !now.is_own {
            self.foreign += after;
        }
        if after == 0 {
            self.stations.remove(&address);
        }
        for (set, is_in) in [(&mut self.waiting, is_later), (&mut self.left_out, is_full)] {
            let _ = if is_in { set.insert(address) } else { set.remove(&address) };
        }
        Ok(())
    }

    /// Addresses with entries whose places are free after a grace period.
    #[must_use]
    pub fn waiting(&self) -> &BTreeSet<Address> {
        &self.waiting
    }

    /// Addresses with entries for which there is no room.
    #[must_use]
    pub fn left_out(&self) -> &BTreeSet<Address> {
        &self.left_out
    }

    /// Whether ports can be written only after a grace period.
    #[must_use]
    pub fn ports_wait(&self) -> bool {
        self.ports_wait
    }

    /// Whether a grace period is needed before programs use everything, or before places of removed entries are free.
    #[must_use]
    pub fn needs_grace_period(&self) -> bool {
        let Maps { stations, sources, .. } = &self.maps;
        self.announcements.need_grace_period()
            || self.port_removed.0
            || stations.has_removed()
            || sources.has_removed()
    }

    /// Called when a grace period begins. None may be running.
    ///
    /// # Errors
    /// There have been four billion announcements. [`Self::start_over`] counts from the beginning.
    pub fn begin_grace_period(&mut self) -> Result<()> {
        self.maps.stations.begin_grace_period();
        self.maps.sources.begin_grace_period();
        self.port_removed = (false, self.port_removed.0);
        self.announcements.begin_grace_period().ok_or_else(|| {
            let cause = std::io::Error::other("the number is exhausted");
            Error::new("number", "an announcement", cause)
        })
    }

    /// Called when the grace period is over.
    pub fn end_grace_period(&mut self) {
        self.maps.stations.end_grace_period();
        self.maps.sources.end_grace_period();
        self.port_removed.1 = false;
        let is_waiting = self.ports_wait || !self.waiting.is_empty();
        self.rounds_waited = if is_waiting { self.rounds_waited + 1 } else { 0 };
        let number = self.announcements.end_grace_period();
        self.confirm_up_to(number);
    }

    /// Confirms the entries that were announced before the last grace period, so that programs use them. All events of
    /// that time must have been [applied](Self::apply). If this removed entries, another grace period is needed first.
    pub fn confirm(&mut self) {
        let has_removed = self.maps.stations.has_removed() || self.maps.sources.has_removed();
        let number = self.announcements.check(has_removed);
        self.confirm_up_to(number);
    }

    fn confirm_up_to(&mut self, number: Option<u32>) {
        let Some(number) = number else { return };
        let (stations, sources) = self.announcements.take_up_to(number);
        self.config.confirmed = number;
        self.write_config();
        stations.iter().for_each(|key| self.maps.stations.confirm(key, number));
        sources.iter().for_each(|key| self.maps.sources.confirm(key, number));
    }

    /// The number under which everything that is known will have been announced.
    #[must_use]
    pub fn last_announcement(&self) -> u32 {
        self.announcements.number() + u32::from(self.ports_wait || !self.waiting.is_empty())
    }

    /// The number up to which everything that was announced is confirmed.
    #[must_use]
    pub fn confirmed(&self) -> u32 {
        self.announcements.confirmed()
    }

    /// Sets the current generation in all entries.
    fn stamp(&self, entries: &mut Entries) {
        let generation = self.config.generation;
        entries.sources.iter_mut().for_each(|(_, source)| source.generation = generation);
        entries.stations.iter_mut().for_each(|(_, station)| station.generation = generation);
    }
}

/// Announces the entries that are `wanted` and not there. Ends at the first that cannot be added, and returns why.
fn announce<V: Entry<Key: Copy + PartialEq + Pod> + Pod + PartialEq>(
    table: &mut Table<V>,
    now: &mut Vec<(V::Key, V)>,
    wanted: &[(V::Key, V)],
    number: u32,
    announced: &mut Vec<(u32, V::Key)>,
) -> Result<Added> {
    for entry in wanted {
        if now.contains(entry) {
            continue;
        }
        match table.announce(&entry.0, &entry.1, number).doing("write", MAP)? {
            Added::Yes => {
                now.push(*entry);
                announced.push((number, entry.0));
            }
            other => return Ok(other),
        }
    }
    Ok(Added::Yes)
}

/// Removes the entries that are not `wanted`. Returns how many.
fn remove<V: Entry<Key: Copy + PartialEq + Pod> + Pod + PartialEq>(
    table: &mut Table<V>,
    now: &mut Vec<(V::Key, V)>,
    wanted: &[(V::Key, V)],
) -> Result<usize> {
    let mut removed = 0;
    for (key, _) in now.extract_if(.., |entry| !wanted.contains(entry)) {
        table.remove(&key).doing("write", MAP)?;
        removed += 1;
    }
    Ok(removed)
}
