//! The accelerated lab's pinned maps, from outside.

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

/// What the programs count.
pub(crate) struct Counters {
    cells: PerCpuArray<MapData, Count>,
    /// Those of the lab's pairs.
    used: Vec<u32>,
    /// The lab's ports, and where they are.
    ports: Vec<IfName>,
    here: Netns,
}

impl Counters {
    /// Of a lab of so many pairs, whose numbers begin with 1. A small lab's pairs have cells, all of them.
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

    /// Frames that were redirected to ports by XDP so far, as the driver counts them: the cells are of both programs.
    pub(crate) fn by_xdp(&self) -> u64 {
        let ports: Vec<_> = self.ports.iter().collect();
        let counted = driver::counters(&self.here, &ports).expect("they can be read");
        counted.iter().flatten().filter(|(name, _)| name.ends_with("_xdp_xmit")).map(|(_, count)| count).sum()
    }

    /// Frames that took the fast path so far.
    pub(crate) fn fast(&self) -> u64 {
        let frames = |cell| {
            let cpus = self.cells.get(cell, 0).expect("it is there");
            cpus.iter().map(|one| one.frames).sum::<u64>()
        };
        self.used.iter().map(frames).sum()
    }
}

/// All that the programs go by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    /// Entries of another generation are void.
    pub(crate) generation: u32,
    /// Whether the programs go by any of this.
    pub(crate) lease_holds: bool,
    pub(crate) ports: BTreeMap<PortKey, PortRecord>,
    pub(crate) sources: BTreeMap<SourceKey, Source>,
    pub(crate) stations: BTreeMap<StationKey, Station>,
}

impl Books {
    pub(crate) fn of(world: &World) -> Self {
        let config = Array::try_from(Map::Array(pinned(&world.pin(names::CONFIG)))).expect("an array");
        let config: Config = config.get(&0, 0).expect("it has one element");
        let mut books = Self {
            generation: config.generation,
            lease_holds: config.lease_until_ns > now_ns(),
            ports: read(&hash(world, names::PORTS)),
            sources: sources(world).iter().collect(),
            stations: stations(world).iter().collect(),
        };
        // The programs write it all the time; this is "never".
        books.sources.values_mut().for_each(|source| {
            (source.seen, source.away_until_ns) = Default::default();
        });
        // Nor does what is made of this wait for anybody to confirm it.
        books.stations.values_mut().for_each(|station| station.away_until_ns = 0);
        books
    }

    /// Writes what is other than in `before`, which is what the maps hold.
    pub(crate) fn replace(&self, before: &Self, world: &World) {
        write(&mut sources(world), &before.sources, &self.sources);
        write(&mut stations(world), &before.stations, &self.stations);
    }

    /// Writes what was in `before`, where `spoiled` has something else and it is still there: the
    /// agent may have written something new meanwhile.
    pub(crate) fn put_back(before: &Self, spoiled: &Self, world: &World) {
        let now = Self::of(world);
        let sources = back(&before.sources, &spoiled.sources, &now.sources);
        let stations = back(&before.stations, &spoiled.stations, &now.stations);
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
    // An entry that goes away meanwhile may end the list: the agent rests while this is read.
    map.iter().filter_map(Result::ok).collect()
}

fn write<V: Entry<Key: Pod> + Pod + PartialEq>(
    table: &mut Table<V>,
    before: &BTreeMap<V::Key, V>,
    after: &BTreeMap<V::Key, V>,
) {
    let old = before.iter().filter(|(key, value)| after.get(key) != Some(value));
    // The agent may have removed it just now.
    old.for_each(|(key, _)| table.remove(key).expect("it may be removed"));
    // No grace period: no frame is under way, so no program runs.
    for (key, value) in after.iter().filter(|(key, value)| before.get(key) != Some(value)) {
        table.insert(key, value).expect("there is room");
    }
}

fn back<K: Pod + Ord, V: Pod + PartialEq>(
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
