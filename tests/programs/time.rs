//! The lease, and what the program writes to a station's entry: where its frames went in an epoch.

use vethpath_common::{AWAY_NS, Config, Reason, Seen, UNCONFIRMED};

use super::{
    bench::{Bench, now_ns},
    case::{TC_ACT_REDIRECT, TC_ACT_UNSPEC},
    frames::Frame,
    world::{Agent, EPOCH, Port, STALE},
};
use crate::harness::{SLACK, wait_for, wait_until};

const NOTHING: [Seen; 2] = [Seen { bridges: 0, epoch: 0, zero: 0 }; 2];

fn seen(bridges: u64, epoch: u32) -> Seen {
    Seen { bridges, epoch, zero: 0 }
}

#[test]
fn the_source_is_seen_and_the_destination_is_not() {
    let mut bench = Bench::new();
    assert_eq!(bench.run(&Frame::udp4(0)).action, TC_ACT_REDIRECT);
    assert_eq!(bench.seen(Port::A, 1), [seen(0b01, EPOCH), seen(0, 0)]);
    assert_eq!(bench.seen(Port::A, 2), NOTHING);
    assert_eq!(bench.seen(Port::B, 1), NOTHING, "a silent destination must age");
}

#[test]
fn each_bridge_on_the_path_is_recorded() {
    let mut bench = Bench::new();
    let _ = bench.run(&Frame::udp4(0).to(Port::Far.mac(1)));
    assert_eq!(bench.seen(Port::A, 1)[0], seen(0b11, EPOCH));
    let _ = bench.run(&Frame::udp4(0));
    assert_eq!(bench.seen(Port::A, 1)[0], seen(0b11, EPOCH), "in one epoch it adds up");
}

#[test]
fn an_epoch_begins_with_nothing_and_keeps_the_last_one() {
    let mut bench = Bench::new();
    let mut run_in = |epoch, to: Port| {
        bench.config(Config { epoch, ..Agent::Well.config(now_ns()) });
        let _ = bench.run(&Frame::udp4(0).to(to.mac(1)));
        bench.seen(Port::A, 1)
    };
    let first = seen(0b11, EPOCH);
    assert_eq!(run_in(EPOCH, Port::Far), [first, seen(0, 0)]);
    assert_eq!(run_in(EPOCH + 1, Port::B), [first, seen(0b01, EPOCH + 1)]);
    assert_eq!(run_in(EPOCH + 2, Port::B), [seen(0b01, EPOCH + 2), seen(0b01, EPOCH + 1)]);
}

#[test]
fn frames_left_to_the_bridge_are_not_recorded() {
    let mut bench = Bench::new();
    let frames = [
        Frame::udp4(0).to(Port::Elsewhere.mac(1)),
        Frame::udp4(0).sized(2000),
        Frame::udp4(0).from(Port::A.mac(STALE)),
        Frame::raw(0x0806, &[0; 28]),
    ];
    for frame in &frames {
        assert_eq!(bench.run(frame).action, TC_ACT_UNSPEC);
    }
    bench.agent(Agent::Gone);
    assert_eq!(bench.run(&Frame::udp4(0)).action, TC_ACT_UNSPEC);
    assert_eq!(bench.seen(Port::A, 1), NOTHING);
    assert_eq!(bench.seen(Port::A, STALE), NOTHING);
}

/// The bridge learns from a station's first frame of any kind on another port, before the agent can know. From then on,
/// frames to and from the old port are left to the bridge.
#[test]
fn a_station_seen_on_another_port_is_left_to_the_bridge() {
    let to_a = || Frame::udp4(0).at(Port::B).from(Port::B.mac(1)).to(Port::A.mac(1));
    let from_a = || Frame::udp4(0);
    let elsewhere = [
        Frame::udp4(0).at(Port::Alone),
        Frame::raw(0x0806, &[0; 28]).at(Port::Alone).to([0xff; 6]),
        Frame::udp4(0).at(Port::Unarmed),
        Frame::udp4(0).at(Port::Far),
    ];
    for frame in elsewhere.map(|frame| frame.from(Port::A.mac(1))) {
        let (mut bench, before, ran, until) = wait_until(SLACK, || {
            let mut bench = Bench::new();
            assert_eq!(bench.run(&to_a()).action, TC_ACT_REDIRECT);
            let before = now_ns();
            assert_eq!(bench.run(&frame).action, TC_ACT_UNSPEC, "{frame:?}");
            let run = |bench: &mut Bench, frame: &Frame, port: Port| {
                let ran = bench.run(frame);
                (ran.action, ran.counted[port.pair() as usize].slow[Reason::Moved as usize].packets)
            };
            let from_far = Frame::udp4(0).at(Port::Far).from(Port::Far.mac(1)).to(Port::A.mac(1));
            let ran = [(from_a(), Port::A), (to_a(), Port::B), (from_far, Port::Far)]
                .map(|(frame, port)| run(&mut bench, &frame, port));
            let near = if frame.port == Port::Far { Port::Far } else { Port::A };
            let until = bench.station(near, Port::A.mac(1)).away_until_ns;
            // A slow test may have run some of them after that time.
            if until != 0 && now_ns() >= until {
                return Err("it was too slow".to_owned());
            }
            Ok((bench, before, ran, until))
        });
        let far = frame.port == Port::Far;
        // Seen on another bridge: A's own bridge still leads to A, as on plain bridges. The path to A from the other
        // bridge is left to the bridges in any case.
        let to_a = if far { (TC_ACT_REDIRECT, 0) } else { (TC_ACT_UNSPEC, 1) };
        assert_eq!(ran, [(TC_ACT_UNSPEC, 1), to_a, (TC_ACT_UNSPEC, 1)], "{frame:?}");
        assert!((before + AWAY_NS..=now_ns() + AWAY_NS).contains(&until), "{before} {until}");
        // Other stations are not affected.
        assert_eq!(bench.run(&Frame::udp4(0).from(Port::A.mac(2))).action, TC_ACT_REDIRECT);
    }
}

/// A blocked trunk receives frames that were flooded over another.
#[test]
fn a_station_seen_where_the_bridge_does_not_learn_is_not_away() {
    let mut bench = Bench::new();
    bench.disable_learning(Port::Alone);
    let frame = Frame::udp4(0).at(Port::Alone).from(Port::A.mac(1));
    assert_eq!(bench.run(&frame).action, TC_ACT_UNSPEC);
    assert_eq!(bench.station(Port::A, Port::A.mac(1)).away_until_ns, 0);
    assert_eq!(bench.run(&Frame::udp4(0)).action, TC_ACT_REDIRECT);
}

#[test]
fn a_station_seen_where_it_is_known_is_not_away() {
    let mut bench = Bench::new();
    for frame in [Frame::raw(0x0806, &[0; 28]), Frame::udp4(0).to([0xff; 6]), Frame::udp4(0).sized(2000)] {
        assert_eq!(bench.run(&frame).action, TC_ACT_UNSPEC);
    }
    assert_eq!(bench.station(Port::A, Port::A.mac(1)).away_until_ns, 0);
    assert_eq!(bench.run(&Frame::udp4(0)).action, TC_ACT_REDIRECT);
}

/// An announced entry is used as soon as it is confirmed, in a slot or in a hash map.
#[test]
fn an_entry_is_away_until_its_announcement_is_confirmed() {
    for mut bench in [Bench::new(), Bench::hashed()] {
        let mut is_fast = |until, as_sender, confirmed| {
            bench.reset();
            let port = if as_sender { Port::A } else { Port::B };
            bench.set_away(port, 1, as_sender, until);
            bench.config(Config { confirmed, ..Agent::Well.config(now_ns()) });
            let ran = bench.run(&Frame::udp4(0));
            let moved = ran.counted[Port::A.pair() as usize].slow[Reason::Moved as usize].frames == 1;
            assert_ne!(moved, ran.action == TC_ACT_REDIRECT, "{ran:?}");
            !moved
        };
        for as_sender in [false, true] {
            let used = [0, 4, 5, 6, u32::MAX].map(|confirmed| is_fast(UNCONFIRMED | 5, as_sender, confirmed));
            assert_eq!(used, [false, false, true, true, true], "as the sender: {as_sender}");
            assert!(is_fast(0, as_sender, 0) && !is_fast(u64::MAX, as_sender, u32::MAX - 1));
        }
    }
}

/// A station moves while its entry is announced: the time that the program writes outlives the confirmation.
#[test]
fn a_move_replaces_an_announcement() {
    for mut bench in [Bench::new(), Bench::hashed()] {
        for as_sender in [false, true] {
            bench.set_away(Port::A, 1, as_sender, UNCONFIRMED | 5);
        }
        let before = now_ns();
        assert_eq!(bench.run(&Frame::udp4(0).at(Port::Alone).from(Port::A.mac(1))).action, TC_ACT_UNSPEC);
        let is_away = (before + AWAY_NS..=now_ns() + AWAY_NS).contains(&bench.away(Port::A, 1, false));
        assert!(is_away && bench.away(Port::A, 1, true) == bench.away(Port::A, 1, false));
    }
}

#[test]
fn a_lease_runs_out_by_itself() {
    let mut bench = Bench::new();
    let lease = Config { lease_until_ns: now_ns() + 300_000_000, ..Agent::Well.config(0) };
    bench.config(lease);
    wait_for(SLACK, "the lease does not end", || {
        let before = now_ns();
        let action = bench.run(&Frame::udp4(0)).action;
        let after = now_ns();
        // The program's time lies between the two.
        assert!(action == TC_ACT_REDIRECT || after >= lease.lease_until_ns, "it ended early");
        assert!(action == TC_ACT_UNSPEC || before < lease.lease_until_ns, "it did not end");
        action == TC_ACT_UNSPEC
    });
    bench.agent(Agent::Well);
    assert_eq!(bench.run(&Frame::udp4(0)).action, TC_ACT_REDIRECT, "a lease can be renewed");
}
