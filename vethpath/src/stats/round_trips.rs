//! Round-trip times of the TCP connections between hosts of a lab, by pair and peer.
//!
//! Both ends of a connection are in a namespace of the lab, and either may be asked. Its peer is found by the address:
//! as another namespace's own connection with the two addresses exchanged, or else as the file has it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use serde::Serialize;

use crate::{
    kernel::{Netns, Result, netns, pool, tcp},
    topology::{Interface, NsName, Pair, Place, Topology},
};

/// The round-trip times of a pair's connections to one other host of the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoundTrips {
    /// The other host, by its namespace.
    pub peer: String,
    /// The number of established connections whose round-trip time the kernel has measured.
    pub connections: usize,
    /// The smoothed round-trip time of the median connection, in microseconds. With an even number of connections, that
    /// of the lower of the two in the middle. Of equal times, the mean deviation decides.
    pub srtt_us: u32,
    /// The mean deviation of that connection, in microseconds.
    pub var_us: u32,
    /// The greatest smoothed round-trip time of a connection, in microseconds.
    pub worst_us: u32,
    /// The least round-trip time that any connection measured within the last minutes, in microseconds.
    pub min_us: Option<u32>,
}

/// The round-trip times of these pairs of a lab, by the pair's name. Pairs without connections to another host of the lab
/// are left out, and so are connections to anything else. The cost is a search of the kernel's table of connections for
/// each namespace that has one of the pairs (see [`tcp::established`]).
///
/// # Errors
/// A namespace cannot be entered, or the kernel has no `tcp_diag`. One that is gone has no connections.
pub fn round_trips(topology: &Topology, pairs: &[&Pair]) -> Result<BTreeMap<String, Vec<RoundTrips>>> {
    let names: BTreeSet<&NsName> = pairs.iter().map(|pair| &pair.namespace).collect();
    let names: Vec<&NsName> = names.into_iter().collect();
    let connections_of = |name: &&NsName| {
        if !netns::place_exists(&Place::Namespace((*name).clone())) {
            return Ok(Vec::new());
        }
        match Netns::named(name).and_then(|netns| tcp::established(&netns)) {
            Err(error) if error.is_missing() && error.hint().is_none() => Ok(Vec::new()),
            other => other,
        }
    };
    let found = pool::cpu_bound(&names, connections_of);
    let found = found.into_iter().collect::<Result<Vec<_>>>()?;
    let found: Vec<(&NsName, Vec<tcp::Connection>)> = names.into_iter().zip(found).collect();
    Ok(by_pair(topology, pairs, &found))
}

/// The connections that were found in each namespace, by pair and peer.
fn by_pair(
    topology: &Topology,
    pairs: &[&Pair],
    found: &[(&NsName, Vec<tcp::Connection>)],
) -> BTreeMap<String, Vec<RoundTrips>> {
    let hosts = Hosts::of(topology, found);
    let wanted: BTreeSet<u32> = pairs.iter().map(|pair| pair.number).collect();
    let mut times: BTreeMap<(u32, &NsName), Vec<&tcp::Connection>> = BTreeMap::new();
    for (name, connections) in found {
        for connection in connections {
            let Some(peer) = hosts.peer(connection).filter(|peer| peer != name) else { continue };
            let Some(pair) = hosts.pair(name, connection).filter(|pair| wanted.contains(&pair.number)) else {
                continue;
            };
            times.entry((pair.number, peer)).or_default().push(connection);
        }
    }
    let names: BTreeMap<u32, String> = pairs.iter().map(|pair| (pair.number, pair.name())).collect();
    let mut all = BTreeMap::<String, Vec<RoundTrips>>::new();
    for ((number, peer), mut connections) in times {
        connections.sort_unstable_by_key(|connection| (connection.srtt_us, connection.rttvar_us));
        let (Some(name), Some(median)) = (names.get(&number), connections.get((connections.len() - 1) / 2))
        else {
            continue;
        };
        all.entry(name.clone()).or_default().push(RoundTrips {
            peer: peer.to_string(),
            connections: connections.len(),
            srtt_us: median.srtt_us,
            var_us: median.rttvar_us,
            worst_us: connections.last().map_or(median.srtt_us, |worst| worst.srtt_us),
            min_us: connections.iter().filter_map(|connection| connection.min_rtt_us).min(),
        });
    }
    all
}

/// Which host has an address, and which pair of a host a connection uses.
struct Hosts<'t> {
    /// By local and peer address of a connection: the namespace that it was found in; `None` if it was in several.
    ends: HashMap<(std::net::SocketAddr, std::net::SocketAddr), Option<&'t NsName>>,
    /// By address in the file: the namespace; `None` if several have it.
    addresses: HashMap<IpAddr, Option<&'t NsName>>,
    /// The pairs of each namespace, in the file's order.
    pairs: HashMap<&'t NsName, Vec<&'t Pair>>,
    /// The addresses of each namespace's cables.
    cables: HashMap<&'t NsName, Vec<IpAddr>>,
}

impl<'t> Hosts<'t> {
    fn of(topology: &'t Topology, found: &[(&'t NsName, Vec<tcp::Connection>)]) -> Self {
        let mut hosts = Self {
            ends: HashMap::new(),
            addresses: HashMap::new(),
            pairs: HashMap::new(),
            cables: HashMap::new(),
        };
        for (name, connections) in found {
            for one in connections {
                note(&mut hosts.ends, (one.local, one.peer), name);
            }
        }
        for pair in &topology.pairs {
            hosts.add(&pair.namespace, &pair.inner);
            hosts.pairs.entry(&pair.namespace).or_default().push(pair);
        }
        for end in topology.cables.iter().flat_map(|cable| [&cable.a, &cable.b]) {
            let Place::Namespace(name) = &end.place else { continue };
            hosts.add(name, &end.interface);
            hosts
                .cables
                .entry(name)
                .or_default()
                .extend(end.interface.addresses.iter().map(|net| net.addr()));
        }
        hosts
    }

    fn add(&mut self, name: &'t NsName, interface: &'t Interface) {
        for address in &interface.addresses {
            note(&mut self.addresses, address.addr(), name);
        }
    }

    /// The host at the other end. The same address may be in several namespaces, but rarely with the same ports.
    fn peer(&self, connection: &tcp::Connection) -> Option<&'t NsName> {
        let exchanged = self.ends.get(&(connection.peer, connection.local)).copied().flatten();
        exchanged.or_else(|| self.addresses.get(&connection.peer.ip()).copied().flatten())
    }

    /// The pair that a connection of a namespace uses: the one with its local address, or with a subnet of its peer's,
    /// or else the namespace's first. `None` for a connection by a cable.
    fn pair(&self, name: &NsName, connection: &tcp::Connection) -> Option<&'t Pair> {
        let (local, peer) = (connection.local.ip(), connection.peer.ip());
        if self.cables.get(name).is_some_and(|cables| cables.contains(&local)) {
            return None;
        }
        let pairs = self.pairs.get(name)?;
        let has = |pair: &&&Pair| pair.inner.addresses.iter().any(|net| net.addr() == local);
        let reaches = |pair: &&&Pair| pair.inner.addresses.iter().any(|net| net.contains(&peer));
        pairs.iter().find(has).or_else(|| pairs.iter().find(reaches)).or_else(|| pairs.first()).copied()
    }
}

/// Notes where something is, or that it is in more than one namespace.
fn note<'t, K: std::hash::Hash + Eq>(places: &mut HashMap<K, Option<&'t NsName>>, key: K, name: &'t NsName) {
    let place = places.entry(key).or_insert(Some(name));
    if *place != Some(name) {
        *place = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Source, read};

    /// Hosts on two bridges. `ns0` and `far` have the same link-local address, and `ns1` is on both bridges and has a cable.
    const LAB: &str = "\
[bridge.br0]
[bridge.br1]
[namespace.ns0.interface.eth0]
link = \"br0\"
addresses = [\"10.0.0.10/24\", \"fe80::10/64\"]
[namespace.far.interface.eth0]
link = \"br1\"
addresses = [\"fe80::10/64\"]
[namespace.ns1.interface.eth0]
link = \"br0\"
addresses = [\"10.0.0.11/24\"]
[namespace.ns1.interface.eth1]
link = \"br1\"
addresses = [\"10.0.1.11/24\"]
[namespace.ns1.interface.c]
link = \"ns2:c\"
addresses = [\"10.0.2.11/24\"]
[namespace.ns2.interface.c]
link = \"ns1:c\"
addresses = [\"10.0.2.12/24\"]
[namespace.ns3.interface.eth0]
link = \"br0\"
addresses = [\"10.0.0.13/24\"]
";

    fn lab() -> Topology {
        read(Source { path: "lab.toml", text: LAB }, Some("lab")).unwrap()
    }

    fn connection(local: &str, peer: &str, srtt_us: u32) -> tcp::Connection {
        tcp::Connection {
            local: local.parse().unwrap(),
            peer: peer.parse().unwrap(),
            srtt_us,
            rttvar_us: srtt_us / 2,
            min_rtt_us: Some(srtt_us / 10),
        }
    }

    /// The round-trip times of all pairs, if these connections are found in these namespaces.
    fn times(found: &[(&str, &[tcp::Connection])]) -> Vec<String> {
        let topology = lab();
        let names: Vec<NsName> = found.iter().map(|(name, _)| name.parse().unwrap()).collect();
        let found: Vec<_> = names.iter().zip(found).map(|(name, (_, one))| (name, one.to_vec())).collect();
        let pairs: Vec<&Pair> = topology.pairs.iter().collect();
        let text = |(pair, times): (String, Vec<RoundTrips>)| {
            let of = |one: &RoundTrips| {
                let RoundTrips { peer, connections, srtt_us, var_us, worst_us, min_us } = one;
                let least = min_us.unwrap_or_default();
                format!("{pair} {peer} {connections}: {srtt_us} {var_us} {worst_us} {least}")
            };
            times.iter().map(of).collect::<Vec<_>>()
        };
        by_pair(&topology, &pairs, &found).into_iter().flat_map(text).collect()
    }

    #[test]
    fn the_median_stands_for_all_connections_to_a_host() {
        let of = |port: u16, srtt| connection("10.0.0.11:1", &format!("10.0.0.13:{port}"), srtt);
        let found = [of(1, 300), of(2, 900), of(3, 100), of(4, 400)];
        assert_eq!(times(&[("ns1", &found)]), ["ns1:eth0 ns3 4: 300 150 900 10"]);
    }

    #[test]
    fn the_host_with_the_other_end_is_the_peer() {
        let one = connection("[fe80::11]:5000", "[fe80::10]:80", 100);
        assert_eq!(times(&[("ns1", &[one])]), [""; 0], "two hosts have the address");
        let other = connection("[fe80::10]:80", "[fe80::11]:5000", 200);
        let both = ["ns0:eth0 ns1 1: 200 100 200 20", "ns1:eth0 ns0 1: 100 50 100 10"];
        assert_eq!(times(&[("ns0", &[other]), ("far", &[]), ("ns1", &[one])]), both);
        // An address that is not in the file.
        let (one, other) =
            (connection("10.9.9.9:1", "10.0.0.13:2", 100), connection("10.0.0.13:2", "10.9.9.9:1", 200));
        let both = ["ns0:eth0 ns3 1: 100 50 100 10", "ns3:eth0 ns0 1: 200 100 200 20"];
        assert_eq!(times(&[("ns0", &[one]), ("ns3", &[other])]), both);
    }

    #[test]
    fn connections_to_anything_else_are_left_out() {
        let found = [
            connection("127.0.0.1:1", "127.0.0.1:2", 10),
            connection("127.0.0.1:2", "127.0.0.1:1", 10),
            connection("10.0.0.13:1", "10.0.0.13:2", 10),
            connection("10.0.0.13:1", "192.0.2.1:443", 10),
        ];
        assert_eq!(times(&[("ns3", &found)]), [""; 0]);
    }

    #[test]
    fn a_connection_is_counted_at_the_pair_that_has_its_address() {
        let found = [
            connection("10.0.1.11:1", "10.0.0.13:9", 100),
            connection("10.7.7.7:1", "10.0.0.13:9", 200),
            connection("10.0.2.11:1", "10.0.2.12:9", 300),
        ];
        let expected = ["ns1:eth0 ns3 1: 200 100 200 20", "ns1:eth1 ns3 1: 100 50 100 10"];
        assert_eq!(times(&[("ns1", &found)]), expected);
    }
}
