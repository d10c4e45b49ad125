//! Who is who in a topology: what the steps of a script say in short, and the kernel wants in full.

use std::fmt;

use vethpath::topology::{Pair, Place, Source, Topology, TrunkEnd, read};

pub(crate) type Mac = [u8; 6];

/// A host of the lab, with one interface.
pub(crate) struct End {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its interface.
    pub(crate) interface: String,
    pub(crate) mac: Mac,
}

/// A port of a bridge.
pub(crate) struct Port {
    pub(crate) name: String,
    mac: Mac,
    /// The bridge that it is on.
    pub(crate) bridge: String,
    /// What it has at the start, and the other end of its pair too.
    pub(crate) mtu: u32,
}

/// The names in both worlds: they are derived from the lab's name, and so the same.
pub(crate) struct Names {
    pub(crate) ends: Vec<End>,
    /// Those of the hosts, in their order, and then those of the trunks, two each.
    pub(crate) ports: Vec<Port>,
    bridges: Vec<(String, Mac)>,
    /// Trunks in a row: what a frame crosses at most.
    pub(crate) trunks: usize,
}

impl Names {
    /// Those of a topology whose bridges live on the host.
    pub(crate) fn of(text: &str) -> Self {
        let source = Source { path: "oracle.toml", text };
        let topology: Topology = read(source, Some("oracle")).expect("the file is right");
        assert!(topology.bridges.iter().all(|bridge| bridge.place == Place::Host));
        let end = |pair: &Pair| End {
            namespace: pair.namespace.to_string(),
            interface: pair.inner.name.to_string(),
            mac: pair.inner.mac.bytes(),
        };
        let port = |pair: &Pair| Port {
            name: pair.port.to_string(),
            mac: pair.port_mac.bytes(),
            bridge: pair.bridge.to_string(),
            mtu: pair.inner.mtu.unwrap_or(1500),
        };
        let trunk_port = |end: &TrunkEnd| Port {
            name: end.port.to_string(),
            mac: end.mac.bytes(),
            bridge: end.bridge.to_string(),
            mtu: 1500,
        };
        let trunk_ends = topology.trunks.iter().flat_map(|trunk| [&trunk.a, &trunk.b]);
        Self {
            ends: topology.pairs.iter().map(end).collect(),
            ports: topology.pairs.iter().map(port).chain(trunk_ends.map(trunk_port)).collect(),
            bridges: topology.bridges.iter().map(|b| (b.name.to_string(), b.mac.bytes())).collect(),
            trunks: topology.trunks.len(),
        }
    }

    /// The bridges' names and addresses at the start.
    pub(crate) fn bridges(&self) -> impl Iterator<Item = (&str, Mac)> {
        self.bridges.iter().map(|(name, mac)| (name.as_str(), *mac))
    }

    /// The first bridge, on which the operations on bridges work.
    pub(crate) fn bridge(&self) -> &str {
        &self.bridges[0].0
    }

    pub(crate) fn port(&self, port: usize) -> &str {
        &self.ports[port].name
    }

    pub(crate) fn mac(&self, address: Address) -> Mac {
        let small = |number: usize| u8::try_from(number).expect("a lab has few hosts");
        match address {
            Address::Host(end) => self.ends[end].mac,
            Address::Behind(end, number) => [2, 0, 0, 0xbe, small(end), number],
            Address::Nobody(number) => [2, 0, 0, 0xff, 0, number],
            Address::Bridge => self.bridges[0].1,
            Address::Port(port) => self.ports[port].mac,
            Address::Zero => [0; 6],
            Address::Broadcast => [0xff; 6],
            Address::Group4 => [1, 0, 0x5e, 1, 2, 3],
            Address::Group6 => [0x33, 0x33, 0, 0, 0, 0x77],
            Address::Control(last) => [1, 0x80, 0xc2, 0, 0, last],
        }
    }
}

/// A MAC address, by whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A host's own.
    Host(usize),
    /// One of others behind a host: a bridge, virtual machines.
    Behind(usize, u8),
    /// Nobody's, at first.
    Nobody(u8),
    /// The bridge's own.
    Bridge,
    /// A port's own.
    Port(usize),
    Zero,
    Broadcast,
    /// A group of IPv4's.
    Group4,
    /// A group of IPv6's.
    Group6,
    /// 01:80:c2:00:00:xx.
    Control(u8),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(end) => write!(f, "h{end}"),
            Self::Behind(end, number) => write!(f, "h{end}'{number}"),
            Self::Nobody(number) => write!(f, "nobody{number}"),
            Self::Bridge => write!(f, "bridge"),
            Self::Port(end) => write!(f, "port{end}"),
            Self::Zero => write!(f, "zero"),
            Self::Broadcast => write!(f, "broadcast"),
            Self::Group4 => write!(f, "group4"),
            Self::Group6 => write!(f, "group6"),
            Self::Control(last) => write!(f, "01:80:c2:00:00:{last:02x}"),
        }
    }
}

/// As `ip` and `bridge` want it.
pub(crate) fn written(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
