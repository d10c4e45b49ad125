//! The maps of a lab, and the constants that user space sets when it loads a program.

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, DevMapHash, HashMap, PerCpuArray, PerCpuHashMap},
};
use vethpath_common::{
    Config, Count, MatrixKey, PairCounters, Path, PortKey, PortRecord, Slot, Source, SourceKey, Station,
    StationKey,
};

/// Placeholder: user space sets the sizes before it creates the maps.
const SET_AT_LOAD: u32 = 1;

/// See [`vethpath_common::names::CONFIG`].
/// Minimum kernel: Linux 5.5 (`BPF_F_MMAPABLE`).
#[map]
pub static CONFIG: Array<Config> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// See [`vethpath_common::names::PORTS`].
#[map]
pub static PORTS: HashMap<PortKey, PortRecord> = HashMap::with_max_entries(SET_AT_LOAD, 0);

/// See [`vethpath_common::names::SOURCES`].
#[map]
pub static SOURCES: HashMap<SourceKey, Source> = HashMap::with_max_entries(SET_AT_LOAD, 0);

/// See [`vethpath_common::names::SOURCE_SLOTS`].
/// Minimum kernel: Linux 5.5 (`BPF_F_MMAPABLE`).
#[map]
pub static SOURCE_SLOTS: Array<Slot<Source>> = Array::with_max_entries(SET_AT_LOAD, BPF_F_MMAPABLE);

/// See [`vethpath_common::names::STATION_SLOTS`].
/// Minimum kernel: Linux 5.5 (`BPF_F_MMAPABLE`).
#[map]
pub static STATION_SLOTS: Array<Slot<Station>> = Array::with_max_entries(SET_AT_LOAD, BPF_F_MMAPABLE);

/// See [`vethpath_common::names::STATIONS`].
#[map]
pub static STATIONS: HashMap<StationKey, Station> = HashMap::with_max_entries(SET_AT_LOAD, 0);

/// See [`vethpath_common::names::COUNTERS`].
#[map]
pub static COUNTERS: PerCpuArray<PairCounters> = PerCpuArray::with_max_entries(SET_AT_LOAD, 0);

/// See [`vethpath_common::names::MATRIX`]. Programs insert elements while it has room.
#[map]
pub static MATRIX: PerCpuHashMap<MatrixKey, Count> =
    PerCpuHashMap::with_max_entries(SET_AT_LOAD, BPF_F_NO_PREALLOC);

/// See [`vethpath_common::names::CELLS`].
#[map]
pub static CELLS: PerCpuArray<Count> = PerCpuArray::with_max_entries(SET_AT_LOAD, 0);

/// See [`vethpath_common::names::PATHS`]. Used by user space only; declared here so that it is created with the others.
#[map]
pub static PATHS: HashMap<u32, Path> = HashMap::with_max_entries(SET_AT_LOAD, BPF_F_NO_PREALLOC);

/// See [`vethpath_common::names::CROSSINGS`].
#[map]
pub static CROSSINGS: PerCpuArray<Count> = PerCpuArray::with_max_entries(SET_AT_LOAD, 0);

/// See [`vethpath_common::names::XDP_PORTS`].
/// Minimum kernel: Linux 5.4 (`BPF_MAP_TYPE_DEVMAP_HASH`).
#[map]
pub static XDP_PORTS: DevMapHash = DevMapHash::with_max_entries(SET_AT_LOAD, 0);

/// See [`vethpath_common::names::DOMAIN`].
#[unsafe(no_mangle)]
static DOMAIN: Global<u32> = Global::new(0);

/// See [`vethpath_common::names::SLOT_BITS`].
#[unsafe(no_mangle)]
static SLOT_BITS: Global<u32> = Global::new(1);

/// See [`vethpath_common::names::WIDTH`].
#[unsafe(no_mangle)]
static WIDTH: Global<u32> = Global::new(0);

/// See [`vethpath_common::names::SCRUBS`].
#[unsafe(no_mangle)]
static SCRUBS: Global<u32> = Global::new(0);

/// Whether `bpf_redirect_peer` scrubs the packet (see [`vethpath_common::names::SCRUBS`]).
#[inline(always)]
pub fn kernel_scrubs() -> bool {
    SCRUBS.load() != 0
}

/// A table has two to this power of slots.
#[inline(always)]
pub fn slot_bits() -> u32 {
    SLOT_BITS.load()
}

/// Pairs below this number are counted in cells.
#[inline(always)]
pub fn width() -> u32 {
    WIDTH.load()
}

/// The bridge namespace that this copy of the program serves.
#[inline(always)]
pub fn domain() -> u32 {
    DOMAIN.load()
}
