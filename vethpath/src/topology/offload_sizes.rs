//! The largest frames that devices pass on as one: GSO frames that are sent, and GRO frames that are received.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Topology, fault::Sink, read::Table};

/// `GSO_LEGACY_MAX_SIZE` of linux/netdevice.h: the kernel's default of each size, in bytes.
pub const USUAL_SIZE: u32 = 65_536;

/// Offload sizes in bytes; `None` is the kernel's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffloadSizes {
    /// The largest GSO frame that is sent; for IPv4 only up to the default.
    #[serde(default, rename = "gso_max_size", skip_serializing_if = "Option::is_none")]
    pub gso: Option<u32>,
    /// The largest GSO frame of IPv4 that is sent.
    #[serde(default, rename = "gso_ipv4_max_size", skip_serializing_if = "Option::is_none")]
    pub gso_ipv4: Option<u32>,
    /// The largest frame that GRO makes of received ones.
    #[serde(default, rename = "gro_max_size", skip_serializing_if = "Option::is_none")]
    pub gro: Option<u32>,
}

impl OffloadSizes {
    /// The keys of the file.
    pub(super) fn read(table: &Table<'_>, sink: &mut Sink) -> Self {
        let mut size = |key| table.integer(key, sink).map(|at| at.value);
        Self { gso: size("gso_max_size"), gso_ipv4: size("gso_ipv4_max_size"), gro: size("gro_max_size") }
    }

    /// Each with its key.
    #[must_use]
    pub fn each(self) -> [(&'static str, Option<u32>); 3] {
        [("gso_max_size", self.gso), ("gso_ipv4_max_size", self.gso_ipv4), ("gro_max_size", self.gro)]
    }

    /// Those of a device where `self` has none from others.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            gso: self.gso.or(others.gso),
            gso_ipv4: self.gso_ipv4.or(others.gso_ipv4),
            gro: self.gro.or(others.gro),
        }
    }

    /// The lesser of each, where both have one: what passes between two bridges.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        let least = |one: Option<u32>, other: Option<u32>| Some(one?.min(other?));
        Self {
            gso: least(self.gso, other.gso),
            gso_ipv4: least(self.gso_ipv4, other.gso_ipv4),
            gro: least(self.gro, other.gro),
        }
    }

    /// Whether none is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Topology {
    /// The offload sizes of its interfaces and bridges.
    pub fn offload_sizes(&self) -> impl Iterator<Item = OffloadSizes> {
        let inner = self.pairs.iter().map(|pair| pair.inner.sizes);
        let ends = self.cables.iter().flat_map(|cable| [cable.a.interface.sizes, cable.b.interface.sizes]);
        let all = self.bridges.iter().map(|bridge| bridge.sizes).chain(inner).chain(ends);
        all.filter(|sizes| !sizes.is_empty())
    }
}

/// `gso_max_size 196608, gro_max_size 196608`.
impl fmt::Display for OffloadSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = self.each().into_iter().filter_map(|(key, size)| Some(format!("{key} {}", size?)));
        f.write_str(&given.collect::<Vec<_>>().join(", "))
    }
}
