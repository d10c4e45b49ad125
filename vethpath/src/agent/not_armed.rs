//! Why a port or trunk is not armed, as `stats` and `show` print it.

use thiserror::Error;

use super::fdb::MOST_LEARNED;
use crate::topology::GuestRange;

/// Why a port is not armed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotArmed {
    /// The topology disables the fast path.
    #[error("datapath is \"bridge\"")]
    NotWanted,
    /// More ports of other programs are there than a lab has numbers for.
    #[error("the lab has more than {} guest ports", GuestRange::MOST)]
    TooManyGuests,
    /// The port was removed.
    #[error("the port does not exist")]
    NoPort,
    /// The inner end was removed, or its namespace was.
    #[error("the inner end does not exist")]
    NoInnerEnd,
    /// The last known process of its adopted namespace has ended.
    #[error("no process is left in the namespace")]
    NoProcess,
    /// Our program was detached.
    #[error("the program is not attached")]
    NotAttached,
    /// The port, its inner end or its bridge is down.
    #[error("{0} is down")]
    Down(&'static str),
    /// The port was moved to another bridge, or off any.
    #[error("the port is not on its bridge")]
    OffBridge,
    /// The port's state, set by spanning tree or by the user.
    #[error("the port is {0}")]
    NotForwarding(String),
    /// A port flag that the fast path does not honour.
    #[error("port flag {0}")]
    PortFlag(&'static str),
    /// The kernel has an attribute that this vethpath does not know.
    #[error("unknown {of} attribute {number}")]
    Unknown {
        /// "port" or "bridge".
        of: &'static str,
        /// The netlink attribute's number.
        number: u16,
    },
    /// A bridge option that the fast path does not honour.
    #[error("bridge option {0}")]
    BridgeOption(&'static str),
    /// A capture on the bridge, or `promisc on`.
    #[error("the bridge is promiscuous")]
    Promiscuous,
    /// A qdisc that queues, such as for shaping.
    #[error("qdisc {0} on the port")]
    Qdisc(String),
    /// A tc or tcx program that is not ours.
    #[error("a foreign tc program on the port")]
    ForeignProgram,
    /// Qdiscs or filters of the port have changed, and are read within moments.
    #[error("qdiscs and filters of the port are being read")]
    Unread,
    /// A host sends from more addresses than the fast path has room for.
    #[error("more than {MOST_LEARNED} addresses were learned behind the port")]
    Flooding,
    /// A packet socket, such as tcpdump's.
    #[error("a packet socket on the port")]
    PacketSocket,
    /// A netfilter rule.
    #[error("{0}")]
    Rule(String),
    /// Something that may forbid the fast path could not be read.
    #[error("{0}")]
    Unreadable(String),
    /// Of a trunk: a redirect cannot lead from one namespace to the other.
    #[error("the trunk joins two namespaces")]
    TwoNamespaces,
    /// Of a trunk: spanning tree has not opened a loop yet, or nothing opens it.
    #[error("the trunks form a loop")]
    Loop,
    /// Of a trunk: frames get their checksum or segments there.
    #[error("offloads are switched off on the trunk")]
    Offloads,
    /// Of a trunk: frames are spread over several queues there.
    #[error("the trunk has several transmit queues")]
    Multiqueue,
    /// Of a trunk: a host may send GSO frames that are segmented there.
    #[error("gso_max_size, gso_ipv4_max_size or gso_max_segs of the trunk is below that of an inner end")]
    GsoLimits,
    /// Of a trunk: the XDP program sees the frames that cross it.
    #[error("an XDP program on the trunk")]
    Xdp,
    /// Of a port whose datapath is XDP: the XDP program is not attached, or not in the driver.
    #[error("the XDP program is not attached")]
    XdpNotAttached,
    /// Of such a port: `veth_xdp_xmit` would drop what is redirected to it.
    #[error("the port takes no XDP frames: generic-receive-offload of the inner end is off")]
    XdpTakesNone,
    /// Of such a port: it takes frames, but the driver's XDP feature flag is stale, so no program can redirect there.
    #[error(
        "stale XDP feature flag on the port (GRO was toggled while the peer was down); run `vethpath up`"
    )]
    XdpMissed,
    /// Of such a port: frames reach its program without their checksum or tag.
    #[error("transmit offloads of the inner end are on, which XDP cannot keep, or it was moved")]
    TxOffloads,
    /// Redirected frames do not arrive.
    #[error("redirected frames are being dropped; retrying within 30 s")]
    Losing,
}

impl NotArmed {
    /// One word for it, of a fixed list. It is a label of the lab's metrics, and stays the same in later versions.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotWanted => "datapath",
            Self::TooManyGuests => "too-many-guests",
            Self::NoPort => "no-port",
            Self::NoInnerEnd => "no-inner-end",
            Self::NoProcess => "no-process",
            Self::NotAttached => "not-attached",
            Self::Down(_) => "down",
            Self::OffBridge => "off-bridge",
            Self::NotForwarding(_) => "not-forwarding",
            Self::PortFlag(_) => "port-flag",
            Self::Unknown { .. } => "unknown-attribute",
            Self::BridgeOption(_) => "bridge-option",
            Self::Promiscuous => "promiscuous",
            Self::Qdisc(_) => "qdisc",
            Self::ForeignProgram => "foreign-program",
            Self::Unread => "unread",
            Self::Flooding => "flooding",
            Self::PacketSocket => "packet-socket",
            Self::Rule(_) => "rule",
            Self::Unreadable(_) => "unreadable",
            Self::TwoNamespaces => "two-namespaces",
            Self::Loop => "loop",
            Self::Offloads => "offloads",
            Self::Multiqueue => "multiqueue",
            Self::GsoLimits => "gso-limits",
            Self::Xdp => "xdp",
            Self::XdpNotAttached => "xdp-not-attached",
            Self::XdpTakesNone => "xdp-takes-none",
            Self::XdpMissed => "xdp-missed",
            Self::TxOffloads => "tx-offloads",
            Self::Losing => "losing",
        }
    }

    /// Whether it is likely to pass by itself within moments of `up`.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Down(_) | Self::NotForwarding(_) | Self::NoInnerEnd | Self::Unread)
    }
}
