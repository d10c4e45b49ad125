//! Fixed data for the tests of printers.

use crate::stats::{Agent, Count, Pair, State, Stats, Traffic, Ways};

const fn count(packets: u64) -> Count {
    Count { frames: packets, packets, bytes: packets * 100 }
}

/// An account of three pairs: fast, slow, idle.
pub(crate) fn stats() -> Stats {
    let fast = Traffic {
        tx: count(1_234_567),
        rx: count(1_234_560),
        fast: Ways { tx: count(1_234_549), rx: count(1_234_549) },
        slow: [("arp", 2), ("group", 9), ("lease", 1), ("nd", 4), ("unseen", 2)].into(),
        slow_frames: [("arp", 2), ("group", 9), ("lease", 1), ("nd", 4), ("unseen", 2)].into(),
    };
    let slow = Traffic {
        tx: count(1_000),
        rx: count(12),
        slow: [("port", 1_000)].into(),
        slow_frames: [("port", 1_000)].into(),
        ..Traffic::default()
    };
    let pair = |number: u8, traffic, state| Pair {
        name: format!("ns{number}:eth0"),
        port: format!("vp000000000{number}").parse().unwrap(),
        bridge: "docker0".parse().unwrap(),
        traffic,
        state,
    };
    Stats {
        lab: "three-hosts".parse().unwrap(),
        agent: Agent { alive: true, pid: Some(4242), lease_ms: 3_000, lease_left_ms: 2_500 },
        pairs: vec![
            pair(0, fast, State::Armed),
            pair(1, slow, State::NotArmed("a packet socket on the port".to_owned())),
            pair(2, Traffic::default(), State::Armed),
        ],
    }
}
