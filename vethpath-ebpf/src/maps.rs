//! The maps of a lab, and the constant that user space sets when it loads a program.

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, HashMap, PerCpuArray},
};
use vethpath_common::{Config, PairCounters, PortKey, PortRecord, Source, SourceKey, Station, StationKey};

/// Sizes are set by user space before the maps are made.
const SET_AT_LOAD: u32 = 1;

/// See [`vethpath_common::names::CONFIG`].
#[map]
pub static CONFIG: Array<Config> = Array::with_max_entries(1, 0);

/// See [`vethpath_common::names::PORTS`].
#[map]
pub static PORTS: HashMap<PortKey, PortRecord> = HashMap::with_max_entries(SET_AT_LOAD, 0);

/// See [`vethpath_common::names::SOURCES`].
#[map]
pub static SOURCES: HashMap<SourceKey, Source> = HashMap::with_max_entries(SET_AT_LOAD, 0);

/// See [`vethpath_common::names::STATIONS`].
#[map]
pub static STATIONS: HashMap<StationKey, Station> = HashMap::with_max_entries(SET_AT_LOAD, 0);

/// See [`vethpath_common::names::COUNTERS`].
#[map]
pub static COUNTERS: PerCpuArray<PairCounters> = PerCpuArray::with_max_entries(SET_AT_LOAD, 0);

/// See [`vethpath_common::names::DOMAIN`].
#[unsafe(no_mangle)]
static DOMAIN: Global<u32> = Global::new(0);

/// The bridge namespace that this copy of the program serves.
#[inline(always)]
pub fn domain() -> u32 {
    DOMAIN.load()
}
