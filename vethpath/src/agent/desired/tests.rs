//! Two hosts on one bridge, and everything that keeps a port from the fast path.

mod chain;
mod changes;

use std::collections::BTreeSet;

use netlink_packet_core::DefaultNla;
use netlink_packet_route::link::{BridgePortState, InfoBridge};

use super::*;
use crate::{
    agent::{
        NotArmed,
        layout::{LabBridge, LabPort},
        netns_state::Blocker,
    },
    kernel::{FdbEntry, GsoLimits, LinkFacts, PortAttribute as P, XdpMode, xdp::Ready},
    topology::Place,
};

const BRIDGE: u32 = 3;
const A: u32 = 5;
const B: u32 = 6;

fn mac(port: u32) -> [u8; 6] {
    [2, 0, 0, 0, 0, u8::try_from(port).expect("small")]
}

fn link(ifindex: u32, name: &str) -> LinkFacts {
    LinkFacts {
        ifindex,
        name: name.to_owned(),
        mac: Some(mac(ifindex)),
        mtu: 1500,
        up: true,
        peer_netns: Some(0),
        ..LinkFacts::default()
    }
}

fn port(ifindex: u32) -> LinkFacts {
    let flags = vec![P::State(BridgePortState::Forwarding), P::Learning(true), P::HairpinMode(false)];
    LinkFacts { controller: Some(BRIDGE), port: Some(flags), ..link(ifindex, &format!("vp{ifindex}")) }
}

fn entry(port: u32, mac: [u8; 6]) -> FdbEntry {
    FdbEntry { bridge: BRIDGE, port, mac, vlan: 0, ages: true, trusted: true }
}

fn layout() -> Layout {
    let port = |ifindex: u32, counter| LabPort {
        counter,
        port: format!("vp{ifindex}").parse().expect("a name"),
        bridge: "br0".parse().expect("a name"),
        barred: None,
        guest: None,
        xdp: None,
    };
    let bridge = LabBridge {
        number: 1,
        name: "br0".parse().expect("a name"),
        segment: 0,
        bit: 0,
        guests: false,
        wants_programs: true,
    };
    let ports = vec![port(A, 1), port(B, 2)];
    Layout { place: Place::Host, domain: 0, ports, bridges: vec![bridge], trunks: Vec::new() }
}

/// Both ports are armed, and each has its host as a station.
fn facts() -> NetnsState {
    let bridge = LinkFacts { bridge: Some(vec![InfoBridge::VlanFiltering(false)]), ..link(BRIDGE, "br0") };
    let inner = |port: u32| LinkFacts { mac: Some(mac(port)), ..link(2, "eth0") };
    NetnsState {
        links: [(BRIDGE, bridge), (A, port(A)), (B, port(B))].into(),
        inner: [(A, inner(A)), (B, inner(B))].into(),
        fdb: [entry(A, mac(A)), entry(B, mac(B))].into_iter().collect(),
        attached: BTreeSet::from([A, B]),
        reduced_offloads: Some(BTreeSet::new()),
        multiqueue: Some(BTreeSet::new()),
        ..NetnsState::default()
    }
}

/// What the maps should hold, each by its key.
#[derive(Debug, PartialEq)]
struct Contents {
    ports: BTreeMap<PortKey, PortRecord>,
    receivers: BTreeSet<u32>,
    states: BTreeMap<u32, Option<NotArmed>>,
    sources: BTreeMap<SourceKey, Source>,
    stations: BTreeMap<StationKey, Station>,
}

fn desired(facts: &NetnsState) -> Contents {
    contents(&layout(), facts)
}

fn contents(layout: &Layout, facts: &NetnsState) -> Contents {
    let segments = Segments::new(layout, facts);
    let mut desired = Desired { is_whole: true, ..Desired::default() };
    desired.add(layout, &segments, &mut facts.clone(), &mut Paths::known([], 1));
    let ports = desired.ports.into_iter();
    Contents {
        ports: ports.filter_map(|(key, record)| Some((key, record?))).collect(),
        receivers: segments.receivers(),
        states: segments.states,
        sources: desired.stations.values().flat_map(|entries| entries.sources.clone()).collect(),
        stations: desired.stations.values().flat_map(|entries| entries.stations.clone()).collect(),
    }
}

/// The state after a change of port A.
fn with_a(change: impl FnOnce(&mut LinkFacts)) -> NetnsState {
    let mut facts = facts();
    change(facts.links.get_mut(&A).expect("port A"));
    facts
}

fn flags_of(desired: &Contents, mac: [u8; 6]) -> u32 {
    desired.stations[&StationKey::new(1, mac.into())].flags
}

#[test]
fn hosts_on_armed_ports_are_stations() {
    let desired = desired(&facts());
    assert_eq!(desired.states, [(1, None), (2, None)].into());
    assert!(desired.ports.values().all(|record| record.flags == flags::ARMED));
    let source = desired.sources[&SourceKey::new(A, mac(A).into(), 0)];
    assert_eq!((source.bridge, source.pair, source.flags, source.reach), (1, 1, 0, 1));
    let station = desired.stations[&StationKey::new(1, mac(B).into())];
    assert_eq!((station.ifindex, station.pair, station.mtu, station.flags), (B, 2, 1500, flags::MTU_ANY));
    assert_eq!((desired.sources.len(), desired.stations.len()), (2, 2));
}

#[test]
fn only_trusted_unicast_entries_of_the_ports_own_bridge_are_stations() {
    let usual = desired(&facts());
    let mut facts = facts();
    let group = [3, 0, 0, 0, 0, 9];
    facts.fdb.extend([entry(A, group), entry(99, mac(99))]);
    facts.fdb.extend([
        FdbEntry { trusted: false, ..entry(A, mac(20)) },
        FdbEntry { vlan: 7, ..entry(A, mac(21)) },
        FdbEntry { bridge: 77, ..entry(A, mac(22)) },
    ]);
    assert_eq!(desired(&facts), usual);
}

#[test]
fn a_port_that_is_not_armed_neither_sends_nor_receives() {
    let desired = desired(&with_a(|port| port.up = false));
    assert_eq!(desired.states[&1], Some(NotArmed::Down("the port")));
    assert_eq!(desired.states[&2], None);
    assert!(desired.sources.keys().eq([&SourceKey::new(B, mac(B).into(), 0)]));
    assert!(desired.stations.values().all(|station| station.ifindex == B));
    assert_eq!(desired.ports[&PortKey { ifindex: A, domain: 0 }].flags, 0, "its frames are still counted");
}

/// A blocked trunk returns frames that were flooded over another one: no station has moved there.
#[test]
fn a_port_from_which_the_bridge_does_not_learn_is_deaf() {
    use BridgePortState as State;
    let flags = |attribute: P| {
        let desired = desired(&with_a(|port| port.port = Some(vec![attribute, P::HairpinMode(false)])));
        desired.ports[&PortKey { ifindex: A, domain: 0 }].flags
    };
    for attribute in
        [P::State(State::Blocking), P::State(State::Listening), P::State(State::Disabled), P::Learning(false)]
    {
        assert_eq!(flags(attribute.clone()), flags::NO_LEARNING, "{attribute:?}");
    }
    assert_eq!(flags(P::State(State::Learning)), 0);
    assert_eq!(flags(P::State(State::Forwarding)), flags::ARMED);
    assert_eq!(flags(P::Isolated(false)), 0, "what is not known may learn");
}

#[test]
fn every_flag_that_is_not_honoured_disarms() {
    let unknown = DefaultNla::new(200, vec![1]);
    let flags = [
        P::Learning(false),
        P::Locked(true),
        P::Mab(true),
        P::ProxyARP(true),
        P::ProxyARPWifi(true),
        P::NeighSupress(true),
        P::NeighVlanSuppress(true),
        P::NeighForwardGrat(true),
        P::VlanTunnel(true),
        P::MulticastToUnicast(true),
        P::BackupPort(9),
        P::BackupNextHopId(9),
        P::MrpRingOpen(true),
        P::MrpInOpen(true),
        P::State(BridgePortState::Blocking),
        P::State(BridgePortState::Learning),
        P::State(BridgePortState::Other(9)),
        P::Other(unknown),
    ];
    for flag in flags {
        let facts = with_a(|port| port.port.as_mut().expect("flags").push(flag.clone()));
        assert!(desired(&facts).states[&1].is_some(), "{flag:?}");
    }
    assert!(desired(&with_a(|port| port.port = None)).states[&1].is_some(), "flags that could not be read");
    assert!(desired(&with_a(|port| port.port = Some(Vec::new()))).states[&1].is_some(), "without a state");
    assert!(desired(&with_a(|port| port.controller = Some(9))).states[&1].is_some(), "on another bridge");
}

#[test]
fn a_bridge_that_does_more_than_forward_disarms_all_its_ports() {
    let unknown = InfoBridge::Other(DefaultNla::new(200, vec![1]));
    for attribute in [InfoBridge::VlanFiltering(true), InfoBridge::AgeingTime(0), unknown] {
        let mut facts = facts();
        facts.links.get_mut(&BRIDGE).expect("the bridge").bridge = Some(vec![attribute.clone()]);
        assert!(desired(&facts).states.values().all(Option::is_some), "{attribute:?}");
    }
    let mut facts = facts();
    facts.links.get_mut(&BRIDGE).expect("the bridge").promiscuity = 1;
    assert_eq!(desired(&facts).states[&1], Some(NotArmed::Promiscuous));
}

#[test]
fn company_disarms_the_port_it_is_on() {
    type Case = (fn(&mut NetnsState), NotArmed);
    let cases: [Case; 6] = [
        (
            |facts| {
                facts.attached.remove(&A);
            },
            NotArmed::NotAttached,
        ),
        (
            |facts| {
                facts.qdiscs.insert(A, "tbf".into());
            },
            NotArmed::Qdisc("tbf".into()),
        ),
        (
            |facts| {
                facts.foreign.insert(A);
            },
            NotArmed::ForeignProgram,
        ),
        (
            |facts| {
                facts.packet_sockets.insert(A);
            },
            NotArmed::PacketSocket,
        ),
        (
            |facts| {
                facts.rules.insert("vp5".into(), "a rule".into());
            },
            NotArmed::Rule("a rule".into()),
        ),
        (
            |facts| {
                facts.losing.insert(1);
            },
            NotArmed::Losing,
        ),
    ];
    for (change, reason) in cases {
        let mut facts = facts();
        change(&mut facts);
        assert_eq!(desired(&facts).states, [(1, Some(reason)), (2, None)].into());
    }
    let mut facts = facts();
    facts.packet_sockets.insert(0);
    assert!(desired(&facts).states.values().all(Option::is_some), "a capture on every interface");
}

#[test]
fn what_cannot_be_asked_disarms_every_port() {
    for source in [Blocker::Programs, Blocker::Qdiscs, Blocker::PacketSockets, Blocker::Rules] {
        let mut facts = facts();
        assert_eq!(facts.record_reply::<(), _>(source, Err("no descriptors")), None);
        let reason = Some(NotArmed::Unreadable("no descriptors".to_owned()));
        assert_eq!(desired(&facts).states, [(1, reason.clone()), (2, reason)].into());
        assert_eq!(facts.record_reply::<_, String>(source, Ok(())), Some(()));
        assert_eq!(desired(&facts).states, [(1, None), (2, None)].into());
    }
}

#[test]
fn frames_go_by_the_port_where_something_there_is_needed() {
    let peer = |facts: &NetnsState| flags_of(&desired(facts), mac(A)) & flags::VIA_PORT == 0;
    assert!(peer(&facts()));
    assert!(!peer(&with_a(|port| port.peer_netns = None)), "both ends in one namespace");
    let large = GsoLimits { size: 196_608, ipv4_size: 65_536, segments: 65_535 };
    let usual = GsoLimits { size: 65_536, ..large };
    let with_limits =
        |largest, of_port| NetnsState { largest_gso: largest, ..with_a(|port| port.gso = of_port) };
    assert!(peer(&with_limits(usual, usual)) && peer(&with_limits(usual, large)));
    for less in [
        GsoLimits { size: 8000, ..usual },
        GsoLimits { ipv4_size: 8000, ..usual },
        GsoLimits { segments: 3, ..usual },
    ] {
        assert!(!peer(&with_limits(usual, less)), "{less:?}");
        assert!(peer(&with_limits(less, less)), "nobody sends more: {less:?}");
    }
    assert!(!peer(&with_limits(large, usual)), "a host sends more than 64 KiB");
    let mut reduced = facts();
    reduced.reduced_offloads = Some(BTreeSet::from([A]));
    assert!(!peer(&reduced));
    let mut multiqueue = facts();
    multiqueue.multiqueue = Some(BTreeSet::from([A]));
    assert!(!peer(&multiqueue));
    let mut unknown = facts();
    unknown.reduced_offloads = None;
    assert!(!peer(&unknown));
    let mut native = facts();
    native.inner.get_mut(&A).expect("inner end").xdp = XdpMode::Native;
    assert!(!peer(&native));
    let mut other_mac = facts();
    other_mac.inner.get_mut(&A).expect("inner end").mac = Some(mac(40));
    assert!(!peer(&other_mac), "a MAC behind the inner end");
}

#[test]
fn isolation_and_the_smaller_mtu_are_told() {
    let mut facts = with_a(|port| port.port.as_mut().expect("flags").push(P::Isolated(true)));
    facts.inner.get_mut(&A).expect("inner end").mtu = 1400;
    let desired = desired(&facts);
    assert_eq!(flags_of(&desired, mac(A)), flags::ISOLATED);
    assert_eq!(desired.sources[&SourceKey::new(A, mac(A).into(), 0)].flags, flags::ISOLATED);
    assert_eq!(desired.stations[&StationKey::new(1, mac(A).into())].mtu, 1400);
}

#[test]
fn a_way_that_takes_what_every_sender_makes_is_roomy() {
    let mut facts = facts();
    facts.inner.get_mut(&A).expect("inner end").mtu = 1400;
    let desired = desired(&facts);
    assert_eq!(flags_of(&desired, mac(A)), 0, "B may send more than A takes");
    assert_eq!(flags_of(&desired, mac(B)), flags::MTU_ANY);
}

#[test]
fn what_netfilter_would_check_is_told_of_the_sender() {
    let mut facts = facts();
    facts.validated.insert("vp5".into(), flags::VALIDATE_IPV4);
    let checked = desired(&facts);
    assert_eq!(checked.states, [(1, None), (2, None)].into(), "it is no reason to step aside");
    let flags_of_source = |port| checked.sources[&SourceKey::new(port, mac(port).into(), 0)].flags;
    assert_eq!((flags_of_source(A), flags_of_source(B)), (flags::VALIDATE_IPV4, 0));
    assert_eq!((flags_of(&checked, mac(A)) | flags_of(&checked, mac(B))) & flags::VALIDATE, 0);
    let isolated = P::Isolated(true);
    facts.links.get_mut(&A).expect("port A").port.as_mut().expect("flags").push(isolated);
    let flags = desired(&facts).sources[&SourceKey::new(A, mac(A).into(), 0)].flags;
    assert_eq!(flags, flags::ISOLATED | flags::VALIDATE_IPV4);
}

/// The same two hosts. A wants XDP, and is ready for it.
fn with_xdp_at_a() -> (Layout, NetnsState) {
    let (mut layout, mut facts) = (layout(), facts());
    layout.ports[0].xdp = Some("ns0".parse().expect("a name"));
    facts.xdp_attached.insert(A);
    facts.xdp_takers = BTreeSet::from([A, B]);
    facts.ready.insert(A, Ready { gro: true, complete: true });
    (layout, facts)
}

#[test]
fn a_port_that_is_ready_for_xdp_sends_and_receives_by_it() {
    let (layout, facts) = with_xdp_at_a();
    let desired = contents(&layout, &facts);
    assert_eq!(desired.states, [(1, None), (2, None)].into());
    assert_eq!(desired.receivers, BTreeSet::from([A]), "B would take frames, and does not want them");
    let flags_of_source = |port| desired.sources[&SourceKey::new(port, mac(port).into(), 0)].flags;
    assert_eq!((flags_of_source(A), flags_of_source(B)), (flags::NO_OFFLOAD, 0));
}

#[test]
fn a_port_that_is_not_ready_for_xdp_is_not_armed() {
    let reason = |change: fn(&mut NetnsState)| {
        let (layout, mut facts) = with_xdp_at_a();
        change(&mut facts);
        let desired = contents(&layout, &facts);
        assert!(desired.receivers.is_empty() && desired.sources.len() == 1, "{desired:?}");
        desired.states[&1].clone()
    };
    assert_eq!(reason(|facts| facts.xdp_attached.clear()), Some(NotArmed::XdpNotAttached));
    assert_eq!(reason(|facts| facts.xdp_takers.clear()), Some(NotArmed::XdpMissed));
    let stale = |facts: &mut NetnsState| facts.ready = [(A, Ready { gro: false, complete: true })].into();
    assert_eq!(reason(stale), Some(NotArmed::XdpTakesNone));
    assert_eq!(reason(|facts| facts.ready.clear()), Some(NotArmed::XdpTakesNone));
    let in_parts = |facts: &mut NetnsState| facts.ready = [(A, Ready { gro: true, complete: false })].into();
    assert_eq!(reason(in_parts), Some(NotArmed::TxOffloads));
    let without_tc = |facts: &mut NetnsState| {
        let _ = facts.attached.remove(&A);
    };
    assert_eq!(reason(without_tc), Some(NotArmed::NotAttached), "tc has what XDP leaves");
}
