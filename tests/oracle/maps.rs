//! The accelerated lab's pinned maps, accessed from outside the lab.

use std::{collections::BTreeMap, path::Path};

use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, PerCpuArray},
};
use vethpath::{
    datapath::Table,
    kernel::{Netns, driver},
    topology::IfName,
};
use vethpath_common::{
    Config, Count, Entry, MatrixKey, PortKey, PortRecord, Source, SourceKey, Station, StationKey, names,
};

use super::{names::Names, world::World};
use crate::programs::bench::now_ns;

/// The programs' counters.
pub(crate) struct Counters {
    cells: PerCpuArray<MapData, Count>,
    /// The cells of the lab's pairs.
    used: Vec<u32>,
    /// The lab's ports, and their network namespace.
    ports: Vec<IfName>,
    here: Netns,
}

impl Counters {
    /// Opens the counters of a small lab, in which any two pairs have a cell. Pairs are numbered from 1.
    pub(crate) fn of(world: &World, names: &Names) -> Self {
        let pairs = names.ends.len();
        let cells = Map::PerCpuArray(pinned(&world.pin(names::CELLS)));
        let cells = PerCpuArray::try_from(cells).expect("it is per CPU");
        let (width, pairs) = (cells.len().isqrt(), 1..=u32::try_from(pairs).expect("few"));
        let cell = |from, to| MatrixKey { from, to }.cell(width).expect("a small lab");
        let used = pairs.clone().flat_map(|from| pairs.clone().map(move |to| cell(from, to))).collect();
        let ports = names.ports.iter().map(|port| port.name.parse().expect("a name")).collect();
        Self { cells, used, ports, here: world.here().clone() }
    }

    /// Frames that XDP has redirected to ports, from the driver's counters: the cells count both programs' frames.
    pub(crate) fn by_xdp(&self) -> u64 {
        let ports: Vec<_> = self.ports.iter().collect();
        let counted = driver::counters(&self.here, &ports).expect("they can be read");
        counted.iter().flatten().filter(|(name, _)| name.ends_with("_xdp_xmit")).map(|(_, count)| count).sum()
    }

    /// Frames that have taken the fast path.
    pub(crate) fn fast(&self) -> u64 {
        let frames = |cell| {
            let cpus = self.cells.get(cell, 0).expect("it is there");
            cpus.iter().map(|count| count.frames).sum::<u64>()
        };
        self.used.iter().map(frames).sum()
    }
}

/// All entries that the programs read.
#[derive(Clone, Debug, Default)]
pub(crate) struct MapEntries {
    /// Entries of another generation are stale.
    pub(crate) generation: u32,
    /// Whether the programs use the entries at all.
    pub(crate) lease_holds: bool,
    pub(crate) ports: BTreeMap<PortKey, PortRecord>,
    pub(crate) sources: BTreeMap<SourceKey, Source>,
    pub(crate) stations: BTreeMap<StationKey, Station>,
}

impl MapEntries {
    pub(crate) fn of(world: &World) -> Self {
        let config = Array::try_from(Map::Array(pinned(&world.pin(names::CONFIG)))).expect("an array");
        let config: Config = config.get(&0, 0).expect("it has one element");
        let mut entries = Self {
            generation: config.generation,
            lease_holds: config.lease_until_ns > now_ns(),
            ports: read(&hash(world, names::PORTS)),
            sources: sources(world).iter().collect(),
            stations: stations(world).iter().collect(),
        };
        // The programs write these fields all the time. Zero is "never".
        entries.sources.values_mut().for_each(|source| {
            (source.seen, source.away_until_ns) = Default::default();
        });
        // Entries that are written from this copy need no confirmation either.
        entries.stations.values_mut().for_each(|station| station.away_until_ns = 0);
        entries
    }

    /// Writes the entries that differ from `before`, which is what the maps hold.
    pub(crate) fn replace(&self, before: &Self, world: &World) {
        write(&mut sources(world), &before.sources, &self.sources);
        write(&mut stations(world), &before.stations, &self.stations);
    }

    /// Restores the entries of `before` that `spoiled` changed, if the maps still hold the spoiled ones: the agent may
    /// have written new ones meanwhile.
    pub(crate) fn restore(before: &Self, spoiled: &Self, world: &World) {
        let now = Self::of(world);
        let sources = restored(&before.sources, &spoiled.sources, &now.sources);
        let stations = restored(&before.stations, &spoiled.stations, &now.stations);
        Self { sources, stations, ..now.clone() }.replace(&now, world);
    }
}

fn pinned(path: &Path) -> MapData {
    MapData::from_pin(path).expect("it is pinned")
}

fn hash<K: Pod, V: Pod>(world: &World, name: &str) -> HashMap<MapData, K, V> {
    HashMap::try_from(Map::HashMap(pinned(&world.pin(name)))).expect("a hash")
}

fn sources(world: &World) -> Table<Source> {
    table(world, names::SOURCE_SLOTS, names::SOURCES)
}

fn stations(world: &World) -> Table<Station> {
    table(world, names::STATION_SLOTS, names::STATIONS)
}

fn table<V: Entry<Key: Pod> + Pod>(world: &World, slots: &str, others: &str) -> Table<V> {
    Table::of(&pinned(&world.pin(slots)), hash(world, others)).expect("it can be mapped")
}

fn read<K: Pod + Ord, V: Pod>(map: &HashMap<MapData, K, V>) -> BTreeMap<K, V> {
    // An entry that is removed meanwhile may end the dump, so the agent is stopped during it.
    map.iter().filter_map(Result::ok).collect()
}

fn write<V: Entry<Key: Pod> + Pod + PartialEq>(
    table: &mut Table<V>,
    before: &BTreeMap<V::Key, V>,
    after: &BTreeMap<V::Key, V>,
) {
    let old = before.iter().filter(|(key, value)| after.get(key) != Some(value));
    // The agent may have removed it meanwhile.
    old.for_each(|(key, _)| table.remove(key).expect("it may be removed"));
    // Needs no grace period: no frame is in flight, so no program runs.
    for (key, value) in after.iter().filter(|(key, value)| before.get(key) != Some(value)) {
        table.insert(key, value).expect("there is room");
    }
}

fn restored<K: Pod + Ord, V: Pod + PartialEq>(
    before: &BTreeMap<K, V>,
    spoiled: &BTreeMap<K, V>,
    now: &BTreeMap<K, V>,
) -> BTreeMap<K, V> {
    let mut after = now.clone();
    for key in before.keys().chain(spoiled.keys()) {
        if before.get(key) != spoiled.get(key) && spoiled.get(key) == now.get(key) {
            match before.get(key) {
                Some(value) => after.insert(*key, *value),
                None => after.remove(key),
            };
        }
    }
    after
}
