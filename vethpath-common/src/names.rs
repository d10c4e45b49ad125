//! Names that both sides use for maps, programs and load-time constants.

/// Array of one [`Config`](crate::Config): ABI version, generation, lease.
/// Minimum kernel: Linux 5.5 (`BPF_F_MMAPABLE`).
pub const CONFIG: &str = "CONFIG";
/// Hash from [`PortKey`](crate::PortKey) to [`PortRecord`](crate::PortRecord).
pub const PORTS: &str = "PORTS";
/// Hash from [`SourceKey`](crate::SourceKey) to [`Source`](crate::Source), for keys without a slot.
pub const SOURCES: &str = "SOURCES";
/// Array of [`Slot`](crate::Slot)s of [`Source`](crate::Source)s.
/// Minimum kernel: Linux 5.5 (`BPF_F_MMAPABLE`).
pub const SOURCE_SLOTS: &str = "SOURCE_SLOTS";
/// Hash from [`StationKey`](crate::StationKey) to [`Station`](crate::Station), for keys without a slot.
pub const STATIONS: &str = "STATIONS";
/// Array of [`Slot`](crate::Slot)s of [`Station`](crate::Station)s.
/// Minimum kernel: Linux 5.5 (`BPF_F_MMAPABLE`).
pub const STATION_SLOTS: &str = "STATION_SLOTS";
/// Per-CPU array of [`PairCounters`](crate::PairCounters), indexed by pair.
pub const COUNTERS: &str = "COUNTERS";
/// Per-CPU hash from [`MatrixKey`](crate::MatrixKey) to [`Count`](crate::Count): the frames that the fast path
/// forwarded from one pair to another, for pairs without a cell in [`CELLS`].
pub const MATRIX: &str = "MATRIX";
/// Per-CPU array of [`Count`](crate::Count), indexed by [`MatrixKey::cell`](crate::MatrixKey::cell).
pub const CELLS: &str = "CELLS";
/// Hash from the number of a path to the [`Path`](crate::Path).
pub const PATHS: &str = "PATHS";
/// Per-CPU array of [`Count`](crate::Count), indexed by path: the frames that the fast path forwarded along it.
pub const CROSSINGS: &str = "CROSSINGS";

/// All maps that are pinned, shared between the programs of a lab and read by its agent.
pub const PINNED_MAPS: [&str; 11] = [
    CONFIG,
    PORTS,
    SOURCES,
    SOURCE_SLOTS,
    STATIONS,
    STATION_SLOTS,
    COUNTERS,
    MATRIX,
    CELLS,
    PATHS,
    CROSSINGS,
];

/// Hash from ifindex to the ports that can receive redirected XDP frames. Each copy of the programs has its own map:
/// ifindexes are unique in one namespace only.
/// Minimum kernel: Linux 5.4 (`BPF_MAP_TYPE_DEVMAP_HASH`).
pub const XDP_PORTS: &str = "XDP_PORTS";

/// The tc program at the ingress of every port.
/// Minimum kernel: Linux 5.11 (`bpf_ktime_get_coarse_ns`).
pub const PORT_INGRESS: &str = "port_ingress";

/// The XDP program of ports whose datapath is XDP. It runs before [`PORT_INGRESS`].
/// Minimum kernel: Linux 5.18 (XDP frags).
pub const PORT_XDP: &str = "port_xdp";

/// Load-time constant: the number of the bridge namespace that a program serves (ifindexes are unique in one namespace
/// only).
pub const DOMAIN: &str = "DOMAIN";

/// Load-time constant: [`SOURCE_SLOTS`] and [`STATION_SLOTS`] each have two to this power of slots.
pub const SLOT_BITS: &str = "SLOT_BITS";

/// Load-time constant: not 0 if `bpf_redirect_peer` scrubs the packet as a veth crossing does (`skb_scrub_packet`), so
/// that the program need not set the packet type.
pub const SCRUBS: &str = "SCRUBS";

/// Load-time constant: [`CELLS`] counts the traffic between pairs below this number.
pub const WIDTH: &str = "WIDTH";
