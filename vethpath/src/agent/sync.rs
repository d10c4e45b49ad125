//! Bringing the maps to what they should hold.
//!
//! Deletions come first, then a grace period, then insertions. A hash map reuses a deleted (or
//! replaced) element at once for any other key, so without the grace period a program that was
//! preempted between lookup and read could take one station's entry for another's.

use std::collections::BTreeMap;

use aya::{
    Pod,
    maps::{HashMap, MapData},
};
use log::warn;
use vethpath_common::{Config, Source, Station};

use super::desired::Desired;
use crate::{
    datapath::{Error, Maps, Result},
    kernel::membarrier,
};

/// The maps, and what is in them.
pub struct Sync {
    maps: Maps,
    current: Desired,
    config: Config,
}

impl Sync {
    /// Takes the maps over. Every station in them is void from here on, and removed.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn take_over(maps: Maps) -> Result<Self> {
        let mut sync = Self { config: maps.config()?, maps, current: Desired::default() };
        sync.void()?;
        // Ports stay known, or what they pass until the first look would be counted under no pair.
        let ports = sync.maps.ports.iter().collect::<std::result::Result<_, _>>();
        sync.current.ports = ports.map_err(|error| refused("read", &error))?;
        clear(&mut sync.maps.sources)?;
        clear(&mut sync.maps.stations)?;
        Ok(sync)
    }

    /// Makes every entry void with one write.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn void(&mut self) -> Result<()> {
        self.config.generation = self.config.generation.wrapping_add(1);
        self.maps.set_config(self.config)
    }

    /// Sets the lease to run until `until_ns` of `CLOCK_MONOTONIC`; 0 ends it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn lease(&mut self, until_ns: u64) -> Result<()> {
        self.config.lease_until_ns = until_ns;
        self.maps.set_config(self.config)
    }

    /// Entries of this generation are valid.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.config.generation
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

    /// Brings the maps to `desired`. An entry that does not fit stays out, which is the slow path.
    ///
    /// # Errors
    /// The kernel refuses for another reason than a full map.
    pub fn bring_to(&mut self, mut desired: Desired) -> Result<()> {
        let generation = self.config.generation;
        desired.sources.values_mut().for_each(|source| source.generation = generation);
        desired.stations.values_mut().for_each(|station| station.generation = generation);
        if desired == self.current {
            return Ok(());
        }
        let mut removed = remove(&mut self.maps.stations, &self.current.stations, &desired.stations)?;
        removed += remove(&mut self.maps.sources, &self.current.sources, &desired.sources)?;
        removed += remove(&mut self.maps.ports, &self.current.ports, &desired.ports)?;
        if removed > 0 {
            membarrier::grace_period()?;
        }
        insert(&mut self.maps.ports, &self.current.ports, &desired.ports)?;
        insert::<_, Station>(&mut self.maps.stations, &self.current.stations, &desired.stations)?;
        insert::<_, Source>(&mut self.maps.sources, &self.current.sources, &desired.sources)?;
        self.current = desired;
        Ok(())
    }
}

/// Removes what is no more, or is another value now. Returns how many.
fn remove<K: Pod + Ord, V: Pod + PartialEq>(
    map: &mut HashMap<MapData, K, V>,
    current: &BTreeMap<K, V>,
    desired: &BTreeMap<K, V>,
) -> Result<usize> {
    let mut removed = 0;
    for (key, value) in current {
        if desired.get(key) != Some(value) {
            forget(map, key)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Inserts what is new, or is another value now.
fn insert<K: Pod + Ord, V: Pod + PartialEq>(
    map: &mut HashMap<MapData, K, V>,
    current: &BTreeMap<K, V>,
    desired: &BTreeMap<K, V>,
) -> Result<()> {
    for (key, value) in desired {
        if current.get(key) != Some(value) {
            match map.insert(key, value, 0) {
                Err(aya::maps::MapError::SyscallError(error))
                    if error.io_error.raw_os_error() == Some(nix::libc::E2BIG) =>
                {
                    warn!("a map is full: some stations stay on the slow path");
                    return Ok(());
                }
                Err(error) => return Err(refused("write", &error)),
                Ok(()) => {}
            }
        }
    }
    Ok(())
}

fn clear<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>) -> Result<()> {
    let keys: Vec<K> = map.keys().collect::<std::result::Result<_, _>>().map_err(|e| refused("read", &e))?;
    keys.iter().try_for_each(|key| forget(map, key))
}

fn forget<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>, key: &K) -> Result<()> {
    match map.remove(key) {
        // It was full when the entry was to be inserted.
        Err(aya::maps::MapError::KeyNotFound) => Ok(()),
        Err(aya::maps::MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(nix::libc::ENOENT) =>
        {
            Ok(())
        }
        Err(error) => Err(refused("write", &error)),
        Ok(()) => Ok(()),
    }
}

fn refused(operation: &'static str, cause: &aya::maps::MapError) -> Error {
    Error::Refused { operation, object: "a map".to_owned(), cause: cause.to_string() }
}
