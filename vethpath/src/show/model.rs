//! The data of `show`, as `show --json` prints it.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::Metrics;
use crate::{
    kernel::LinkFacts,
    stats::{Agent, State},
    topology::{LabName, Mac},
};

/// A lab.
#[derive(Clone, Debug, Serialize)]
pub struct Lab {
    /// Its name.
    pub lab: LabName,
    /// Its agent.
    pub agent: Agent,
    /// Where its metrics are served, if its file has `metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// Its namespaces in the file's order. `host` comes last, if a cable ends there.
    pub namespaces: Vec<Namespace>,
    /// Its bridges, in the file's order.
    pub bridges: Vec<Bridge>,
    /// veth pairs without a bridge.
    pub cables: Vec<Cable>,
    /// veth pairs between two bridges.
    pub trunks: Vec<Trunk>,
    /// What is not as the file says, as the changes that `up` would make, in the words of `plan`.
    pub drift: Vec<String>,
}

/// A namespace.
#[derive(Clone, Debug, Serialize)]
pub struct Namespace {
    /// Its name. `host` is the namespace that vethpath runs in.
    pub name: String,
    /// Whether it exists.
    pub present: bool,
    /// Whether it was stopped.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// How an adopted namespace is found: by its file, or that of which container it is.
    pub adopted: Option<String>,
    /// The interfaces of the file, and others that are up. Bridges and their ports are not among them.
    pub interfaces: Vec<Interface>,
    /// Its routes by gateways, and others that the kernel has not added by itself, in all tables.
    pub routes: Vec<Route>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The destination; a prefix of length 0 is the default route.
    pub to: IpNet,
    /// The gateway of a route that has one way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// The interface of a route that has one way.
    pub device: Option<String>,
    /// What happens to packets, if they are not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fate: Option<String>,
    /// The ways of a route that has several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nexthops: Vec<NextHop>,
    /// Its table, if it is not the main one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Its metric, if it is not the kernel's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// The source address of packets that are sent by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<IpAddr>,
    /// Its own MTU in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// A way of a route that has several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NextHop {
    /// The gateway.
    pub via: Option<IpAddr>,
    /// The interface.
    pub device: Option<String>,
    /// Its share of the flows.
    pub weight: u32,
}

/// `default via 10.0.0.1`. The interface is left out: the route stands below it.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fate) = &self.fate {
            write!(f, "{fate} ")?;
        }
        match self.to.prefix_len() {
            0 => write!(f, "default")?,
            _ => write!(f, "{}", self.to)?,
        }
        let word = |name: &str, value: Option<String>| value.map(|value| format!(" {name} {value}"));
        let number = |name: &str, value: Option<u32>| word(name, value.map(|value| value.to_string()));
        let ip = |name: &str, value: Option<IpAddr>| word(name, value.map(|value| value.to_string()));
        let own = [
            ip("via", self.via),
            number("table", self.table),
            number("metric", self.metric),
            ip("src", self.src),
            number("mtu", self.mtu),
        ];
        own.into_iter().flatten().try_for_each(|word| f.write_str(&word))?;
        self.nexthops.iter().try_for_each(|hop| {
            let words =
                [ip("via", hop.via), word("dev", hop.device.clone()), number("weight", Some(hop.weight))];
            write!(f, " nexthop{}", words.into_iter().flatten().collect::<String>())
        })
    }
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its device name.
    pub name: String,
    /// The other end of a veth, or the lower device of a VLAN or similar, in any namespace.
    pub peer: Option<String>,
    /// Up, down, or missing.
    pub state: LinkState,
    /// Its MAC.
    pub mac: Option<String>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
}

impl Interface {
    /// An interface that exists.
    #[must_use]
    pub fn of(link: &LinkFacts, peer: Option<String>, addresses: Vec<IpNet>) -> Self {
        Self {
            name: link.name.clone(),
            peer,
            state: LinkState::of(Some(link)),
            mac: link.mac.and_then(|bytes| Mac::unicast(bytes).ok()).map(|mac| mac.to_string()),
            mtu: link.mtu,
            addresses,
        }
    }

    /// An interface of the file that does not exist in the kernel.
    #[must_use]
    pub fn missing(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            peer: None,
            state: LinkState::Missing,
            mac: None,
            mtu: 0,
            addresses: Vec::new(),
        }
    }

    /// Its name as `ip` prints it: `eth0@vp0123456789`.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.peer {
            Some(peer) => format!("{}@{peer}", self.name),
            None => self.name.clone(),
        }
    }
}

/// The state of a link, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// Up, with carrier.
    Up,
    /// Up, but its other end is down, or (for a bridge) no port is up.
    NoCarrier,
    /// Down.
    Down,
    /// It does not exist.
    Missing,
}

impl LinkState {
    /// The state of a link. `None` means that it does not exist.
    #[must_use]
    pub fn of(link: Option<&LinkFacts>) -> Self {
        match link {
            None => Self::Missing,
            Some(link) if !link.up => Self::Down,
            Some(link) if !link.running => Self::NoCarrier,
            Some(_) => Self::Up,
        }
    }
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::NoCarrier => "no carrier",
            Self::Down => "down",
            Self::Missing => "missing",
        })
    }
}

/// A bridge.
#[derive(Clone, Debug, Serialize)]
pub struct Bridge {
    /// Its namespace, or `host`.
    pub namespace: String,
    /// Whether it is another program's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// Whether packets from its subnets are masqueraded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nat: bool,
    /// The bridge itself.
    #[serde(flatten)]
    pub interface: Interface,
    /// The lab's ports in the file's order, followed by other ports.
    pub ports: Vec<Port>,
}

/// A port of a bridge.
#[derive(Clone, Debug, Serialize)]
pub struct Port {
    /// Its device name.
    pub name: String,
    /// The other end.
    pub leads_to: Leads,
    /// What is behind a guest port, as in `stats`, if that can be found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<String>,
    /// Up, down, or missing.
    pub link: LinkState,
    /// Its state on the bridge, as `bridge link` prints it: `forwarding`, `blocking`. `None` if it is not on the
    /// bridge.
    pub bridge_state: Option<&'static str>,
    /// Whether its pair or trunk is armed, or why not.
    pub state: State,
    /// Of an armed pair: the reason why nearly all of its packets were slow nevertheless, if they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mostly_slow: Option<&'static str>,
    /// A note for a user with programs at its inner end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
}

/// The note for a port without an XDP program, whose inner end has a native one. Without NAPI, or with NAPI idle,
/// the port does not process what that program transmits (`veth_xdp_xmit`, `veth_xdp_flush` in drivers/net/veth.c).
pub const TAKES_NO_XDP_TX: &str =
    "what the XDP program of its inner end sends back needs one here, or datapath = \"xdp\"";

/// The other end of a port. Serialized as printed: `ns0:eth0`, `trunk to br1`, `guest web:eth0`, `not of the lab`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leads {
    /// The inner end of a pair.
    Pair(String),
    /// Another bridge.
    Trunk(String),
    /// The port is another program's, and takes part in the fast path. What is behind it, if that can be found.
    Guest(Option<String>),
    /// The port is not of the lab.
    Elsewhere,
}

impl fmt::Display for Leads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pair(name) => f.pad(name),
            Self::Trunk(bridge) => f.pad(&format!("trunk to {bridge}")),
            Self::Guest(None) => f.pad("guest"),
            Self::Guest(Some(behind)) => f.pad(&format!("guest {behind}")),
            Self::Elsewhere => f.pad("not of the lab"),
        }
    }
}

impl Serialize for Leads {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A cable.
#[derive(Clone, Debug, Serialize)]
pub struct Cable {
    /// The end that was declared first: `ns0:eth0`.
    pub a: String,
    /// The other end.
    pub b: String,
    /// The worse of its ends' states.
    pub state: LinkState,
}

/// A trunk.
#[derive(Clone, Debug, Serialize)]
pub struct Trunk {
    /// The bridge that declares it.
    pub a: String,
    /// The port there.
    pub a_port: String,
    /// The other bridge.
    pub b: String,
    /// The port there.
    pub b_port: String,
    /// The worse of its ports' states.
    pub state: LinkState,
}
