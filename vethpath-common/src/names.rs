//! Names that both sides use for maps, programs and load-time constants.

/// Array of one [`Config`](crate::Config): ABI version, generation, lease.
pub const CONFIG: &str = "CONFIG";
/// Hash from [`PortKey`](crate::PortKey) to [`PortRecord`](crate::PortRecord).
pub const PORTS: &str = "PORTS";
/// Hash from [`SourceKey`](crate::SourceKey) to [`Source`](crate::Source): those that have no slot.
pub const SOURCES: &str = "SOURCES";
/// Array of [`Slot`](crate::Slot)s of [`Source`](crate::Source)s.
pub const SOURCE_SLOTS: &str = "SOURCE_SLOTS";
/// Hash from [`StationKey`](crate::StationKey) to [`Station`](crate::Station): those that have no slot.
pub const STATIONS: &str = "STATIONS";
/// Array of [`Slot`](crate::Slot)s of [`Station`](crate::Station)s.
pub const STATION_SLOTS: &str = "STATION_SLOTS";
/// Per-CPU array of [`PairCounters`](crate::PairCounters), indexed by pair.
pub const COUNTERS: &str = "COUNTERS";
/// Per-CPU hash from [`MatrixKey`](crate::MatrixKey) to [`Count`](crate::Count): what the fast path
/// took from one pair to another, where [`CELLS`] has no cell for them.
pub const MATRIX: &str = "MATRIX";
/// Per-CPU array of [`Count`](crate::Count), indexed by [`MatrixKey::cell`](crate::MatrixKey::cell).
pub const CELLS: &str = "CELLS";
/// Hash from the number of a path to the [`Path`](crate::Path).
pub const PATHS: &str = "PATHS";
/// Per-CPU array of [`Count`](crate::Count), indexed by path: what the fast path took along it.
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

/// Hash from ifindex to the port that can take a frame by XDP (`BPF_MAP_TYPE_DEVMAP_HASH`). Each copy of
/// the programs has its own: ifindexes are unique in one namespace only.
pub const XDP_PORTS: &str = "XDP_PORTS";

/// The tc program at the ingress of every port.
pub const PORT_INGRESS: &str = "port_ingress";

/// The XDP program of ports whose datapath is XDP, which runs before that.
pub const PORT_XDP: &str = "port_xdp";

/// Load-time constant: which bridge namespace of the lab a program serves (ifindexes are unique
/// in one namespace only).
pub const DOMAIN: &str = "DOMAIN";

/// Load-time constant: [`SOURCE_SLOTS`] and [`STATION_SLOTS`] have two to this power of slots each.
pub const SLOT_BITS: &str = "SLOT_BITS";

/// Load-time constant: not 0 where `bpf_redirect_peer` makes a frame one for the host, as a veth crossing
/// does (`skb_scrub_packet`), so that the program need not.
pub const SCRUBS: &str = "SCRUBS";

/// Load-time constant: [`CELLS`] counts what pairs below this number send each other.
pub const WIDTH: &str = "WIDTH";
