//! The protocol families of netfilter hooks.

use std::fmt;

/// A netfilter family (`NFPROTO_*`, include/uapi/linux/netfilter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// All families, in requests.
    Unspecified,
    /// IPv4 and IPv6 together.
    Inet,
    /// IPv4.
    Ip,
    /// ARP.
    Arp,
    /// Ingress and egress of a device.
    Netdev,
    /// Frames that cross a bridge.
    Bridge,
    /// IPv6.
    Ip6,
    /// An unknown family.
    Other(u8),
}

impl Family {
    /// The kernel's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Arp => 3,
            Self::Netdev => 5,
            Self::Bridge => 7,
            Self::Ip6 => 10,
            Self::Other(number) => number,
        }
    }

    /// The family of a kernel number.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Unspecified,
            1 => Self::Inet,
            2 => Self::Ip,
            3 => Self::Arp,
            5 => Self::Netdev,
            7 => Self::Bridge,
            10 => Self::Ip6,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unspecified => f.pad("any"),
            Self::Inet => f.pad("inet"),
            Self::Ip => f.pad("ip"),
            Self::Arp => f.pad("arp"),
            Self::Netdev => f.pad("netdev"),
            Self::Bridge => f.pad("bridge"),
            Self::Ip6 => f.pad("ip6"),
            Self::Other(number) => write!(f, "family-{number}"),
        }
    }
}
