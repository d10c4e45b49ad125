//! The data of `graph`, as `graph --format json` prints it: nodes, and links between them.

use ipnet::IpNet;
use serde::Serialize;

use crate::topology::LabName;

/// A lab as a picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Graph {
    /// The lab's name.
    pub lab: LabName,
    /// Bridges, hosts, and what of the machine the lab leads to.
    pub nodes: Vec<Node>,
    /// What connects them.
    pub links: Vec<Link>,
}

/// What a node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A namespace.
    Host,
    /// Several namespaces alike, each with a link to the same bridge.
    Hosts,
    /// A bridge.
    Bridge,
    /// The machine, with the ends of cables that are there.
    Machine,
    /// Other networks, to which bridges with `nat` lead.
    Outside,
}

/// A part of the picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Unique in the graph. It has a colon for all but hosts, whose names have none.
    pub id: String,
    /// What it stands for.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Where a bridge is: a namespace of the lab, or `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The addresses of a bridge.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNet>,
    /// What is special about it: `nat`, `stp`, `adopted`, `gateway 10.0.0.1`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Of several hosts, how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
}

/// What connects two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// A pair: a host on a bridge. The source is the host.
    Pair,
    /// A cable between two hosts, or to the machine.
    Cable,
    /// A trunk between two bridges.
    Trunk,
    /// A bridge in a namespace that has other interfaces too. The source is the bridge.
    Inside,
    /// A bridge whose subnets are masqueraded. The source is the bridge.
    Nat,
}

/// A line of the picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Link {
    /// The name in messages: `ns0:eth0`, `br0 - br1`.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// The id of a node.
    pub source: String,
    /// The id of another.
    pub target: String,
    /// The device at the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_interface: Option<String>,
    /// The device at the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_interface: Option<String>,
    /// The addresses of the device at the source.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_addresses: Vec<IpNet>,
    /// The addresses of the device at the target.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub target_addresses: Vec<IpNet>,
    /// What it does at the moment, if that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
}

/// The state of a link, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Up, and on the fast path if it has one.
    Up,
    /// Up, and a plain bridge forwards all its frames.
    Slow,
    /// An end of it is down.
    Down,
    /// An end of it does not exist.
    Missing,
}

/// What a link does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Live {
    /// Its state.
    pub state: Health,
    /// Why it is not better, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Packets a second, both directions together.
    pub packets: f64,
    /// Bits a second, both directions together.
    pub bits: f64,
}

impl Live {
    /// Both together: the worse state, and the sum of the rates.
    #[must_use]
    pub(super) fn and(self, other: Self) -> Self {
        let (packets, bits) = (self.packets + other.packets, self.bits + other.bits);
        let worse = if other.state > self.state { other } else { self };
        Self { packets, bits, ..worse }
    }
}

impl Graph {
    /// The links of a node.
    pub fn links_of<'g>(&'g self, id: &'g str) -> impl Iterator<Item = &'g Link> {
        self.links.iter().filter(move |link| link.source == id || link.target == id)
    }

    /// Each device of a node that a link ends at, with its addresses.
    pub fn interfaces_of<'g>(&'g self, id: &'g str) -> impl Iterator<Item = (&'g str, &'g [IpNet])> {
        self.links.iter().flat_map(move |link| {
            let source = (link.source == id).then_some((&link.source_interface, &link.source_addresses));
            let target = (link.target == id).then_some((&link.target_interface, &link.target_addresses));
            let ends = source.into_iter().chain(target);
            ends.filter_map(|(name, addresses)| Some((name.as_deref()?, addresses.as_slice())))
        })
    }
}
