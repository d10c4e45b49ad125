//! Names of a topology: the short forms that scripts use, and the full names and addresses that the kernel needs.

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
    /// Its initial MTU, which the other end of its pair has too.
    pub(crate) mtu: u32,
}

/// The names in both worlds. They are derived from the lab's name, and so are the same.
pub(crate) struct Names {
    pub(crate) ends: Vec<End>,
    /// The hosts' ports in the hosts' order, then two ports for each trunk.
    pub(crate) ports: Vec<Port>,
    bridges: Vec<(String, Mac)>,
    /// The number of trunks, which are in a row: a frame crosses at most this many.
    pub(crate) trunks: usize,
}

impl Names {
    /// Reads a topology whose bridges are on the host.
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

    /// The bridges' names and initial addresses.
    pub(crate) fn bridges(&self) -> impl Iterator<Item = (&str, Mac)> {
        self.bridges.iter().map(|(name, mac)| (name.as_str(), *mac))
    }

    /// The first bridge, which operations on bridges apply to.
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

/// A MAC address, by its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A host's own.
    Host(usize),
    /// That of another station behind a host, such as a virtual machine on a bridge there.
    Behind(usize, u8),
    /// One that initially has no owner.
    Nobody(u8),
    /// The bridge's own.
    Bridge,
    /// A port's own.
    Port(usize),
    Zero,
    Broadcast,
    /// An IPv4 multicast group.
    Group4,
    /// An IPv6 multicast group.
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
