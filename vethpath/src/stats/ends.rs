//! The kernel's counters at the ends of pairs and trunks.

use std::collections::{BTreeMap, HashMap};

use super::AgentView;
use crate::{
    agent::status::Ends,
    kernel::{self, LinkAt, LinkCounters, LinkFacts, Netns, RouteSocket, driver, netns},
    topology::{Datapath, Pair, Place, Topology},
};

/// The kernel's counters, in the order of the lab's pairs and trunks. `None` if an end is gone.
pub(super) struct Counted {
    /// At the inner ends of pairs.
    pub(super) inner: Vec<Option<LinkCounters>>,
    /// At the ports of pairs with XDP. Empty for others.
    pub(super) ports: Vec<AtPort>,
    /// At the first ends of trunks.
    pub(super) trunks: Vec<Option<LinkCounters>>,
}

/// The counters of a port with XDP.
#[derive(Clone, Default)]
pub(super) struct AtPort {
    /// The driver's counters.
    driver: driver::Counters,
    /// Frames that the port failed to transmit.
    pub(super) refused: u64,
}

impl AtPort {
    /// The sum of the driver's counters whose names have this suffix.
    pub(super) fn sum(&self, end: &str) -> u64 {
        self.driver.iter().filter(|(name, _)| name.ends_with(end)).map(|(_, count)| count).sum()
    }
}

/// Reads the counters, those of inner ends only as far as they are not in `known`, by pair. Inner ends are read from
/// outside, so that only the bridges' namespaces are entered. `names` has the names of the pairs.
pub(super) fn counted(
    topology: &Topology,
    names: &[String],
    view: &AgentView,
    known: Option<Inner>,
) -> kernel::Result<Counted> {
    let mut counted = Counted {
        inner: vec![None; topology.pairs.len()],
        ports: vec![AtPort::default(); topology.pairs.len()],
        trunks: vec![None; topology.trunks.len()],
    };
    let mut known = known.map_or_else(|| self::known(view), Ok)?;
    for ((pair, name), end) in topology.pairs.iter().zip(names).zip(&mut counted.inner) {
        let inner = view.ends(pair, name).and_then(|_| known.remove(name));
        *end = inner.filter(|inner| inner.name == pair.inner.name.as_str()).map(|inner| inner.counters);
    }
    for (_, place) in topology.domains() {
        if netns::place_exists(&place) {
            count_at(&place, topology, &mut counted)?;
        }
    }
    Ok(counted)
}

fn count_at(place: &Place, topology: &Topology, counted: &mut Counted) -> kernel::Result<()> {
    let here: Vec<(&Pair, &mut Option<LinkCounters>)> = topology
        .pairs
        .iter()
        .zip(&mut counted.inner)
        .filter(|(pair, end)| pair.place == *place && end.is_none())
        .collect();
    let has_trunks = topology.trunks.iter().any(|trunk| trunk.a.place == *place);
    let xdp = topology.pairs.iter().zip(&mut counted.ports);
    let xdp = xdp.filter(|(pair, _)| pair.place == *place && pair.datapath == Datapath::Xdp);
    let (xdp_ports, at_ports): (Vec<_>, Vec<_>) = xdp.map(|(pair, port)| (&pair.port, port)).unzip();
    if here.is_empty() && !has_trunks && xdp_ports.is_empty() {
        return Ok(());
    }
    let socket = connect(place)?;
    if !here.is_empty() || has_trunks {
        let links = socket.counters(has_trunks)?;
        let links: HashMap<&str, &LinkFacts> = links.iter().map(|link| (link.name.as_str(), link)).collect();
        let link = |name: &str| links.get(name).copied();
        let (ports, ends): (Vec<_>, Vec<_>) =
            here.into_iter().filter_map(|(pair, end)| Some((link(pair.port.as_str())?, end))).unzip();
        for (end, peer) in ends.into_iter().zip(socket.peers(ports.into_iter(), true)?) {
            *end = peer.map(|peer| peer.counters()).transpose()?.as_ref().map(LinkCounters::from);
        }
        for (trunk, end) in topology.trunks.iter().zip(&mut counted.trunks) {
            if trunk.a.place == *place {
                *end = link(trunk.a.port.as_str()).map(LinkCounters::from);
            }
        }
    }
    if !xdp_ports.is_empty() {
        let read = driver::counters(socket.netns(), &xdp_ports)?;
        let links = socket.counters(true)?;
        let refused: HashMap<&str, u64> =
            links.iter().map(|link| (link.name.as_str(), link.refused)).collect();
        for ((to, driver), port) in at_ports.into_iter().zip(read).zip(xdp_ports) {
            *to = AtPort { driver, refused: refused.get(port.as_str()).copied().unwrap_or_default() };
        }
    }
    Ok(())
}

/// Connects to the namespace of a place. The calling thread is in that of the host.
fn connect(place: &Place) -> kernel::Result<RouteSocket> {
    let netns = Netns::of(place)?;
    if *place == Place::Host { RouteSocket::here(&netns) } else { RouteSocket::open(&netns) }
}

/// Inner ends by the names of their pairs.
pub(super) type Inner = HashMap<String, InnerEnd>;

/// An inner end that has been read.
#[derive(Clone, Debug)]
pub(super) struct InnerEnd {
    /// Its device name.
    name: String,
    counters: LinkCounters,
}

/// Reads the inner ends where the agent saw them last. This avoids a dump of the ports, for which the kernel
/// searches each namespace's id among all ids (`peernet2id` in net/core/net_namespace.c). An end that is gone is
/// left out: its port was removed with it, and a device with its ifindex has another port as peer.
pub(super) fn known(view: &AgentView) -> kernel::Result<Inner> {
    let mut places: BTreeMap<&Place, Vec<(&String, &Ends)>> = BTreeMap::new();
    for (name, ends) in view.all_ends() {
        places.entry(&ends.place).or_default().push((name, ends));
    }
    let mut known = Inner::with_capacity(places.values().map(Vec::len).sum());
    for (place, ends) in places.into_iter().filter(|(place, _)| netns::place_exists(place)) {
        known_at(place, &ends, &mut known)?;
    }
    Ok(known)
}

fn known_at(place: &Place, ends: &[(&String, &Ends)], known: &mut Inner) -> kernel::Result<()> {
    let socket = connect(place)?;
    // Ifindexes are only unique within a namespace, so the end's peer must be the port in this namespace. If the
    // namespace has no id yet, the kernel assigns one when it reports the first end, and the next account finds it.
    let here = socket.nsid_of(socket.netns())?;
    let at: Vec<LinkAt> =
        ends.iter().map(|(_, ends)| LinkAt { ifindex: ends.inner, netns: ends.netns }).collect();
    socket.counters_at(&at, |position, inner| {
        let (name, ends) = ends[position];
        // The expected namespace id of the end's peer. There is none if both ends are in one namespace.
        let back = ends.netns.map_or(Some(None), |_| here.map(Some));
        if inner.peer == Some(ends.port) && Some(inner.peer_netns) == back {
            let counters = LinkCounters::from(&inner);
            known.insert(name.clone(), InnerEnd { name: inner.name, counters });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::sandbox::{in_new_namespace, run},
        topology::{Source, read},
    };

    /// Two pairs whose ends are all in one namespace, with the ifindexes of their ports and inner ends.
    fn lab() -> (Topology, [Ends; 2]) {
        let text = "[bridge.br0]\n[namespace.ns0.interface.eth0]\nlink = \"br0\"\n\
                    [namespace.ns1.interface.eth1]\nlink = \"br0\"\n";
        let topology = read(Source { path: "lab.toml", text }, Some("lab")).unwrap();
        for pair in &topology.pairs {
            add(pair);
        }
        let index = |name: &str| nix::net::if_::if_nametoindex(name).unwrap();
        let ends = |pair: &Pair| Ends {
            place: Place::Host,
            port: index(pair.port.as_str()),
            inner: index(pair.inner.name.as_str()),
            netns: None,
        };
        let ends = [ends(&topology.pairs[0]), ends(&topology.pairs[1])];
        (topology, ends)
    }

    fn add(pair: &Pair) {
        let (port, inner) = (pair.port.as_str(), pair.inner.name.as_str());
        run("ip", &["link", "add", port, "type", "veth", "peer", "name", inner]);
    }

    /// The namespace's path for `ip`.
    fn path(netns: &Netns) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), netns.raw_fd())
    }

    /// The ifindexes of the inner ends that are found if the agent knows these ends.
    fn found(topology: &Topology, known: &[&Ends]) -> Vec<Option<u32>> {
        let names: Vec<String> = topology.pairs.iter().map(Pair::name).collect();
        let known = names.iter().cloned().zip(known.iter().copied().cloned()).collect();
        let counted = counted(topology, &names, &AgentView::knowing(known), None).unwrap();
        counted.inner.iter().map(|inner| inner.map(|inner| inner.ifindex)).collect()
    }

    #[test]
    fn inner_ends_are_found_whatever_the_agent_knows() {
        in_new_namespace(|| {
            let (topology, [one, two]) = lab();
            let right = [Some(one.inner), Some(two.inner)];
            let (one, two) = (&one, &two);
            let gone = &Ends { port: 4000, inner: 4001, ..one.clone() };
            let elsewhere = &Ends { netns: Some(77), ..two.clone() };
            for known in
                [&[one, two][..], &[], &[one], &[two, one], &[one, gone], &[gone, two], &[one, elsewhere]]
            {
                assert_eq!(found(&topology, known), right, "{known:?}");
            }
        });
    }

    #[test]
    fn a_pair_that_is_gone_or_was_made_again_is_not_what_the_agent_knew() {
        in_new_namespace(|| {
            let (topology, [one, two]) = lab();
            run("ip", &["link", "del", topology.pairs[1].port.as_str()]);
            let (one, two) = (&one, &two);
            assert_eq!(found(&topology, &[one, two]), [Some(one.inner), None]);
            // In place of the former inner end: one that is the peer of another port.
            let inner = two.inner.to_string();
            run("ip", &["link", "add", "other", "type", "veth", "peer", "name", "eth1", "index", &inner]);
            assert_eq!(found(&topology, &[one, two]), [Some(one.inner), None]);
            run("ip", &["link", "del", "other"]);
            add(&topology.pairs[1]);
            let again = nix::net::if_::if_nametoindex("eth1").unwrap();
            assert_eq!(found(&topology, &[one, two]), [Some(one.inner), Some(again)]);
        });
    }

    #[test]
    fn ends_that_are_alike_and_lead_elsewhere_are_not_the_pairs() {
        in_new_namespace(|| {
            let (topology, [one, two]) = lab();
            let (one, two) = (&one, &two);
            let [there, far] = ["there", "far"].map(|name| Netns::create(name).unwrap());
            run("ip", &["link", "del", topology.pairs[1].port.as_str()]);
            // What the agent knew of the second pair matches another device in name, ifindex and peer ifindex, but
            // that device's peer is not in this namespace.
            let (inner, port, far) = (two.inner.to_string(), two.port.to_string(), path(&far));
            let alike = ["link", "add", "eth1", "index", &inner, "type", "veth"];
            let alike = [&alike[..], &["peer", "name", "p", "index", &port, "netns", &far]].concat();
            there.run(|| run("ip", &alike)).unwrap();
            let numbering = ["link", "add", "va", "type", "veth", "peer", "name", "vb", "netns"];
            run("ip", &[&numbering[..], &[&path(&there)]].concat());
            let socket = RouteSocket::open(&Netns::current().unwrap()).unwrap();
            let known = Ends { netns: socket.nsid_of(&there).unwrap(), ..two.clone() };
            assert!(known.netns.is_some());
            assert_eq!(found(&topology, &[one, &known]), [Some(one.inner), None]);
        });
    }

    #[test]
    fn what_the_agent_knew_of_a_bridge_elsewhere_is_not_looked_for_here() {
        in_new_namespace(|| {
            let (topology, [one, two]) = lab();
            // The pair's bridge was in another namespace with these ifindexes. Here they are another pair's.
            run("ip", &["link", "set", topology.pairs[1].port.as_str(), "name", "another"]);
            assert_eq!(found(&topology, &[&one, &two]), [Some(one.inner), Some(two.inner)]);
            let elsewhere = Ends { place: Place::Namespace("fabric".parse().unwrap()), ..two };
            assert_eq!(found(&topology, &[&one, &elsewhere]), [Some(one.inner), None]);
        });
    }
}
