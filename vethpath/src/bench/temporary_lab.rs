//! Labs that are generated for a measurement.

use std::{fmt::Write, ops::RangeInclusive};

use thiserror::Error;

use crate::topology::{NsName, Source, Topology, read};

/// The shape of such a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// This many bridges in a row, joined by trunks, with a host at each end.
    Chain(usize),
    /// One bridge with this many hosts. The first is the client, the last the server.
    Hosts(usize),
}

impl Shape {
    /// How many bridges a chain may have.
    pub const CHAIN: RangeInclusive<u64> = 1..=vethpath_common::MOST_BRIDGES as u64;

    /// How many hosts a bridge may have: its ports (BR_MAX_PORTS, less the port number that is never assigned).
    pub const HOSTS: RangeInclusive<u64> = 2..=1023;

    const fn bridges(self) -> usize {
        match self {
            Self::Chain(bridges) => bridges,
            Self::Hosts(_) => 1,
        }
    }

    const fn hosts(self) -> usize {
        match self {
            Self::Chain(_) => 2,
            Self::Hosts(hosts) => hosts,
        }
    }
}

/// No lab can be generated in this shape.
#[derive(Clone, Copy, Debug, Error)]
#[error("there is no lab of the shape {0:?}")]
pub struct ShapeError(Shape);

/// Prefix of the lab names, and the number of hexadecimal digits after it.
const PREFIX: &str = "bench-";
const DIGITS: usize = 8;

/// Whether this is the name of a generated lab.
#[must_use]
pub fn is_name(lab: &str) -> bool {
    let number = lab.strip_prefix(PREFIX);
    number.is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A generated lab, and the two hosts to measure.
#[derive(Clone, Debug)]
pub struct TemporaryLab {
    /// The lab.
    pub topology: Topology,
    /// The first host and the last.
    pub between: (NsName, NsName),
}

impl TemporaryLab {
    /// Generates it with a random name. The bridges are in a namespace of the lab, without the host's netfilter rules
    /// and without name conflicts.
    ///
    /// # Errors
    /// Never, for shapes within the limits.
    pub fn of(shape: Shape) -> Result<Self, ShapeError> {
        Self::with(shape, &Ports { datapath: "tc", mtu: None, ipv6: false })
    }

    /// A chain of bridges on XDP, with hosts of an address family and of an MTU in bytes, if one is given.
    ///
    /// # Errors
    /// There are more bridges than a chain may have.
    pub fn on_xdp(bridges: usize, mtu: Option<u32>, ipv6: bool) -> Result<Self, ShapeError> {
        Self::with(Shape::Chain(bridges), &Ports { datapath: "xdp", mtu, ipv6 })
    }

    fn with(shape: Shape, ports: &Ports) -> Result<Self, ShapeError> {
        // Namespace names are global to the host, so they contain the lab's name.
        let name = format!("{PREFIX}{:0DIGITS$x}", fastrand::u32(..));
        let text = topology_text(shape, &name, ports);
        let source = Source { path: &name, text: &text };
        let invalid = || ShapeError(shape);
        let topology = read(source, Some(&name)).map_err(|_| invalid())?;
        let host = |number: usize| format!("{name}-{number}").parse().map_err(|_| invalid());
        let between = (host(0)?, host(shape.hosts() - 1)?);
        Ok(Self { topology, between })
    }
}

/// Properties of the hosts' ports.
struct Ports {
    datapath: &'static str,
    /// In bytes; `None` is the kernel's default.
    mtu: Option<u32>,
    /// Whether their addresses are IPv6.
    ipv6: bool,
}

fn topology_text(shape: Shape, name: &str, ports: &Ports) -> String {
    let (bridges, hosts) = (shape.bridges(), shape.hosts());
    let datapath = ports.datapath;
    let mtu = ports.mtu.map(|mtu| format!("mtu = {mtu}\n")).unwrap_or_default();
    let mut text = format!("name = \"{name}\"\n[namespace.{name}-bridges]\n");
    for bridge in 0..bridges {
        let trunks =
            if bridge + 1 < bridges { format!("trunks = [\"br{}\"]\n", bridge + 1) } else { String::new() };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "[bridge.br{bridge}]\nnamespace = \"{name}-bridges\"\ndatapath = \"{datapath}\"\n{mtu}{trunks}"
        );
    }
    for host in 0..hosts {
        let bridge = if host == 0 { 0 } else { bridges - 1 };
        let address = if ports.ipv6 {
            format!("fd00::{:x}/64", host + 1)
        } else {
            format!("10.0.{}.{}/16", (host + 1) / 256, (host + 1) % 256)
        };
        let _ = write!(
            text,
            "[namespace.{name}-{host}.interface.eth0]\nlink = \"br{bridge}\"\naddresses = [\"{address}\"]\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Datapath;

    #[test]
    fn every_shape_is_a_topology_from_the_first_host_to_the_last() {
        for (shape, bridges, hosts) in [
            (Shape::Chain(1), 1, 2),
            (Shape::Chain(64), 64, 2),
            (Shape::Hosts(2), 1, 2),
            (Shape::Hosts(1023), 1, 1023),
        ] {
            let own = TemporaryLab::of(shape).unwrap();
            let lab = &own.topology;
            assert_eq!((lab.bridges.len(), lab.trunks.len(), lab.pairs.len()), (bridges, bridges - 1, hosts));
            assert_eq!(
                (&lab.pairs[0].namespace, &lab.pairs[hosts - 1].namespace),
                (&own.between.0, &own.between.1)
            );
            assert!(is_name(&lab.lab.to_string()));
            assert_ne!(lab.lab, TemporaryLab::of(shape).unwrap().topology.lab, "two at once do not collide");
        }
    }

    #[test]
    fn ports_are_as_they_are_to_be() {
        for (ipv6, network) in [(false, "10.0.0.0/16"), (true, "fd00::/64")] {
            let ports = Ports { datapath: "xdp", mtu: Some(9000), ipv6 };
            let lab = TemporaryLab::with(Shape::Chain(8), &ports).unwrap().topology;
            for pair in &lab.pairs {
                assert_eq!((pair.datapath, pair.inner.mtu), (Datapath::Xdp, Some(9000)));
                assert_eq!(pair.inner.addresses[0].trunc().to_string(), network);
            }
            assert!(lab.bridges.iter().all(|bridge| bridge.mtu == Some(9000)), "and so are the trunks");
        }
    }
}
