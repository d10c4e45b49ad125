//! The accelerated lab's pinned maps, from outside.

use std::path::Path;

use aya::maps::{Map, MapData, PerCpuArray};
use vethpath_common::PairCounters;

/// What the programs count.
pub(crate) struct Counters {
    map: PerCpuArray<MapData, PairCounters>,
    pairs: u32,
}

impl Counters {
    pub(crate) fn open(pin: &Path, pairs: usize) -> Self {
        let map = Map::PerCpuArray(MapData::from_pin(pin).expect("it is pinned"));
        let map = PerCpuArray::try_from(map).expect("it is per CPU");
        Self { map, pairs: u32::try_from(pairs).expect("few") }
    }

    /// Frames that took the fast path so far.
    pub(crate) fn fast(&self) -> u64 {
        let of = |pair| self.map.get(&pair, 0).expect("it has this pair");
        (1..=self.pairs).map(|pair| of(pair).iter().map(|one| one.fast_tx.frames).sum::<u64>()).sum()
    }
}
