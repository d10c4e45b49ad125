//! Hand-written frames and scripts.

use super::{
    Datapath, ONE_BRIDGE, THREE_BRIDGES,
    agent::Fate,
    generate::STATES,
    names::Address,
    operation::{Link, Operation, at_first},
    run::Run,
    script::{Frame, Part, Payload, Step, script},
};
use crate::harness::in_parallel;

/// With three bridges, one is on the first bridge and two are on the last.
const HOSTS: [usize; 3] = [0, 1, 4];

#[test]
fn every_kind_of_frame() {
    on_both(&frames(&kinds(), &receivers()));
}

#[test]
fn every_size() {
    let around = [0, 1, 4, 5, 18, 46, 1453, 1471, 1472, 1473, 1476, 1477, 1500, 1953, 1972];
    let mut payloads = Vec::new();
    for data in around {
        payloads.extend([Payload::Udp4(data), Payload::Udp6(data), Payload::Tcp4(data), Payload::Tcp6(data)]);
        payloads.push(Payload::Type(0x88b5, data));
    }
    on_both(&frames(&payloads, &[Address::Host(0), Address::Host(1), Address::Host(4), Address::Nobody(1)]));
}

#[test]
fn every_end_of_a_packet() {
    let payloads = [
        Payload::Udp4(40),
        Payload::Udp6(40),
        Payload::Tcp4(40),
        Payload::Icmp6(135),
        Payload::Fragment { six: true, part: Part::First },
        Payload::Arp { operation: 1, gratuitous: false },
        Payload::Tagged,
    ];
    let cut = |payload: &Payload| {
        let payload = payload.clone();
        (0..90).map(move |length| Frame::new(0, Address::Host(1), payload.clone()).cut(length).into())
    };
    let steps: Vec<Step> = payloads.iter().flat_map(cut).collect();
    on_both(&steps);
}

/// Sets every byte of a header to some values.
#[test]
fn every_byte_of_a_header() {
    let payloads = [Payload::Udp4(40), Payload::Tcp6(40), Payload::Icmp6(128)];
    let mut steps = Vec::new();
    for payload in payloads {
        for at in 0..44 {
            for byte in [0x00, 0x3a, 0x45, 0x46, 0x60, 0x87, 0xff] {
                steps.push(Frame::new(0, Address::Host(1), payload.clone()).twist(at, byte).into());
            }
        }
    }
    on_both(&steps);
}

#[test]
fn every_sender() {
    let bad = [
        Address::Broadcast,
        Address::Group4,
        Address::Group6,
        Address::Zero,
        Address::Bridge,
        Address::Port(0),
        Address::Port(1),
        Address::Control(0),
        Address::Nobody(1),
        Address::Behind(0, 1),
        Address::Host(1),
        Address::Host(0),
    ];
    let mut steps = Vec::new();
    for from in bad {
        for to in [Address::Host(1), Address::Host(4), from, Address::Nobody(2), Address::Broadcast] {
            for payload in [Payload::Udp4(100), Payload::Arp { operation: 1, gratuitous: true }] {
                steps.push(Frame::new(0, to, payload).from(from).into());
                steps.push(Frame::new(1, Address::Host(0), Payload::Udp6(50)).into());
            }
        }
    }
    on_both(&steps);
}

/// Failover: an address moves to another host again and again.
#[test]
fn a_station_moves() {
    let mut steps = Vec::new();
    for round in 0..12 {
        let home = [0, 1, 3, 4][round % 4];
        let vip = Address::Nobody(1);
        steps.push(
            Frame::new(home, Address::Broadcast, Payload::Arp { operation: 1, gratuitous: true })
                .from(vip)
                .into(),
        );
        for by in [0, 1, 2, 3, 4] {
            steps.push(Frame::new(by, vip, Payload::Udp4(64)).into());
            steps.push(Frame::new(home, Address::Host(by), Payload::Udp4(64)).from(vip).into());
        }
        if round % 3 == 2 {
            steps.push(Operation::Flush(None).into());
            steps.push(Frame::new(2, vip, Payload::Udp4(64)).into());
        }
    }
    on_both(&steps);
}

/// Each flag of a port on and off, and each port state, with frames in both directions after each change.
#[test]
fn every_flag_of_a_port() {
    const FLAGS: [&str; 13] = [
        "learning",
        "flood",
        "mcast_flood",
        "bcast_flood",
        "hairpin",
        "isolated",
        "locked",
        "neigh_suppress",
        "mcast_to_unicast",
        "fastleave",
        "root_block",
        "guard",
        "vlan_tunnel",
    ];
    let other_and_back =
        |flag| [!at_first(flag), at_first(flag)].map(|on| Operation::Flag { port: 0, flag, on });
    let flags = FLAGS.into_iter().flat_map(other_and_back);
    let states = STATES.map(|state| Operation::State { port: 1, state });
    let mut steps = Vec::new();
    for operation in flags.chain(states) {
        steps.push(operation.into());
        steps.extend(both_ways());
    }
    on_both(&steps);
}

/// The bridge pulls more of a packet into its linear part while any port has this flag, and after that port has left.
#[test]
fn segments_where_another_port_suppresses_neighbours() {
    let suppresses = Operation::Flag { port: 2, flag: "neigh_suppress", on: true };
    let leaves = Operation::OnBridge { port: 2, on: false };
    let segments = [false, true].into_iter().flat_map(|six| {
        [false, true].map(|tcp| {
            Frame::new(0, Address::Host(1), Payload::Segments { six, tcp, size: 1384, count: 6 }).into()
        })
    });
    let mut steps = Vec::new();
    for operation in [suppresses, leaves] {
        steps.push(operation.into());
        steps.extend(segments.clone());
        steps.extend(both_ways());
    }
    on_both(&steps);
}

#[test]
fn links_and_bridges_change() {
    let operations = [
        Operation::Up { link: Link::Port(1), on: false },
        Operation::Up { link: Link::Port(1), on: true },
        Operation::Up { link: Link::Inner(0), on: false },
        Operation::Up { link: Link::Inner(0), on: true },
        Operation::Up { link: Link::Bridge, on: false },
        Operation::Up { link: Link::Bridge, on: true },
        Operation::OnBridge { port: 0, on: false },
        Operation::OnBridge { port: 0, on: true },
        Operation::Mtu { link: Link::Inner(0), mtu: 1280 },
        Operation::Mtu { link: Link::Port(1), mtu: 1400 },
        Operation::Mtu { link: Link::Bridge, mtu: 1300 },
        Operation::Mac { link: Link::Inner(1), mac: Address::Nobody(2) },
        Operation::Mac { link: Link::Inner(1), mac: Address::Bridge },
        Operation::Mac { link: Link::Bridge, mac: Address::Host(0) },
        Operation::Mac { link: Link::Port(0), mac: Address::Host(1) },
        Operation::Promiscuous { link: Link::Bridge, on: true },
        Operation::Promiscuous { link: Link::Bridge, on: false },
        Operation::Promiscuous { link: Link::Inner(1), on: true },
        Operation::Option { option: "vlan_filtering", value: 1 },
        Operation::Option { option: "vlan_filtering", value: 0 },
        Operation::Option { option: "group_fwd_mask", value: 0xfff8 },
        Operation::Queue { port: 1, on: true },
        Operation::Queue { port: 1, on: false },
        Operation::Filter { port: 1, ingress: false, mac: Address::Host(1) },
        Operation::Filter { port: 0, ingress: true, mac: Address::Host(4) },
        Operation::Rule { port: None, mac: Address::Host(1) },
        Operation::Rule { port: Some(1), mac: Address::Host(0) },
    ];
    let mut steps = Vec::new();
    for operation in operations {
        steps.push(operation.into());
        steps.extend(both_ways());
    }
    on_both(&steps);
}

/// The agent's lease expires, and the agent continues, is killed and is replaced, without a difference.
#[test]
fn an_agent_comes_and_goes() {
    let mut steps = both_ways();
    for fate in [Fate::Stopped, Fate::Back, Fate::Replaced, Fate::Ended, Fate::Back] {
        steps.push(Step::Agent(fate));
        steps.extend(both_ways());
        steps.push(Operation::Flag { port: 0, flag: "isolated", on: fate != Fate::Back }.into());
        steps.push(Operation::Flag { port: 1, flag: "isolated", on: true }.into());
        steps.extend(both_ways());
        steps.push(Operation::Flush(None).into());
        steps.extend(both_ways());
    }
    on_both(&steps);
}

/// All payloads that a bridge or the fast path treats specially, and similar ones.
fn kinds() -> Vec<Payload> {
    let mut kinds = vec![
        Payload::Udp4(100),
        Payload::Udp6(100),
        Payload::Tcp4(100),
        Payload::Tcp6(100),
        Payload::Options4,
        Payload::Tagged,
        Payload::DoubleTagged,
    ];
    let types = [
        0x0000, 0x0026, 0x05dc, 0x05ff, 0x0600, 0x0800, 0x0806, 0x22f0, 0x8035, 0x8100, 0x86dd, 0x8808,
        0x8809, 0x8847, 0x8863, 0x888e, 0x88a8, 0x88b5, 0x88cc, 0x88e3, 0x88e5, 0x8902, 0x9100, 0x9200,
        0xffff,
    ];
    kinds.extend(
        types.iter().flat_map(|&ethertype| [Payload::Type(ethertype, 46), Payload::Type(ethertype, 3)]),
    );
    kinds.extend([1, 2, 4, 41, 47, 50, 51, 89, 112, 132].map(Payload::Inside4));
    kinds.extend([0, 4, 41, 43, 44, 47, 50, 51, 58, 59, 60, 135].map(Payload::Inside6));
    kinds.extend((128..=138).map(Payload::Icmp6));
    for six in [false, true] {
        kinds.extend([Part::First, Part::Middle, Part::Last].map(|part| Payload::Fragment { six, part }));
        for tcp in [false, true] {
            kinds.extend([0, 100, 1400].map(|data| Payload::Unsummed { six, tcp, data }));
            let sizes =
                [(536, 3), (1400, 4), (1428, 3), (1440, 3), (1448, 2), (1460, 2), (1473, 2), (2000, 5)];
            kinds.extend(sizes.map(|(size, count)| Payload::Segments { six, tcp, size, count }));
        }
    }
    for operation in [1, 2] {
        kinds.extend([false, true].map(|gratuitous| Payload::Arp { operation, gratuitous }));
    }
    kinds
}

fn receivers() -> Vec<Address> {
    let mut receivers = vec![
        Address::Host(0),
        Address::Host(1),
        Address::Host(4),
        Address::Behind(0, 1),
        Address::Behind(1, 1),
        Address::Nobody(1),
        Address::Broadcast,
        Address::Group4,
        Address::Group6,
        Address::Bridge,
        Address::Port(0),
        Address::Port(1),
        Address::Zero,
    ];
    receivers.extend([0x00, 0x01, 0x02, 0x03, 0x0e, 0x21].map(Address::Control));
    receivers
}

/// Frames from each of [`HOSTS`] to each receiver. Stations behind hosts send a frame first.
fn frames(payloads: &[Payload], receivers: &[Address]) -> Vec<Step> {
    let speaks = |end| Frame::new(end, Address::Broadcast, Payload::Udp4(20)).from(Address::Behind(end, 1));
    let mut steps: Vec<Step> = [0, 1].map(|end| speaks(end).into()).into();
    for payload in payloads {
        for by in HOSTS {
            steps.extend(receivers.iter().map(|&to| Frame::new(by, to, payload.clone()).into()));
        }
    }
    steps
}

/// A few frames between two hosts, to other receivers, and broadcast.
fn both_ways() -> Vec<Step> {
    let mut steps = Vec::new();
    for (by, other) in [(0, 1), (1, 0), (1, 1)] {
        let receivers = [
            Address::Host(other),
            Address::Host(4),
            Address::Nobody(2),
            Address::Nobody(1),
            Address::Bridge,
            Address::Group6,
            Address::Control(0x0e),
        ];
        steps.extend(receivers.map(|to| Frame::new(by, to, Payload::Udp4(60)).into()));
        steps.push(Frame::new(by, Address::Host(other), Payload::Udp6(1352)).into());
        steps.push(
            Frame::new(by, Address::Broadcast, Payload::Arp { operation: 1, gratuitous: false }).into(),
        );
    }
    steps.push(Frame::new(4, Address::Host(0), Payload::Udp4(60)).into());
    steps.push(Frame::new(4, Address::Host(1), Payload::Udp4(60)).into());
    steps
}

/// Whether it is a GSO packet: the sender's stack segments it, and GRO merges the segments again.
fn is_in_segments(step: &Step) -> bool {
    matches!(step, Step::Frame(Frame { payload: Payload::Segments { .. }, .. }))
}

const WORLDS: [(&str, bool, Datapath); 5] = [
    (ONE_BRIDGE, false, Datapath::Tc),
    (ONE_BRIDGE, true, Datapath::Tc),
    (THREE_BRIDGES, false, Datapath::Tc),
    (ONE_BRIDGE, false, Datapath::Xdp),
    (THREE_BRIDGES, true, Datapath::XdpToPrograms),
];

/// Runs the steps in all worlds in parallel.
#[track_caller]
fn on_both(steps: &[Step]) {
    let _ = in_parallel(WORLDS, |world| run_steps_in(steps, world));
}

fn run_steps_in(steps: &[Step], (topology, netfilter, datapath): (&str, bool, Datapath)) {
    let mut run = Run::by(datapath, topology, netfilter);
    // The fast path skips no bridge that has not learned the stations.
    let speaks = |end| Frame::new(end, Address::Broadcast, Payload::Udp4(20)).into();
    let steps: Vec<_> =
        steps.iter().filter(|step| datapath != Datapath::Xdp || !is_in_segments(step)).cloned().collect();
    let steps = &[(0..run.names().ends.len()).map(speaks).collect(), steps].concat();
    if let Err(difference) = run.run_script(steps) {
        let before = difference.strip_prefix("after step ").and_then(|rest| rest.split(' ').next());
        let step: usize = before.and_then(|number| number.parse().ok()).unwrap_or(steps.len());
        let netfilter = if netfilter { ", with netfilter" } else { "" };
        let bridges = run.names().bridges().count();
        let last = &steps[step.saturating_sub(20)..step];
        panic!(
            "{bridges} bridges{netfilter} by {datapath:?}: {difference}\nthe last steps:\n{}",
            script(last)
        );
    }
    assert!(run.tally.fast > 0, "void: nothing was fast");
    assert!(run.is_by_its_datapath(), "void: {:?} is not by {datapath:?}", run.tally);
}
