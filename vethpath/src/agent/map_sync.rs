//! Applies the desired state to the maps.
//!
//! Deletions come first, then a grace period, then insertions. A hash map reuses a deleted or replaced element at
//! once for any other key. Without the grace period, a program that was preempted between lookup and read could use
//! another station's entry.

use std::{collections::BTreeMap, time::Duration};

use aya::{Pod, maps::MapError};
use vethpath_common::{
    Config, Entry, NOT_THERE, PortKey, PortRecord, Source, SourceKey, Station, StationKey,
};

use super::{desired::Desired, layout::Layout, netns_state::NetnsState, segments::Paths};
use crate::{
    datapath::{Maps, Table},
    kernel::{Context, Error, Result, rcu},
};

/// How long programs use the fast path after the agent's last renewal of the lease.
pub const LEASE: Duration = Duration::from_secs(3);

/// The object of errors.
const MAP: &str = "a map";

/// The maps and their contents.
pub struct MapSync {
    maps: Maps,
    current: Desired,
    config: Config,
    paths: Paths,
    /// The greatest path number that is in the map.
    written: u32,
    /// Whether everything fitted into the maps at the last update.
    fits: bool,
    /// Entries that are written and not confirmed.
    announced: Announced,
}

/// Entries that were written as [unconfirmed](vethpath_common::UNCONFIRMED).
pub struct Announced {
    /// The number of the announcement. Earlier ones have smaller numbers.
    number: u32,
    stations: Vec<StationKey>,
    sources: Vec<SourceKey>,
}

impl Announced {
    /// No entries yet.
    fn under(number: u32) -> Self {
        Self { number, stations: Vec::new(), sources: Vec::new() }
    }
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
        let mut sync = Self {
            config: maps.config(),
            written: paths.greatest(),
            paths,
            maps,
            current: Desired::default(),
            fits: true,
            announced: Announced::under(1),
        };
        sync.start_over()?;
        Ok(sync)
    }

    /// Voids and removes every station, whatever the maps hold.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn start_over(&mut self) -> Result<()> {
        self.void();
        // Ports stay known: otherwise frames before the next resync would be counted under no pair.
        let ports = self.maps.ports.iter().collect::<std::result::Result<_, _>>();
        let ports = ports.doing("read", MAP)?;
        self.current = Desired { ports, ..Desired::default() };
        self.maps.sources.clear().doing("clear", MAP)?;
        self.maps.stations.clear().doing("clear", MAP)?;
        // The next insertion must not reuse an element that a program still reads.
        rcu::grace_period();
        // Without entries, announcements are counted from the beginning.
        self.announced = Announced::under(1);
        self.config.confirmed = 0;
        self.maps.set_config(self.config);
        Ok(())
    }

    /// Voids every entry with one write.
    pub fn void(&mut self) {
        let next = self.config.generation.wrapping_add(1);
        self.config.generation = if next == NOT_THERE { next + 1 } else { next };
        self.maps.set_config(self.config);
    }

    /// Sets the lease to run until `until_ns` of the [kernel's clock](crate::kernel::clock); 0 ends it.
    pub fn lease(&mut self, until_ns: u64) {
        self.config.lease_until_ns = until_ns;
        self.maps.set_config(self.config);
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

    /// Whether any station sent fast frames in the previous epoch.
    #[must_use]
    pub fn has_seen_frames(&self) -> bool {
        let last = self.config.epoch.wrapping_sub(1);
        let is_of_last = |key| {
            self.maps.sources.get(key).is_some_and(|source| source.seen[(last & 1) as usize].epoch == last)
        };
        self.current.sources.keys().any(is_of_last)
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
        self.fits
    }

    /// What the maps hold.
    #[must_use]
    pub fn current(&self) -> &Desired {
        &self.current
    }

    /// The maps themselves.
    #[must_use]
    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    /// What the maps should hold for these namespaces.
    #[must_use]
    pub fn desired<'a>(&mut self, domains: impl Iterator<Item = (&'a Layout, &'a NetnsState)>) -> Desired {
        let mut desired = Desired::default();
        domains.for_each(|(layout, facts)| desired.add(layout, facts, &mut self.paths));
        desired
    }

    /// Applies `desired` to the maps. An entry that does not fit is left out: its station takes the slow path.
    ///
    /// # Errors
    /// The kernel refuses for another reason than a full map.
    pub fn apply(&mut self, mut desired: Desired) -> Result<()> {
        self.stamp(&mut desired);
        if desired == self.current {
            return Ok(());
        }
        let mut removed = remove(&mut self.maps.stations, &self.current.stations, &desired.stations)?;
        removed += remove(&mut self.maps.sources, &self.current.sources, &desired.sources)?;
        removed += replace_ports(&mut self.maps, &self.current.ports, &desired.ports)?;
        if removed > 0 {
            rcu::grace_period();
        }
        let mut fits = desired.unnumbered == 0;
        for (number, path) in self.paths.beyond(self.written) {
            self.maps.paths.insert(number, path, 0).doing("write", MAP)?;
        }
        self.written = self.paths.greatest();
        let Maps { ports, stations, sources, .. } = &mut self.maps;
        fits &= insert(|key, port| ports.insert(key, port, 0), &self.current.ports, &mut desired.ports)?;
        let announced = &mut self.announced;
        let announce = |key: &StationKey, station: &Station| {
            announced.stations.push(*key);
            stations.announce(key, station, announced.number)
        };
        fits &= insert(announce, &self.current.stations, &mut desired.stations)?;
        let announce = |key: &SourceKey, source: &Source| {
            announced.sources.push(*key);
            sources.announce(key, source, announced.number)
        };
        fits &= insert(announce, &self.current.sources, &mut desired.sources)?;
        self.fits = fits;
        self.current = desired;
        Ok(())
    }

    /// Whether there are entries that programs do not use yet. A station may move while its entry is being written,
    /// and no program can then mark it as away. So entries are written as unconfirmed. After a grace period, the
    /// bridge has learned from every frame that a program saw before, and sent its events. Entries that these show to
    /// be wrong are removed. When no program uses those any more, the others are confirmed.
    #[must_use]
    pub fn has_announced(&self) -> bool {
        !self.announced.stations.is_empty() || !self.announced.sources.is_empty()
    }

    /// Takes the entries announced so far, for [`Self::confirm`]. Later entries are announced under the next number.
    ///
    /// # Errors
    /// There have been four billion announcements. [`Self::start_over`] counts from the beginning.
    pub fn take_announced(&mut self) -> Result<Announced> {
        let exhausted = || {
            let cause = std::io::Error::other("the number is exhausted");
            Error::new("number", "an announcement", cause)
        };
        let next = self.announced.number.checked_add(1).ok_or_else(exhausted)?;
        Ok(std::mem::replace(&mut self.announced, Announced::under(next)))
    }

    /// Confirms announced entries, so that programs use them. Since they were written, a grace period must have
    /// passed, then all events must have been processed, and then the maps [updated](Self::apply) accordingly. The
    /// update removes wrong entries and waits until no program uses them.
    pub fn confirm(&mut self, announced: &Announced) {
        let Announced { number, stations, sources } = announced;
        self.config.confirmed = *number;
        self.maps.set_config(self.config);
        stations.iter().for_each(|key| self.maps.stations.confirm(key, *number));
        sources.iter().for_each(|key| self.maps.sources.confirm(key, *number));
    }

    /// Sets the current generation in all entries.
    fn stamp(&self, desired: &mut Desired) {
        let generation = self.config.generation;
        desired.sources.values_mut().for_each(|source| source.generation = generation);
        desired.stations.values_mut().for_each(|station| station.generation = generation);
    }
}

/// Removes entries that are gone or have changed. Returns how many.
fn remove<V: Entry<Key: Pod> + Pod + PartialEq>(
    table: &mut Table<V>,
    current: &BTreeMap<V::Key, V>,
    desired: &BTreeMap<V::Key, V>,
) -> Result<usize> {
    let mut removed = 0;
    for (key, value) in current {
        if desired.get(key) != Some(value) {
            table.remove(key).doing("write", MAP)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes ports that are gone, and replaces changed ones in place: a port that stays must be known at every moment,
/// or its frames would be counted under no pair. Returns how many.
fn replace_ports(
    maps: &mut Maps,
    current: &BTreeMap<PortKey, PortRecord>,
    desired: &BTreeMap<PortKey, PortRecord>,
) -> Result<usize> {
    let mut replaced = 0;
    for (key, record) in current {
        match desired.get(key) {
            None => maps.unregister_port(key)?,
            Some(other) if other != record => maps.ports.insert(key, other, 0).doing("write", MAP)?,
            Some(_) => continue,
        }
        replaced += 1;
    }
    Ok(replaced)
}

/// Inserts entries that are new or have changed. Entries that do not fit are removed from `desired`, so that they are
/// retried. Returns whether all fitted.
fn insert<K: Copy + Ord, V: PartialEq>(
    mut write: impl FnMut(&K, &V) -> std::result::Result<(), MapError>,
    current: &BTreeMap<K, V>,
    desired: &mut BTreeMap<K, V>,
) -> Result<bool> {
    let mut left_out = Vec::new();
    for (key, value) in desired.iter().filter(|(key, value)| current.get(key) != Some(value)) {
        if !left_out.is_empty() {
            left_out.push(*key);
            continue;
        }
        match write(key, value) {
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(nix::libc::E2BIG) => {
                left_out.push(*key);
            }
            Err(error) => return Err(error).doing("write", MAP),
            Ok(()) => {}
        }
    }
    for key in &left_out {
        desired.remove(key);
    }
    Ok(left_out.is_empty())
}
