//! Reads the current state of a lab.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use netlink_packet_route::link::BridgePortState;

use super::{
    Bridge, Cable, Interface, Lab, Leads, LinkState, Metrics, Namespace, NextHop, Port, Route,
    TAKES_NO_XDP_TX, Trunk,
};
use crate::{
    agent::guest_name,
    apply::NetnsCache,
    kernel::{HopFacts, LinkFacts, PortAttribute, Result, RouteFacts, Rtnl, XdpMode, netns},
    stats::{self, AgentView, State},
    topology::{self, CableEnd, IfName, MAIN_TABLE, NsName, Place, Topology, TrunkEnd, usual_metric},
};

/// The links and addresses in one namespace.
struct Seen {
    rtnl: Rtnl,
    /// Its links.
    links: Vec<LinkFacts>,
    addresses: BTreeMap<u32, Vec<IpNet>>,
    routes: Vec<RouteFacts>,
}

impl Seen {
    async fn at(rtnl: Rtnl) -> Result<Self> {
        let links = rtnl.socket().links()?;
        let mut addresses: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for (ifindex, address) in rtnl.socket().addresses()? {
            addresses.entry(ifindex).or_default().push(address);
        }
        let routes = rtnl.socket().routes()?;
        Ok(Self { rtnl, links, addresses, routes })
    }

    /// The routes by gateways, and others that the kernel has not added by itself.
    fn routes(&self) -> Vec<Route> {
        let name = |ifindex: u32| {
            self.links.iter().find(|link| link.ifindex == ifindex).map(|link| link.name.clone())
        };
        let is_shown =
            |route: &&RouteFacts| !route.is_kernels || route.hops.iter().any(|hop| hop.via.is_some());
        let route = |route: &RouteFacts| {
            let hop =
                |hop: &HopFacts| NextHop { via: hop.via, device: name(hop.ifindex), weight: hop.weight };
            let (table, metric) = (route.key.table, route.key.metric);
            let hops: Vec<NextHop> = route.hops.iter().map(hop).collect();
            let (one, nexthops) = match &hops[..] {
                [one] => (Some(one.clone()), Vec::new()),
                _ => (None, hops),
            };
            Route {
                to: route.to,
                via: one.as_ref().and_then(|hop| hop.via),
                device: one.and_then(|hop| hop.device),
                fate: route.fate.clone().filter(|_| nexthops.is_empty()),
                nexthops,
                table: Some(table).filter(|table| *table != MAIN_TABLE),
                metric: Some(metric).filter(|metric| *metric != usual_metric(&route.to)),
                src: route.src,
                mtu: route.mtu,
            }
        };
        self.routes.iter().filter(is_shown).map(route).collect()
    }

    /// The link of this name.
    fn link(&self, name: &IfName) -> Option<&LinkFacts> {
        self.links.iter().find(|link| link.name == name.as_str())
    }

    /// A link in the form that `show` prints.
    async fn interface(&self, link: &LinkFacts) -> Result<Interface> {
        let peer = self.rtnl.socket().peers(std::iter::once(link), false)?.pop().flatten();
        let peer = peer.map(|peer| peer.read()).transpose()?.map(|peer| peer.name);
        let addresses = self.addresses.get(&link.ifindex).cloned().unwrap_or_default();
        Ok(Interface::of(link, peer, addresses))
    }
}

/// By pair: the reason why nearly all of its packets were slow, and what is behind a guest port.
type Counted = BTreeMap<String, (Option<&'static str>, Option<String>)>;

/// Reads the counters for that. Without counters that can be read, nothing is known.
fn counted(topology: &Topology, view: &AgentView) -> Counted {
    let stats =
        stats::containers(topology).and_then(|names| stats::collect(topology, view.clone(), Some(&names)));
    let pairs = stats.map(|stats| stats.pairs).unwrap_or_default();
    pairs.into_iter().map(|pair| (pair.name, (pair.mostly_slow, pair.behind))).collect()
}

/// The namespaces of a lab that exist.
type Everywhere = BTreeMap<Place, Seen>;

/// Reads the current state of a lab. What does not exist is reported as missing. Must be called in a tokio runtime.
///
/// # Errors
/// The kernel refuses a request that root may make.
pub async fn observe(topology: &Topology) -> Result<Lab> {
    let view = AgentView::of(&topology.lab);
    let mut places = NetnsCache::open()?;
    let mut everywhere = Everywhere::new();
    let named = topology.namespaces.iter().map(|namespace| Place::Namespace(namespace.name.clone()));
    for place in named.chain([Place::Host]).filter(netns::place_exists) {
        let seen = Seen::at(places.get(&place)?).await?;
        everywhere.insert(place, seen);
    }
    Ok(Lab {
        lab: topology.lab.clone(),
        metrics: Metrics::of(topology),
        namespaces: namespaces(topology, &everywhere).await?,
        bridges: bridges(topology, &everywhere, &view).await?,
        cables: topology.cables.iter().map(|cable| shown(&cable.a, &cable.b, &everywhere)).collect(),
        trunks: trunks(topology, &everywhere),
        agent: view.agent,
        drift: Vec::new(),
    })
}

async fn namespaces(topology: &Topology, everywhere: &Everywhere) -> Result<Vec<Namespace>> {
    let mut namespaces = Vec::new();
    for namespace in &topology.namespaces {
        let place = Place::Namespace(namespace.name.clone());
        let expected = expected_in(topology, &place);
        let adopted = namespace.adopt.as_ref().map(ToString::to_string);
        let stopped = topology.is_stopped(&namespace.name);
        let shown = match everywhere.get(&place) {
            None => Namespace { stopped, ..absent(&namespace.name, adopted, &expected) },
            Some(seen) => {
                // Other interfaces of an adopted namespace do not belong to the lab and are not shown.
                let mut interfaces = interfaces(seen, &expected, adopted.is_none()).await?;
                let lo = seen.links.iter().find(|link| link.loopback && !namespace.loopback.is_empty());
                if let Some(lo) = lo {
                    interfaces.insert(0, seen.interface(lo).await?);
                }
                let (name, routes) = (namespace.name.to_string(), seen.routes());
                Namespace { name, present: true, stopped, adopted, interfaces, routes }
            }
        };
        namespaces.push(shown);
    }
    let expected = expected_in(topology, &Place::Host);
    if let Some(seen) = everywhere.get(&Place::Host)
        && !expected.is_empty()
    {
        let interfaces = interfaces(seen, &expected, false).await?;
        namespaces.push(Namespace {
            name: Place::Host.to_string(),
            present: true,
            stopped: false,
            adopted: None,
            interfaces,
            // The machine's are its own.
            routes: Vec::new(),
        });
    }
    Ok(namespaces)
}

fn absent(name: &NsName, adopted: Option<String>, expected: &[&IfName]) -> Namespace {
    let interfaces = expected.iter().map(|name| Interface::missing(name.as_str())).collect();
    let (name, routes) = (name.to_string(), Vec::new());
    Namespace { name, present: false, stopped: false, adopted, interfaces, routes }
}

/// The expected interfaces, existing or missing. If `all`, others that are up follow, in the kernel's order.
async fn interfaces(seen: &Seen, expected: &[&IfName], all: bool) -> Result<Vec<Interface>> {
    let mut interfaces = Vec::new();
    for name in expected {
        interfaces.push(match seen.link(name) {
            Some(link) => seen.interface(link).await?,
            None => Interface::missing(name.as_str()),
        });
    }
    let others = |link: &&LinkFacts| {
        let on_a_bridge = link.port.is_some() || link.bridge.is_some();
        link.up && !link.loopback && !on_a_bridge && !expected.iter().any(|name| name.as_str() == link.name)
    };
    for link in seen.links.iter().filter(others).filter(|_| all) {
        interfaces.push(seen.interface(link).await?);
    }
    Ok(interfaces)
}

/// The interfaces that the file declares in a place.
fn expected_in<'a>(topology: &'a Topology, place: &Place) -> Vec<&'a IfName> {
    let pairs = topology
        .pairs
        .iter()
        .filter(|pair| matches!(place, Place::Namespace(name) if *name == pair.namespace))
        .map(|pair| &pair.inner.name);
    let ends = topology.cables.iter().flat_map(|cable| [&cable.a, &cable.b]);
    pairs.chain(ends.filter(|end| end.place == *place).map(|end| &end.interface.name)).collect()
}

fn shown(a: &CableEnd, b: &CableEnd, everywhere: &Everywhere) -> Cable {
    let label = |end: &CableEnd| format!("{}:{}", end.place, end.interface.name);
    let link = |end: &CableEnd| everywhere.get(&end.place).and_then(|seen| seen.link(&end.interface.name));
    Cable { a: label(a), b: label(b), state: LinkState::of(link(a)).max(LinkState::of(link(b))) }
}

/// The bridges of a lab with their ports.
async fn bridges(topology: &Topology, everywhere: &Everywhere, view: &AgentView) -> Result<Vec<Bridge>> {
    let counted = counted(topology, view);
    let mut bridges = Vec::new();
    let guests: BTreeSet<_> = topology.bridges_with_guests().collect();
    let own = topology.bridges.iter().map(|bridge| (&bridge.place, &bridge.name, false));
    let adopted = topology.adopted.iter().map(|bridge| (&bridge.place, &bridge.name, true));
    for (place, name, adopted) in own.chain(adopted) {
        let seen = everywhere.get(place);
        let link = seen.and_then(|seen| seen.link(name));
        let interface = match (seen, link) {
            (Some(seen), Some(link)) => seen.interface(link).await?,
            _ => Interface::missing(name.as_str()),
        };
        let has_guests = guests.contains(&(place, name));
        let mut ports = ports(topology, (place, name, has_guests), seen, link, view, &counted);
        note_xdp(topology, (place, name), everywhere, &mut ports);
        let nat = topology.bridge(place, name).is_some_and(|bridge| bridge.nat);
        bridges.push(Bridge { namespace: place.to_string(), adopted, nat, interface, ports });
    }
    Ok(bridges)
}

/// The trunks of a lab.
fn trunks(topology: &Topology, everywhere: &Everywhere) -> Vec<Trunk> {
    let state =
        |end: &TrunkEnd| LinkState::of(everywhere.get(&end.place).and_then(|seen| seen.link(&end.port)));
    let trunk = |trunk: &topology::Trunk| Trunk {
        a: trunk.a.bridge.to_string(),
        a_port: trunk.a.port.to_string(),
        b: trunk.b.bridge.to_string(),
        b_port: trunk.b.port.to_string(),
        state: state(&trunk.a).max(state(&trunk.b)),
    };
    topology.trunks.iter().map(trunk).collect()
}

fn ports(
    topology: &Topology,
    (place, name, has_guests): (&Place, &IfName, bool),
    seen: Option<&Seen>,
    link: Option<&LinkFacts>,
    view: &AgentView,
    counted: &Counted,
) -> Vec<Port> {
    let port = |name: &IfName, leads_to: Leads, state: State| {
        let found = seen.and_then(|seen| seen.link(name));
        let bridge_state = found.and_then(|found| on_bridge(found, link));
        let link = LinkState::of(found);
        let name = name.to_string();
        Port { name, leads_to, behind: None, link, bridge_state, state, mostly_slow: None, note: None }
    };
    let mut ports = Vec::new();
    for pair in topology.pairs.iter().filter(|pair| pair.place == *place && pair.bridge == *name) {
        let port = port(&pair.port, Leads::Pair(pair.name()), view.state(pair));
        let mostly_slow = counted.get(&pair.name()).and_then(|(reason, _)| *reason);
        ports.push(Port { mostly_slow, ..port });
    }
    for trunk in &topology.trunks {
        for (here, there) in [(&trunk.a, &trunk.b), (&trunk.b, &trunk.a)] {
            if here.place == *place && here.bridge == *name {
                ports.push(port(&here.port, Leads::Trunk(there.bridge.to_string()), view.trunk_state(trunk)));
            }
        }
    }
    let foreign = seen.into_iter().flat_map(|seen| &seen.links).filter(|found| {
        let is_here = link.is_some_and(|link| found.controller == Some(link.ifindex));
        is_here && !ports.iter().any(|port| port.name == found.name)
    });
    let foreign: Vec<_> = foreign
        .map(|found| {
            let guest = found.name.parse().ok().filter(|_| has_guests);
            let guest = guest.map(|port: IfName| guest_name(place, name, &port));
            let guest = guest.filter(|guest| view.knows_guest(guest));
            let (mostly_slow, behind) =
                guest.as_ref().and_then(|guest| counted.get(guest)).cloned().unwrap_or_default();
            Port {
                name: found.name.clone(),
                leads_to: if guest.is_some() { Leads::Guest(behind.clone()) } else { Leads::Elsewhere },
                behind,
                link: LinkState::of(Some(found)),
                bridge_state: on_bridge(found, link),
                state: guest.as_ref().map_or_else(State::of_foreign, |guest| view.guest_state(guest)),
                mostly_slow,
                note: None,
            }
        })
        .collect();
    ports.extend(foreign);
    ports
}

/// Notes ports that do not receive what XDP programs at inner ends transmit. `ports` starts with those of pairs.
fn note_xdp(
    topology: &Topology,
    (place, name): (&Place, &IfName),
    everywhere: &Everywhere,
    ports: &mut [Port],
) {
    let mode = |place: &Place, name: &IfName| {
        everywhere.get(place).and_then(|seen| seen.link(name)).map_or(XdpMode::None, |link| link.xdp)
    };
    let pairs = topology.pairs.iter().filter(|pair| pair.place == *place && pair.bridge == *name);
    for (pair, port) in pairs.zip(ports) {
        let inside = mode(&Place::Namespace(pair.namespace.clone()), &pair.inner.name);
        if inside == XdpMode::Native && mode(&pair.place, &pair.port) != XdpMode::Native {
            port.note = Some(TAKES_NO_XDP_TX);
        }
    }
}

/// The state of a port on this bridge, in the terms of `bridge link`. `None` if it is not on the bridge.
fn on_bridge(port: &LinkFacts, bridge: Option<&LinkFacts>) -> Option<&'static str> {
    if port.controller? != bridge?.ifindex {
        return None;
    }
    let state = port.port.iter().flatten().find_map(|a| match a {
        PortAttribute::State(state) => Some(*state),
        _ => None,
    });
    Some(match state {
        Some(BridgePortState::Disabled) => "disabled",
        Some(BridgePortState::Listening) => "listening",
        Some(BridgePortState::Learning) => "learning",
        Some(BridgePortState::Forwarding) => "forwarding",
        Some(BridgePortState::Blocking) => "blocking",
        _ => "unknown",
    })
}
