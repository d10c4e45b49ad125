//! Makes the picture of a topology: which nodes and links there are, and which hosts are folded into one node. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Graph, Kind, Link, LinkKind, Live, Node};
use crate::topology::{AdoptedBridge, Bridge, IfName, Interface, Namespace, Place, Route, Topology};

/// A picture with more nodes than this is folded.
pub const MOST_NODES: usize = 100;

/// The ids of the machine and of other networks.
const MACHINE: &str = "host:";
const OUTSIDE: &str = "outside:";

impl Graph {
    /// The picture of a lab. `live` has what its links do, by name.
    #[must_use]
    pub fn of(topology: &Topology, live: &BTreeMap<String, Live>) -> Self {
        let mut graph = Self { lab: topology.lab.clone(), nodes: Vec::new(), links: Vec::new() };
        graph.links = links(topology);
        for link in &mut graph.links {
            link.live = live.get(&link.name).cloned();
        }
        let linked: BTreeSet<&str> =
            graph.links.iter().flat_map(|link| [link.source.as_str(), link.target.as_str()]).collect();
        let mut nodes: Vec<Node> = topology.bridges.iter().map(bridge).collect();
        nodes.extend(topology.adopted.iter().map(adopted));
        // A namespace that has nothing but bridges is drawn with them.
        let has_a_bridge = |namespace: &&Namespace| {
            topology.bridges.iter().any(|bridge| bridge.place == Place::Namespace(namespace.name.clone()))
        };
        let is_drawn =
            |namespace: &&Namespace| linked.contains(namespace.name.as_str()) || !has_a_bridge(namespace);
        nodes.extend(topology.namespaces.iter().filter(is_drawn).map(host));
        for (id, kind, name) in
            [(MACHINE, Kind::Machine, "this machine"), (OUTSIDE, Kind::Outside, "other networks")]
        {
            if linked.contains(id) {
                nodes.push(node(id.to_owned(), kind, name));
            }
        }
        graph.nodes = nodes;
        graph
    }

    /// The same with hosts that are alike in one node, if there are more nodes than fit a picture. Alike are hosts with
    /// one link, to the same bridge, whose names differ in a final number.
    #[must_use]
    pub fn folded(self, most: usize) -> Self {
        if self.nodes.len() <= most {
            return self;
        }
        let mut alike: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
        for (n, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.kind == Kind::Host) {
            let mut links = self.links_of(&node.id);
            if let (Some(link), None) = (links.next(), links.next())
                && link.kind == LinkKind::Pair
            {
                let stem = node.name.trim_end_matches(|c: char| c.is_ascii_digit());
                alike.entry((link.target.clone(), stem.to_owned())).or_default().push(n);
            }
        }
        let mut one_of: BTreeMap<String, String> = BTreeMap::new();
        let mut nodes: Vec<Option<Node>> = self.nodes.into_iter().map(Some).collect();
        for members in alike.into_values().filter(|members| members.len() > 1) {
            let [first, last] = [members.first(), members.last()].map(|n| n.and_then(|&n| nodes[n].clone()));
            let (Some(first), Some(last)) = (first, last) else { continue };
            let id = format!("hosts:{}", first.id);
            for &n in &members {
                let member = nodes[n].take();
                one_of.extend(member.map(|member| (member.id, id.clone())));
            }
            let name = format!("{} - {}", first.name, last.name);
            nodes[members[0]] = Some(Node { count: Some(members.len()), ..node(id, Kind::Hosts, &name) });
        }
        let mut links: Vec<Link> = Vec::with_capacity(self.links.len());
        let mut of_hosts: BTreeMap<String, usize> = BTreeMap::new();
        for mut link in self.links {
            let Some(id) = one_of.get(&link.source) else {
                links.push(link);
                continue;
            };
            if let Some(&n) = of_hosts.get(id) {
                let all: &mut Link = &mut links[n];
                all.live = match (all.live.take(), link.live) {
                    (Some(all), Some(one)) => Some(all.and(one)),
                    (all, one) => all.or(one),
                };
                continue;
            }
            of_hosts.insert(id.clone(), links.len());
            (link.source, link.target_interface) = (id.clone(), None);
            link.source_addresses.clear();
            links.push(link);
        }
        Self { lab: self.lab, nodes: nodes.into_iter().flatten().collect(), links }
    }
}

fn node(id: String, kind: Kind, name: &str) -> Node {
    let (namespace, addresses, notes) = (None, Vec::new(), Vec::new());
    Node { id, kind, name: name.to_owned(), namespace, addresses, notes, count: None }
}

fn bridge(bridge: &Bridge) -> Node {
    let notes = [("nat", bridge.nat), ("stp", bridge.stp), ("vlan_filtering", bridge.vlan_filtering)];
    let notes = notes.into_iter().filter(|(_, on)| *on).map(|(note, _)| note.to_owned()).collect();
    Node {
        namespace: Some(bridge.place.to_string()),
        addresses: bridge.addresses.clone(),
        notes,
        ..node(bridge_id(&bridge.place, &bridge.name), Kind::Bridge, bridge.name.as_str())
    }
}

fn adopted(bridge: &AdoptedBridge) -> Node {
    Node {
        namespace: Some(bridge.place.to_string()),
        notes: vec!["adopted".to_owned()],
        ..node(bridge_id(&bridge.place, &bridge.name), Kind::Bridge, bridge.name.as_str())
    }
}

fn host(namespace: &Namespace) -> Node {
    let mut notes: Vec<String> = namespace.adopt.iter().map(|adopt| format!("adopted: {adopt}")).collect();
    notes.extend(namespace.loopback.iter().map(|address| format!("lo {address}")));
    let gateways = namespace.routes.iter().filter(|route| route.to.prefix_len() == 0);
    notes.extend(gateways.map(|route| match route.via {
        Some(via) if *route == Route::by(route.to, via) => format!("gateway {via}"),
        _ => format!("default {}", route.way()),
    }));
    let others = namespace.routes.iter().filter(|route| route.to.prefix_len() != 0);
    notes.extend(others.map(ToString::to_string));
    Node { notes, ..node(namespace.name.to_string(), Kind::Host, namespace.name.as_str()) }
}

fn bridge_id(place: &Place, name: &IfName) -> String {
    format!("{place}:{name}")
}

fn host_id(place: &Place) -> String {
    match place {
        Place::Host => MACHINE.to_owned(),
        Place::Namespace(name) => name.to_string(),
    }
}

fn links(topology: &Topology) -> Vec<Link> {
    let link = |name, kind, source, target| Link {
        name,
        kind,
        source,
        target,
        source_interface: None,
        target_interface: None,
        source_addresses: Vec::new(),
        target_addresses: Vec::new(),
        live: None,
    };
    let of = |interface: &Interface| (Some(interface.name.to_string()), interface.addresses.clone());
    let mut links = Vec::new();
    for pair in &topology.pairs {
        let (source, target) = (pair.namespace.to_string(), bridge_id(&pair.place, &pair.bridge));
        let (source_interface, source_addresses) = of(&pair.inner);
        let target_interface = Some(pair.port.to_string());
        let bare = link(pair.name(), LinkKind::Pair, source, target);
        links.push(Link { source_interface, source_addresses, target_interface, ..bare });
    }
    for cable in &topology.cables {
        let (a, b) = (&cable.a, &cable.b);
        let (mut source, mut target) = (host_id(&a.place), host_id(&b.place));
        // The end of the uplink in the fabric is a router's, which has no other part in the picture than its bridges.
        let fabric = |place: &Place| {
            topology.bridges.iter().find(|bridge| bridge.place == *place).map(|it| bridge_id(place, &it.name))
        };
        if topology.is_uplink(cable) {
            (source, target) = (fabric(&b.place).unwrap_or(target), source);
        }
        let bare = link(cable.name(), LinkKind::Cable, source, target);
        let ((source_interface, source_addresses), (target_interface, target_addresses)) =
            if topology.is_uplink(cable) {
                (of(&b.interface), of(&a.interface))
            } else {
                (of(&a.interface), of(&b.interface))
            };
        links.push(Link { source_interface, source_addresses, target_interface, target_addresses, ..bare });
    }
    for trunk in &topology.trunks {
        let [source, target] = [&trunk.a, &trunk.b].map(|end| bridge_id(&end.place, &end.bridge));
        let (source_interface, target_interface) =
            (Some(trunk.a.port.to_string()), Some(trunk.b.port.to_string()));
        links.push(Link {
            source_interface,
            target_interface,
            ..link(trunk.name(), LinkKind::Trunk, source, target)
        });
    }
    let linked: BTreeSet<String> =
        links.iter().flat_map(|link| [link.source.clone(), link.target.clone()]).collect();
    for bridge in &topology.bridges {
        let id = bridge_id(&bridge.place, &bridge.name);
        let namespace = host_id(&bridge.place);
        if bridge.place != Place::Host && linked.contains(&namespace) {
            let name = format!("{} in {}", bridge.name, bridge.place);
            links.push(link(name, LinkKind::Inside, id.clone(), namespace));
        }
        if bridge.nat {
            links.push(link(format!("{} nat", bridge.name), LinkKind::Nat, id, OUTSIDE.to_owned()));
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Source, read};

    fn graph(text: &str) -> Graph {
        let lab = read(Source { path: "lab.toml", text }, Some("lab")).unwrap_or_else(|_| panic!("{text}"));
        Graph::of(&lab, &BTreeMap::new())
    }

    fn ids(graph: &Graph) -> Vec<&str> {
        graph.nodes.iter().map(|node| node.id.as_str()).collect()
    }

    #[test]
    fn a_lab_has_a_node_for_each_part_and_a_link_between_them() {
        let lab = graph(
            "[bridge.br0]\naddresses = [\"10.0.0.1/24\"]\nnat = true\ntrunks = [\"br1\"]\n[bridge.br1]\n\
             [namespace.a]\ngateway = \"10.0.0.1\"\n[namespace.a.interface.eth0]\nlink = \"br0\"\n\
             addresses = [\"10.0.0.2/24\"]\n[namespace.b.interface.c0]\nlink = \"host:v0\"\n[namespace.alone]\n",
        );
        assert_eq!(ids(&lab), ["host:br0", "host:br1", "a", "b", "alone", "host:", "outside:"]);
        let links: Vec<_> = lab
            .links
            .iter()
            .map(|link| (link.name.as_str(), link.source.as_str(), link.target.as_str()))
            .collect();
        assert_eq!(
            links,
            [
                ("a:eth0", "a", "host:br0"),
                ("b:c0 - host:v0", "b", "host:"),
                ("br0 - br1", "host:br0", "host:br1"),
                ("br0 nat", "host:br0", "outside:"),
            ]
        );
        assert_eq!(lab.nodes[2].notes, ["gateway 10.0.0.1"]);
        assert_eq!(lab.interfaces_of("a").map(|(name, _)| name).collect::<Vec<_>>(), ["eth0"]);
    }

    #[test]
    fn a_namespace_of_bridges_alone_is_drawn_with_them() {
        let text = "[namespace.f]\n[bridge.br0]\nnamespace = \"f\"\n";
        assert_eq!(ids(&graph(text)), ["f:br0"]);
        let router = graph(&format!("{text}[namespace.f.interface.up]\nlink = \"host:v0\"\n"));
        assert_eq!(ids(&router), ["f:br0", "f", "host:"]);
        assert!(router.links.iter().any(|link| link.kind == LinkKind::Inside));
    }

    #[test]
    fn hosts_that_are_alike_are_folded_beyond_a_hundred() {
        let group = |count| graph(&format!("[bridge.br0]\n[group.h]\ncount = {count}\nbridge = \"br0\"\n"));
        assert_eq!(group(99).folded(MOST_NODES).nodes.len(), 100);
        let folded = group(100).folded(MOST_NODES);
        assert_eq!(ids(&folded), ["host:br0", "hosts:h0"]);
        assert_eq!((folded.nodes[1].name.as_str(), folded.nodes[1].count), ("h0 - h99", Some(100)));
        assert_eq!(folded.links.len(), 1);
    }

    #[test]
    fn folded_links_do_what_all_of_them_do() {
        use super::super::model::Health;
        let text = "[bridge.br0]\n[group.h]\ncount = 3\nbridge = \"br0\"\n";
        let lab = read(Source { path: "lab.toml", text }, Some("lab")).unwrap_or_else(|_| panic!("{text}"));
        let live = |state| Live { state, reason: None, packets: 2.0, bits: 10.0 };
        let states = [("h0:eth0", Health::Up), ("h1:eth0", Health::Down), ("h2:eth0", Health::Slow)];
        let live = states.map(|(name, state)| (name.to_owned(), live(state))).into();
        let folded = Graph::of(&lab, &live).folded(1);
        let all = folded.links[0].live.as_ref().unwrap();
        assert_eq!((all.state, all.packets, all.bits), (Health::Down, 6.0, 30.0));
    }
}
