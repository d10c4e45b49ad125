//! Selects the two pairs to measure.

use std::{collections::BTreeSet, net::IpAddr};

use super::error::Error;
use crate::{
    agent::{
        counted_pairs,
        status::{self, Status},
    },
    state::Directory,
    topology::{NsName, Pair, Topology},
};

/// The state of a pair if the agent does not reply.
pub(super) const NO_AGENT: &str = "the agent does not answer";

/// One of the two pairs.
#[derive(Clone, Debug)]
pub struct Side {
    /// The pair.
    pub pair: Pair,
    /// Its index in the counter map.
    pub counter: u32,
    /// The address that is measured.
    pub address: IpAddr,
    /// Why the pair is not armed; `None` if it is.
    pub not_armed: Option<String>,
}

/// The two pairs to measure: ports of one segment, with addresses in one subnet.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The client side.
    pub from: Side,
    /// The server side.
    pub to: Side,
    /// How many bridges a frame crosses between them.
    pub bridges: usize,
}

impl Selection {
    /// Whether the fast path is available between the two.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.sides().iter().all(|side| side.not_armed.is_none())
    }

    /// Both sides.
    #[must_use]
    pub fn sides(&self) -> [&Side; 2] {
        [&self.from, &self.to]
    }
}

/// Selects the pairs that the user asked for, or the first two armed pairs of one segment. If no two are armed, it
/// selects the first two.
///
/// # Errors
/// There are no such pairs, or the requested ones do not match.
pub fn select(
    topology: &Topology,
    between: Option<&(NsName, NsName)>,
    directory: &Directory,
) -> Result<Selection, Error> {
    // If the agent does not reply, all pairs count as not armed.
    from_status(topology, between, status::query(&directory.socket()).ok().as_ref())
}

fn from_status(
    topology: &Topology,
    between: Option<&(NsName, NsName)>,
    status: Option<&Status>,
) -> Result<Selection, Error> {
    for namespace in between.iter().flat_map(|(from, to)| [from, to]) {
        if !topology.namespaces.iter().any(|known| &known.name == namespace) {
            let (lab, namespace) = (topology.lab.clone(), namespace.clone());
            return Err(Error::NoNamespace { lab, namespace });
        }
    }
    let wanted = |from: &Pair, to: &Pair| match between {
        Some((a, b)) => &from.namespace == a && &to.namespace == b,
        None => from.namespace != to.namespace,
    };
    let segments = topology.segments();
    let segment = |pair: &Pair| topology.bridge_position(&pair.place, &pair.bridge).map(|at| segments[at]);
    let pairs: Vec<_> = counted_pairs(topology).map(|(number, pair)| (number, pair, segment(pair))).collect();
    let mut first = None;
    for &(a, from, here) in &pairs {
        for &(b, to, there) in &pairs {
            if a == b || !wanted(from, to) || here != there {
                continue;
            }
            let Some((from_address, to_address)) = addresses(from, to) else { continue };
            let bridges = bridges_between(topology, from, to);
            let selection = Selection {
                from: side(a, from, from_address, status),
                to: side(b, to, to_address, status),
                bridges,
            };
            if selection.is_armed() {
                return Ok(selection);
            }
            first.get_or_insert(selection);
        }
    }
    first.ok_or_else(|| match between {
        Some((from, to)) => Error::NotNeighbours(from.clone(), to.clone()),
        None => Error::NoPairs(topology.lab.clone()),
    })
}

fn side(counter: u32, pair: &Pair, address: IpAddr, status: Option<&Status>) -> Side {
    let not_armed = match status {
        None => Some(NO_AGENT.to_owned()),
        Some(status) => status.ports.get(&pair.name()).cloned().unwrap_or_else(|| Some(NO_AGENT.to_owned())),
    };
    Side { pair: pair.clone(), counter, address, not_armed }
}

/// How many bridges are between two pairs of one segment, by the shortest path.
fn bridges_between(topology: &Topology, from: &Pair, to: &Pair) -> usize {
    let position = |place, bridge| topology.bridge_position(place, bridge);
    let trunks = topology.trunks.iter().filter_map(|trunk| {
        Some((position(&trunk.a.place, &trunk.a.bridge)?, position(&trunk.b.place, &trunk.b.bridge)?))
    });
    let trunks: Vec<_> = trunks.flat_map(|(a, b)| [(a, b), (b, a)]).collect();
    let goal = position(&to.place, &to.bridge);
    let mut reached: BTreeSet<_> = position(&from.place, &from.bridge).into_iter().collect();
    // Each iteration extends the search by one bridge.
    for bridges in 1..=topology.bridges.len() {
        if goal.is_some_and(|goal| reached.contains(&goal)) {
            return bridges;
        }
        let next: Vec<_> = trunks.iter().filter(|(a, _)| reached.contains(a)).map(|&(_, b)| b).collect();
        reached.extend(next);
    }
    1
}

/// The first two addresses that reach each other without a router.
fn addresses(from: &Pair, to: &Pair) -> Option<(IpAddr, IpAddr)> {
    from.inner.addresses.iter().find_map(|a| {
        let b = to.inner.addresses.iter().find(|b| a.contains(&b.addr()) && b.contains(&a.addr()))?;
        Some((a.addr(), b.addr()))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::topology::{Source, read};

    fn lab() -> Topology {
        let mut text = String::from("[bridge.br0]\n[bridge.br1]\n");
        for (name, bridge, address) in [
            ("a", "br0", "10.0.0.1/24"),
            ("b", "br1", "10.1.0.1/24"),
            ("c", "br0", "10.0.0.2/24"),
            ("d", "br1", "10.1.0.2/24"),
            ("e", "br0", "10.9.0.1/24"),
        ] {
            text += &format!(
                "[namespace.{name}.interface.eth0]\nlink = \"{bridge}\"\naddresses = [\"{address}\"]\n"
            );
        }
        read(Source { path: "lab.toml", text: &text }, Some("lab")).unwrap()
    }

    fn status(armed: &[&str]) -> Status {
        let state = |name: &str| (!armed.contains(&name)).then(|| "because".to_owned());
        let ports: BTreeMap<_, _> =
            ["a", "b", "c", "d", "e"].iter().map(|n| (format!("{n}:eth0"), state(n))).collect();
        Status {
            pid: 1,
            memory_kib: None,
            since: None,
            capabilities: Vec::new(),
            lease_ms: 3000,
            generation: 1,
            stations: 0,
            settled: true,
            announced: 1,
            confirmed: 1,
            polls: 0,
            steady: true,
            coming_up: false,
            failure: None,
            xdp_missed: None,
            ends: BTreeMap::new(),
            trunks: BTreeMap::new(),
            drops: BTreeSet::new(),
            guests: Vec::new(),
            ports,
        }
    }

    fn selection(
        between: Option<(&str, &str)>,
        status: Option<&Status>,
    ) -> Result<(String, String, bool), Error> {
        let between = between.map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap()));
        from_status(&lab(), between.as_ref(), status)
            .map(|c| (c.from.pair.name(), c.to.pair.name(), c.is_armed()))
    }

    #[test]
    fn the_first_two_armed_on_one_bridge() {
        let all = status(&["a", "b", "c", "d", "e"]);
        assert_eq!(selection(None, Some(&all)).unwrap(), ("a:eth0".into(), "c:eth0".into(), true));
        let some = status(&["a", "b", "d", "e"]);
        assert_eq!(selection(None, Some(&some)).unwrap(), ("b:eth0".into(), "d:eth0".into(), true));
    }

    #[test]
    fn where_none_are_armed_the_first_two() {
        assert!(!selection(None, Some(&status(&["a", "b"]))).unwrap().2);
        assert_eq!(selection(None, None).unwrap(), ("a:eth0".into(), "c:eth0".into(), false));
    }

    #[test]
    fn what_was_asked_for_or_why_not() {
        let all = status(&["a", "b", "c", "d", "e"]);
        assert_eq!(
            selection(Some(("d", "b")), Some(&all)).unwrap(),
            ("d:eth0".into(), "b:eth0".into(), true)
        );
        assert!(matches!(selection(Some(("a", "x")), Some(&all)), Err(Error::NoNamespace { .. })));
        assert!(
            matches!(selection(Some(("a", "b")), Some(&all)), Err(Error::NotNeighbours(..))),
            "two bridges"
        );
        assert!(
            matches!(selection(Some(("a", "e")), Some(&all)), Err(Error::NotNeighbours(..))),
            "two subnets"
        );
    }
}
