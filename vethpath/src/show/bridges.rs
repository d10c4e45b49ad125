//! The bridges of a lab, their ports, and the trunks between them.

use netlink_packet_route::link::BridgePortState;

use super::{
    Bridge, Interface, Leads, LinkState, Port, TAKES_NO_XDP_TX, Trunk,
    observe::{Everywhere, Seen},
};
use crate::{
    kernel::{LinkFacts, PortAttribute, Result, XdpMode},
    stats::{AgentView, State},
    topology::{self, IfName, Place, Topology, TrunkEnd},
};

/// The bridges of a lab with their ports.
pub(super) async fn bridges(
    topology: &Topology,
    everywhere: &Everywhere,
    view: &AgentView,
) -> Result<Vec<Bridge>> {
    let mut bridges = Vec::new();
    for bridge in &topology.bridges {
        let seen = everywhere.get(&bridge.place);
        let link = seen.and_then(|seen| seen.link(&bridge.name));
        let interface = match (seen, link) {
            (Some(seen), Some(link)) => seen.interface(link).await?,
            _ => Interface::missing(bridge.name.as_str()),
        };
        let mut ports = ports(topology, bridge, seen, link, view);
        note_xdp(topology, bridge, everywhere, &mut ports);
        bridges.push(Bridge { namespace: bridge.place.to_string(), interface, ports });
    }
    Ok(bridges)
}

/// The trunks of a lab.
pub(super) fn trunks(topology: &Topology, everywhere: &Everywhere) -> Vec<Trunk> {
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
    bridge: &topology::Bridge,
    seen: Option<&Seen>,
    link: Option<&LinkFacts>,
    view: &AgentView,
) -> Vec<Port> {
    let port = |name: &IfName, leads_to: Leads, state: State| {
        let found = seen.and_then(|seen| seen.link(name));
        let bridge_state = found.and_then(|found| on_bridge(found, link));
        let link = LinkState::of(found);
        Port { name: name.to_string(), leads_to, link, bridge_state, state, note: None }
    };
    let mut ports = Vec::new();
    for pair in topology.pairs.iter().filter(|p| p.place == bridge.place && p.bridge == bridge.name) {
        ports.push(port(&pair.port, Leads::Pair(pair.name()), view.state(pair)));
    }
    for trunk in &topology.trunks {
        for (here, there) in [(&trunk.a, &trunk.b), (&trunk.b, &trunk.a)] {
            if here.place == bridge.place && here.bridge == bridge.name {
                ports.push(port(&here.port, Leads::Trunk(there.bridge.to_string()), view.trunk_state(trunk)));
            }
        }
    }
    let strangers = seen.into_iter().flat_map(|seen| &seen.links).filter(|found| {
        let is_here = link.is_some_and(|link| found.controller == Some(link.ifindex));
        is_here && !ports.iter().any(|port| port.name == found.name)
    });
    let strangers: Vec<_> = strangers
        .map(|found| Port {
            name: found.name.clone(),
            leads_to: Leads::Elsewhere,
            link: LinkState::of(Some(found)),
            bridge_state: on_bridge(found, link),
            state: State::of_stranger(),
            note: None,
        })
        .collect();
    ports.extend(strangers);
    ports
}

/// Notes ports that do not receive what XDP programs at inner ends transmit. `ports` starts with those of pairs.
fn note_xdp(topology: &Topology, bridge: &topology::Bridge, everywhere: &Everywhere, ports: &mut [Port]) {
    let mode = |place: &Place, name: &IfName| {
        everywhere.get(place).and_then(|seen| seen.link(name)).map_or(XdpMode::None, |link| link.xdp)
    };
    let pairs = topology.pairs.iter().filter(|p| p.place == bridge.place && p.bridge == bridge.name);
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
