//! Typed handles to a lab's pinned maps, and the tables of stations: an array of slots, and a hash map for keys without
//! a slot.

use std::{
    borrow::BorrowMut,
    collections::{BTreeSet, HashSet},
    io,
    ops::RangeInclusive,
    os::fd::AsFd as _,
};

use aya::{
    Pod,
    maps::{Array, HashMap, IterableMap, Map, MapData, MapError},
};
use vethpath_common::{
    ABI_VERSION, Config, Entry, Path, PortKey, PortRecord, Source, Station, UNCONFIRMED, names,
};

use super::{Pins, Slots, bpf, mapped::MappedArray};
use crate::kernel::{Context, Error, Result};

/// The hint for maps of another version, and for those of another shape, which are of another version too.
const OTHER_VERSION: &str = "take the lab down with `vethpath down`, then bring it up again";

/// The maps that user space writes.
pub struct Maps {
    config: Array<MapData, Config>,
    /// The only element of `config`, mapped into memory.
    mapped_config: MappedArray<Config>,
    /// Ports, for the counters.
    pub ports: HashMap<MapData, PortKey, PortRecord>,
    /// Stations as senders.
    pub sources: Table<Source>,
    /// Stations as receivers.
    pub stations: Table<Station>,
    /// Paths across trunks.
    pub paths: HashMap<MapData, u32, Path>,
}

impl Maps {
    /// Opens the pinned maps.
    /// Minimum kernel: Linux 5.5 (`BPF_F_MMAPABLE`).
    ///
    /// # Errors
    /// A map is missing or has another shape, or the maps are of another version.
    pub fn open(pins: &Pins) -> Result<Self> {
        // Maps of another version may have any shape.
        let (config, abi) = config(pins)?;
        if abi != 0 && abi != ABI_VERSION {
            let text = format!(
                "another version of vethpath has brought the lab up: its maps are of ABI version {abi}, not {ABI_VERSION}"
            );
            return Err(Error::plain(io::Error::other(text)).with_hint(OTHER_VERSION));
        }
        Ok(Self {
            mapped_config: opened(MappedArray::map(config.map().fd(), 1), names::CONFIG)?,
            config,
            ports: hash(pins, names::PORTS)?,
            sources: Table::open(pins, names::SOURCE_SLOTS, names::SOURCES)?,
            stations: Table::open(pins, names::STATION_SLOTS, names::STATIONS)?,
            paths: hash(pins, names::PATHS)?,
        })
    }

    /// Whether the pins still refer to these maps. A user may have removed the pins and created others.
    ///
    /// # Errors
    /// The kernel refuses to open the pin, with EMFILE for example.
    pub fn are_current(&self, pins: &Pins) -> Result<bool> {
        let path = pins.map(names::CONFIG);
        if !path.try_exists().is_ok_and(|exists| exists) {
            return Ok(false);
        }
        let id = |data: &MapData| opened(data.info().map(|info| info.id()), names::CONFIG);
        Ok(id(&opened(MapData::from_pin(path), names::CONFIG)?)? == id(self.config.map())?)
    }

    /// Registers a port, not armed, so that its frames are counted under its pair from the first one on. A port that is
    /// already registered with this pair and bridge is left unchanged.
    ///
    /// # Errors
    /// The kernel refuses the write.
    pub fn register_port(&mut self, key: PortKey, pair: u32, bridge: u32) -> Result<()> {
        match self.ports.get(&key, 0) {
            Ok(record) if (record.pair, record.bridge) == (pair, bridge) => Ok(()),
            _ => {
                let record = PortRecord { pair, flags: 0, bridge };
                self.ports.insert(key, record, 0).doing("write map", names::PORTS)
            }
        }
    }

    /// Unregisters a port. A port that is not registered is not an error.
    ///
    /// # Errors
    /// The kernel refuses the write.
    pub fn unregister_port(&mut self, key: &PortKey) -> Result<()> {
        bpf::delete_element(self.ports.map().fd().as_fd(), key).doing("write map", names::PORTS)
    }

    /// The registered ports whose pairs are among these, with their pairs.
    ///
    /// # Errors
    /// The kernel refuses a read.
    pub fn numbered_ports(&self, pairs: &RangeInclusive<u32>) -> Result<Vec<(PortKey, u32)>> {
        let ports: std::result::Result<Vec<_>, _> = self.ports.iter().collect();
        let ports = ports.doing("read map", names::PORTS)?.into_iter();
        Ok(ports.map(|(key, record)| (key, record.pair)).filter(|(_, pair)| pairs.contains(pair)).collect())
    }

    /// Registers the ports of other maps whose pairs are among these, with what is known of them.
    ///
    /// # Errors
    /// The kernel refuses a read or the write.
    pub fn copy_ports(&mut self, from: &Self, pairs: &RangeInclusive<u32>) -> Result<()> {
        for port in from.ports.iter() {
            let (key, record) = port.doing("read map", names::PORTS)?;
            if pairs.contains(&record.pair) {
                self.ports.insert(key, record, 0).doing("write map", names::PORTS)?;
            }
        }
        Ok(())
    }

    /// Unregisters all ports except these, and those whose pairs are among `pairs`.
    ///
    /// # Errors
    /// The kernel refuses a read or a write.
    pub fn keep_ports(
        &mut self,
        kept: &BTreeSet<PortKey>,
        pairs: Option<&RangeInclusive<u32>>,
    ) -> Result<()> {
        let known: std::result::Result<Vec<_>, _> = self.ports.iter().collect();
        let known = known.doing("read map", names::PORTS)?;
        let is_kept = |(key, record): &(PortKey, PortRecord)| {
            kept.contains(key) || pairs.is_some_and(|pairs| pairs.contains(&record.pair))
        };
        known.iter().filter(|port| !is_kept(port)).try_for_each(|(key, _)| self.unregister_port(key))
    }

    /// Capacity for paths across trunks, including number 0.
    ///
    /// # Errors
    /// The kernel refuses the request.
    pub fn room_for_paths(&self) -> Result<u32> {
        Ok(self.paths.map().info().doing("look up map", names::PATHS)?.max_entries())
    }

    /// The current configuration, such as generation and lease, as programs see it.
    #[must_use]
    pub fn config(&self) -> Config {
        self.mapped_config.load()
    }

    /// Sets the configuration, each field in one store. A program may see one field change before another.
    pub fn set_config(&mut self, config: Config) {
        self.mapped_config.store(config);
    }
}

/// Opens a pinned map.
pub(super) fn data(path: &std::path::Path) -> Result<MapData> {
    MapData::from_pin(path).doing("open", path.display())
}

/// Opens a pinned hash map.
pub(super) fn hash<K: Pod, V: Pod>(pins: &Pins, name: &str) -> Result<HashMap<MapData, K, V>> {
    opened(HashMap::try_from(Map::HashMap(data(&pins.map(name))?)), name)
}

/// Adds to the error of opening a map what it means.
pub(super) fn opened<T>(map: impl Context<T>, name: &str) -> Result<T> {
    map.doing("open map", name).map_err(|error| error.with_hint(OTHER_VERSION))
}

/// The ABI version of pinned maps: 0 if they are new.
pub(super) fn version(pins: &Pins) -> Result<u32> {
    Ok(config(pins)?.1)
}

fn config(pins: &Pins) -> Result<(Array<MapData, Config>, u32)> {
    let config: Array<_, Config> =
        opened(Array::try_from(Map::Array(data(&pins.map(names::CONFIG))?)), names::CONFIG)?;
    let Config { abi, .. } = config.get(&0, 0).doing("read map", names::CONFIG)?;
    Ok((config, abi))
}

/// A table of stations, as senders or as receivers: a map from the keys of `V` to `V`.
///
/// Programs may use a removed entry until a grace period is over. Its place is free for another entry from then on: a
/// hash map reuses a deleted element at once, also for another key, and a program that was preempted between its lookup
/// and its read would use that entry.
pub struct Table<V: Entry<Key: Pod> + Pod, M = MapData> {
    slots: Slots<V>,
    overflow: HashMap<M, V::Key, V>,
    /// Places of entries that were removed since the last grace period began.
    removed: Places,
    /// Places of entries that were removed before that. They are free when it ends.
    leaving: Places,
}

/// Places of entries.
#[derive(Default)]
struct Places {
    /// Slots, by index.
    slots: HashSet<usize>,
    /// Whether elements of the hash map are among them. The kernel chooses which of these is next.
    overflow: bool,
}

/// Whether an entry was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It was.
    Yes,
    /// Its place is free after the next grace period.
    Later,
    /// The hash map is full.
    Full,
}

impl<V: Entry<Key: Pod> + Pod> Table<V> {
    /// Opens the pinned maps of these names.
    /// Minimum kernel: Linux 5.5 (`BPF_F_MMAPABLE`).
    ///
    /// # Errors
    /// A map is missing or has another shape.
    pub fn open(pins: &Pins, slots: &str, others: &str) -> Result<Self> {
        let others = hash(pins, others)?;
        Self::of(&data(&pins.map(slots))?, others).doing("map", slots)
    }
}

impl<V: Entry<Key: Pod> + Pod, M: BorrowMut<MapData>> Table<V, M> {
    /// A table of an array of slots, and a hash map for keys without a slot.
    /// Minimum kernel: Linux 5.5 (`BPF_F_MMAPABLE`).
    ///
    /// # Errors
    /// The array cannot be mapped.
    pub fn of(slots: &MapData, others: HashMap<M, V::Key, V>) -> io::Result<Self> {
        let count = slots.info().map_err(io::Error::other)?.max_entries();
        let bits = count.checked_ilog2().filter(|&bits| bits > 0).ok_or(io::ErrorKind::InvalidInput)?;
        let slots = Slots::map(slots.fd().as_fd(), bits)?;
        Ok(Self { slots, overflow: others, removed: Places::default(), leaving: Places::default() })
    }

    /// How many entries the hash map can hold.
    ///
    /// # Errors
    /// The kernel refuses the request.
    pub fn room(&self) -> std::result::Result<u32, MapError> {
        Ok(self.overflow.map().info()?.max_entries())
    }

    /// The entry of a key.
    #[must_use]
    pub fn get(&self, key: &V::Key) -> Option<V> {
        self.slots.get(key).or_else(|| self.overflow.get(key, 0).ok())
    }

    /// Adds an entry for a key that has none. If it had one, a grace period must have passed since its removal.
    ///
    /// # Errors
    /// The hash map is full (`E2BIG`), or the kernel refuses.
    pub fn insert(&mut self, key: &V::Key, value: &V) -> std::result::Result<(), MapError> {
        if self.slots.put(key, value) { Ok(()) } else { self.insert_overflow(key, value) }
    }

    /// Adds an entry for a key that has none, unless its place was that of an entry that programs may still use.
    /// Programs use it only when announcements of this number are [confirmed](vethpath_common::Config::confirmed).
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn announce(&mut self, key: &V::Key, value: &V, number: u32) -> std::result::Result<Added, MapError> {
        let mut value = *value;
        *value.away_until() = UNCONFIRMED | u64::from(number);
        let slot = self.slots.index(key);
        if [&self.removed, &self.leaving].iter().any(|places| places.slots.contains(&slot)) {
            return Ok(Added::Later);
        }
        if self.slots.put(key, &value) {
            return Ok(Added::Yes);
        }
        if self.removed.overflow || self.leaving.overflow {
            return Ok(Added::Later);
        }
        match self.insert_overflow(key, &value) {
            Ok(()) => Ok(Added::Yes),
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(nix::libc::E2BIG) => {
                Ok(Added::Full)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether entries were removed since the last grace period began.
    #[must_use]
    pub fn has_removed(&self) -> bool {
        self.removed.overflow || !self.removed.slots.is_empty()
    }

    /// Called when a grace period begins, and none is running.
    pub fn begin_grace_period(&mut self) {
        self.leaving = std::mem::take(&mut self.removed);
    }

    /// Called when it is over.
    pub fn end_grace_period(&mut self) {
        self.leaving = Places::default();
    }

    /// Called when a grace period has passed since the last removal.
    pub fn free_places(&mut self) {
        (self.removed, self.leaving) = (Places::default(), Places::default());
    }

    /// Clears the mark of an entry whose announcement number is at most `confirmed`, so that programs need not check
    /// whether it is confirmed. An entry in the hash map keeps its mark, since an update by system call could overwrite
    /// a concurrent write by a program.
    pub fn confirm(&self, key: &V::Key, confirmed: u32) {
        self.slots.confirm(key, confirmed);
    }

    /// As [`Table::insert`], but always into the hash map.
    ///
    /// # Errors
    /// As [`Table::insert`].
    pub fn insert_overflow(&mut self, key: &V::Key, value: &V) -> std::result::Result<(), MapError> {
        self.slots.mark_overflow(key);
        self.overflow.insert(key, value, 0)
    }

    /// Removes the entry of a key, if it has one. Programs may use the entry until a grace period is over.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove(&mut self, key: &V::Key) -> std::result::Result<(), MapError> {
        if self.slots.remove(key) {
            self.removed.slots.insert(self.slots.index(key));
            return Ok(());
        }
        self.removed.overflow = true;
        bpf::delete_element(self.overflow.map().fd().as_fd(), key)
    }

    /// Removes all entries, as [`Table::remove`] does.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn clear(&mut self) -> std::result::Result<(), MapError> {
        self.slots.clear();
        let keys: Vec<V::Key> = self.overflow.keys().collect::<std::result::Result<_, _>>()?;
        keys.iter().try_for_each(|key| self.remove(key))?;
        self.slots.clear_overflow();
        Ok(())
    }

    /// All entries. An entry that is removed during the iteration may end it early.
    pub fn iter(&self) -> impl Iterator<Item = (V::Key, V)> {
        self.slots.iter().chain(self.overflow.iter().filter_map(std::result::Result::ok))
    }
}
