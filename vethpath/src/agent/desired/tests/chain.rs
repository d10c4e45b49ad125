//! Paths across a chain of three bridges: a - br1 - br2 - br3 - c, and b on br2.

use std::collections::BTreeSet;

use netlink_packet_route::link::{BridgePortState, InfoBridge};

use super::super::*;
use crate::{
    agent::{
        NotArmed,
        layout::{LabBridge, LabPort},
    },
    kernel::{LinkFacts, PortAttribute as P, XdpMode},
    topology::{Mac, Place, Trunk, TrunkEnd},
};

/// Bridges and ports by ifindex: 1, 2, 3; hosts 11 (on 1), 12 (on 2), 13 (on 3); trunks 21-22 and
/// 32-33.
const HOSTS: [(u32, u32); 3] = [(11, 1), (12, 2), (13, 3)];
const TRUNKS: [[(u32, u32); 2]; 2] = [[(21, 1), (22, 2)], [(32, 2), (33, 3)]];

pub(super) fn mac(host: u32) -> [u8; 6] {
    [2, 0, 0, 0, 0, u8::try_from(host).expect("small")]
}

fn link(ifindex: u32, name: String) -> LinkFacts {
    LinkFacts { ifindex, name, mtu: 1500, up: true, ..LinkFacts::default() }
}

fn port(ifindex: u32, bridge: u32) -> LinkFacts {
    let flags = vec![P::State(BridgePortState::Forwarding)];
    LinkFacts { controller: Some(bridge), port: Some(flags), ..link(ifindex, format!("p{ifindex}")) }
}

pub(super) fn layout() -> Layout {
    let end = |(port, bridge): (u32, u32)| TrunkEnd {
        bridge: format!("br{bridge}").parse().expect("a name"),
        place: Place::Host,
        port: format!("p{port}").parse().expect("a name"),
        mac: Mac::unicast(mac(port)).expect("a MAC"),
    };
    Layout {
        place: Place::Host,
        domain: 0,
        ports: HOSTS
            .map(|(port, bridge)| LabPort {
                counter: port,
                port: format!("p{port}").parse().expect("a name"),
                bridge: format!("br{bridge}").parse().expect("a name"),
                barred: None,
                guest: None,
                xdp: None,
            })
            .to_vec(),
        bridges: (1..)
            .zip(0..3)
            .map(|(number, bit)| LabBridge {
                number,
                name: format!("br{number}").parse().expect("a name"),
                segment: 0,
                bit,
                guests: false,
                wants_programs: true,
            })
            .collect(),
        trunks: (0..).zip(TRUNKS).map(|(number, [a, b])| Trunk { number, a: end(a), b: end(b) }).collect(),
    }
}

/// Every bridge knows every host.
pub(super) fn facts() -> NetnsState {
    let mut facts = NetnsState {
        reduced_offloads: Some(BTreeSet::new()),
        multiqueue: Some(BTreeSet::new()),
        ..NetnsState::default()
    };
    for bridge in 1..=3 {
        let options = Some(vec![InfoBridge::VlanFiltering(false)]);
        facts.links.insert(bridge, LinkFacts { bridge: options, ..link(bridge, format!("br{bridge}")) });
    }
    for (host, bridge) in HOSTS {
        let inner = LinkFacts { mac: Some(mac(host)), ..link(2, "eth0".to_owned()) };
        facts.links.insert(host, LinkFacts { peer_netns: Some(0), ..port(host, bridge) });
        facts.inner.insert(host, inner);
        facts.attached.insert(host);
    }
    for [a, b] in TRUNKS {
        for ((from, bridge), (to, _)) in [(a, b), (b, a)] {
            facts.links.insert(from, LinkFacts { peer: Some(to), ..port(from, bridge) });
            facts.attached.insert(from);
        }
    }
    let known = [
        (1, [(11, 11), (12, 21), (13, 21)]),
        (2, [(11, 22), (12, 12), (13, 32)]),
        (3, [(11, 33), (12, 33), (13, 13)]),
    ];
    for (bridge, hosts) in known {
        hosts.into_iter().for_each(|(host, port)| learn(&mut facts, bridge, host, port));
    }
    facts
}

fn learn(facts: &mut NetnsState, bridge: u32, host: u32, port: u32) {
    let entry = FdbEntry { bridge, port, mac: mac(host), vlan: 0, ages: true, trusted: true };
    let _ = facts.fdb.insert(entry);
}

fn forget(facts: &mut NetnsState, bridge: u32, host: u32) {
    let entry = *facts.fdb.get(bridge, mac(host), 0).expect("it is there");
    let _ = facts.fdb.remove(&entry);
}

fn set(facts: &mut NetnsState, port: u32, flag: P) {
    facts.links.get_mut(&port).expect("it is there").port.as_mut().expect("a port").push(flag);
}

/// Trunks, bridges and MTU of the path from a bridge to a host.
fn path(facts: &NetnsState, bridge: u32, host: u32) -> Option<(Vec<u16>, u64, u32)> {
    let layout = layout();
    let segments = Segments::new(&layout, facts);
    let found = station(&segments, &facts.fdb, bridge, mac(host));
    found.map(|(station, crossings)| (crossings, station.bridges, station.mtu))
}

fn reach(facts: &NetnsState, bridge: u32, host: u32) -> u64 {
    super::super::reach(&Segments::new(&layout(), facts), &facts.fdb, bridge, mac(host))
}

#[test]
fn a_way_is_what_the_bridges_say() {
    let facts = facts();
    assert_eq!(path(&facts, 1, 11), Some((vec![], 0b001, 1500)));
    assert_eq!(path(&facts, 1, 12), Some((vec![0], 0b011, 1500)));
    assert_eq!(path(&facts, 1, 13), Some((vec![0, 2], 0b111, 1500)));
    assert_eq!(path(&facts, 3, 11), Some((vec![3, 1], 0b111, 1500)));
    assert_eq!(path(&facts, 2, 13), Some((vec![2], 0b110, 1500)));
    assert_eq!(reach(&facts, 1, 11), 0b111);
    assert_eq!(reach(&facts, 2, 12), 0b111);
}

#[test]
fn a_bridge_that_does_not_know_the_station_ends_the_way() {
    let mut facts = facts();
    forget(&mut facts, 2, 13);
    assert_eq!(path(&facts, 1, 13), None);
    assert!(path(&facts, 3, 13).is_some());
    assert_eq!(reach(&facts, 3, 13), 0b100, "what lies behind does not count");
    forget(&mut facts, 3, 11);
    assert_eq!(reach(&facts, 1, 11), 0b011);
}

#[test]
fn a_station_that_a_bridge_knows_elsewhere_is_not_on_the_way() {
    let mut facts = facts();
    // Host 11 has moved to bridge 3, and bridge 1 has not learned that yet.
    learn(&mut facts, 3, 11, 13);
    learn(&mut facts, 2, 11, 32);
    assert_eq!(path(&facts, 3, 11).map(|(crossings, ..)| crossings), Some(vec![]));
    assert_eq!(reach(&facts, 1, 11), 0b001, "its old port sends to nobody beyond");
    // Two bridges whose entries point at each other.
    learn(&mut facts, 3, 11, 33);
    assert_eq!(path(&facts, 2, 11), None);
}

#[test]
fn the_least_mtu_on_the_way_counts() {
    let mut facts = facts();
    facts.links.get_mut(&33).expect("the trunk").mtu = 1400;
    assert_eq!(path(&facts, 1, 12).map(|(.., mtu)| mtu), Some(1500));
    assert_eq!(path(&facts, 1, 13).map(|(.., mtu)| mtu), Some(1400));
    facts.inner.get_mut(&11).expect("the inner end").mtu = 1300;
    assert_eq!(path(&facts, 3, 11).map(|(.., mtu)| mtu), Some(1300));
}

#[test]
fn isolated_ports_on_the_way_are_honoured() {
    let mut facts = facts();
    set(&mut facts, 22, P::Isolated(true));
    assert!(path(&facts, 1, 13).is_some(), "one alone bars nothing");
    set(&mut facts, 32, P::Isolated(true));
    assert_eq!(path(&facts, 1, 13), None, "in by one isolated port and out by another");
    assert!(path(&facts, 1, 12).is_some());
    set(&mut facts, 12, P::Isolated(true));
    assert_eq!(path(&facts, 1, 12), None, "the last port too");
    let layout = layout();
    let segments = Segments::new(&layout, &facts);
    let first = |bridge, host| {
        let found = station(&segments, &facts.fdb, bridge, mac(host));
        found.map(|(station, _)| station.flags & flags::ISOLATED)
    };
    assert_eq!(first(2, 13), Some(flags::ISOLATED), "the program compares it with the sender's port");
    assert_eq!(first(3, 12), None, "out of bridge 3, in by 32, out by 12");
}

#[test]
fn netfilter_on_a_bridge_behind_the_first_is_told() {
    let mut facts = facts();
    facts.validated.insert("p22".to_owned(), flags::VALIDATE_IPV6);
    let layout = layout();
    let segments = Segments::new(&layout, &facts);
    let validated = |bridge, host| {
        let found = station(&segments, &facts.fdb, bridge, mac(host));
        found.map(|(station, _)| station.flags & flags::VALIDATE)
    };
    assert_eq!(validated(1, 12), Some(flags::VALIDATE_IPV6));
    assert_eq!(validated(2, 13), Some(0), "the sender's port has those of the first bridge");
    assert_eq!(validated(3, 12), Some(0), "that enters by the other port");
}

/// Hosts send GSO frames of up to 64 KiB, and one port takes less.
fn limit(facts: &mut NetnsState, port: u32, size: u32) {
    facts.largest_gso.size = 65_536;
    for ifindex in facts.links.keys().copied().collect::<Vec<_>>() {
        let size = if ifindex == port { size } else { 65_536 };
        facts.links.get_mut(&ifindex).expect("it is there").gso.size = size;
    }
}

#[test]
fn whatever_is_not_just_forwarding_splits_the_segment() {
    type Change = fn(&mut NetnsState);
    let changes: [(Change, NotArmed); 12] = [
        (|f| set(f, 22, P::State(BridgePortState::Blocking)), NotArmed::NotForwarding("blocking".to_owned())),
        (|f| set(f, 21, P::Learning(false)), NotArmed::PortFlag("learning off")),
        (|f| f.links.get_mut(&21).unwrap().up = false, NotArmed::Down("the port")),
        (|f| drop(f.qdiscs.insert(22, "tbf".to_owned())), NotArmed::Qdisc("tbf".to_owned())),
        (|f| f.packet_sockets.extend([21]), NotArmed::PacketSocket),
        (
            |f| drop(f.rules.insert("p22".to_owned(), "a rule".to_owned())),
            NotArmed::Rule("a rule".to_owned()),
        ),
        (|f| f.foreign.extend([21]), NotArmed::ForeignProgram),
        (|f| f.links.get_mut(&22).unwrap().xdp = XdpMode::Native, NotArmed::Xdp),
        (|f| f.reduced_offloads = Some([21].into()), NotArmed::Offloads),
        (|f| f.multiqueue = Some([21].into()), NotArmed::Multiqueue),
        (|f| limit(f, 22, 8_000), NotArmed::GsoLimits),
        (|f| f.attached.retain(|port| *port != 22), NotArmed::NotAttached),
    ];
    for (change, reason) in changes {
        let mut facts = facts();
        change(&mut facts);
        let layout = layout();
        let segments = Segments::new(&layout, &facts);
        assert_eq!(segments.trunk_states[&0], Some(reason.clone()));
        assert_eq!(segments.trunk_states[&1], None, "{reason}");
        assert_eq!((path(&facts, 1, 12), reach(&facts, 1, 11)), (None, 0b001), "{reason}");
        assert!(path(&facts, 2, 13).is_some(), "{reason}");
    }
}

#[test]
fn trunks_that_form_a_loop_are_not_crossed() {
    let mut layout = layout();
    let mut third = layout.trunks[0].clone();
    third.number = 2;
    (third.a.port, third.b.port) = ("p41".parse().unwrap(), "p42".parse().unwrap());
    layout.trunks.push(third);
    let mut facts = facts();
    facts.attached.extend([41, 42]);
    facts.links.insert(41, LinkFacts { peer: Some(42), ..port(41, 1) });
    facts.links.insert(42, LinkFacts { peer: Some(41), ..port(42, 2) });
    let segments = Segments::new(&layout, &facts);
    assert!(segments.trunk_states.values().all(|state| *state == Some(NotArmed::Loop)));
    assert!(station(&segments, &facts.fdb, 1, mac(13)).is_none());
    set(&mut facts, 42, P::State(BridgePortState::Blocking));
    let segments = Segments::new(&layout, &facts);
    assert_eq!(segments.trunk_states[&0], None, "spanning tree has opened it");
    assert!(station(&segments, &facts.fdb, 1, mac(13)).is_some());
}
