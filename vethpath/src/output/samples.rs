//! Fixed data for the tests of printers.

use std::collections::BTreeSet;

use crate::{
    show::{Bridge, Cable, Interface, Lab, Leads, LinkState, Namespace, Port, Trunk},
    stats::{Agent, Count, Directions, Pair, State, Stats, Traffic},
    topology::Datapath,
};

const fn count(packets: u64) -> Count {
    Count { frames: packets, packets, bytes: packets * 100 }
}

fn agent() -> Agent {
    Agent {
        alive: true,
        pid: Some(4242),
        lease_ms: 3_000,
        lease_left_ms: 2_500,
        capabilities: vec!["CAP_NET_ADMIN".to_owned()],
        drops: BTreeSet::new(),
    }
}

/// An account of three pairs: fast, slow, idle.
pub(crate) fn stats() -> Stats {
    let fast = Traffic {
        tx: count(1_234_567),
        rx: count(1_234_560),
        fast: Directions { tx: count(1_234_549), rx: count(1_234_549) },
        slow: [("arp", 2), ("group", 9), ("lease", 1), ("nd", 4), ("unseen", 2)].into(),
        slow_frames: [("arp", 2), ("group", 9), ("lease", 1), ("nd", 4), ("unseen", 2)].into(),
        slow_bytes: [("arp", 200), ("group", 900), ("lease", 100), ("nd", 400), ("unseen", 200)].into(),
    };
    let slow = Traffic {
        tx: count(1_000),
        rx: count(12),
        slow: [("port", 1_000)].into(),
        slow_frames: [("port", 1_000)].into(),
        slow_bytes: [("port", 100_000)].into(),
        ..Traffic::default()
    };
    let pair = |number: u8, traffic, state| Pair {
        name: format!("ns{number}:eth0"),
        port: format!("vp000000000{number}").parse().unwrap(),
        bridge: "docker0".parse().unwrap(),
        datapath: Datapath::Tc,
        guest: false,
        behind: None,
        traffic,
        dropped: None,
        mostly_slow: None,
        rtt: None,
        state,
    };
    Stats {
        lab: "three-hosts".parse().unwrap(),
        agent: agent(),
        pairs: vec![
            pair(0, fast, State::Armed),
            pair(1, slow, State::NotArmed("a packet socket on the port".to_owned())),
            pair(2, Traffic::default(), State::Armed),
        ],
        former: None,
        trunks: Vec::new(),
    }
}

/// A lab with a problem in every part.
pub(crate) fn lab() -> Lab {
    let interface = |name: &str, peer: Option<&str>, mac: &str, state, addresses: &[&str]| Interface {
        name: name.to_owned(),
        peer: peer.map(str::to_owned),
        state,
        mac: Some(mac.to_owned()),
        mtu: 1500,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    };
    let addresses = ["10.0.0.1/24", "fd00::1/64"];
    let eth0 = interface("eth0", Some("vp0000000000"), "02:00:00:00:00:01", LinkState::Up, &addresses);
    let namespace = |name: &str, present, interfaces| Namespace {
        name: name.to_owned(),
        present,
        stopped: false,
        adopted: None,
        interfaces,
        routes: Vec::new(),
    };
    let port = |name: &str, leads_to, link, bridge_state, state| Port {
        name: name.to_owned(),
        leads_to,
        behind: None,
        link,
        bridge_state,
        state,
        mostly_slow: None,
        note: None,
    };
    let pair = |name: &str| Leads::Pair(name.to_owned());
    let gone = State::NotArmed("the port does not exist".to_owned());
    Lab {
        lab: "three-hosts".parse().unwrap(),
        agent: agent(),
        metrics: None,
        namespaces: vec![
            namespace("ns0", true, vec![eth0]),
            namespace("ns1", true, vec![Interface::missing("eth0")]),
            namespace("empty", true, Vec::new()),
            namespace("gone", false, Vec::new()),
        ],
        bridges: vec![Bridge {
            namespace: "host".to_owned(),
            adopted: false,
            nat: true,
            interface: interface("br0", None, "02:00:00:00:00:02", LinkState::NoCarrier, &[]),
            ports: vec![
                port("vp0000000000", pair("ns0:eth0"), LinkState::Up, Some("forwarding"), State::Armed),
                port("vp0000000001", pair("ns1:eth0"), LinkState::Missing, None, gone),
                port("vp0000000002", Leads::Trunk("br1".to_owned()), LinkState::Up, None, State::Armed),
                port("tap0", Leads::Elsewhere, LinkState::Down, Some("disabled"), State::of_foreign()),
            ],
        }],
        cables: vec![Cable {
            a: "ns0:eth1".to_owned(),
            b: "host:v0".to_owned(),
            state: LinkState::NoCarrier,
        }],
        trunks: vec![Trunk {
            a: "br0".to_owned(),
            a_port: "vp0000000002".to_owned(),
            b: "br1".to_owned(),
            b_port: "vp0000000003".to_owned(),
            state: LinkState::Up,
        }],
        drift: vec!["~ change interface host:tap0: down -> up".to_owned()],
    }
}
