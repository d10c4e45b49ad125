//! The lease, and what the program writes of a station: where its frames went in an epoch.

use vethpath_common::{Config, Seen};

use super::{
    bench::{Bench, now_ns},
    case::{TC_ACT_REDIRECT, TC_ACT_UNSPEC},
    frames::Frame,
    world::{Agent, EPOCH, Port, STALE},
};

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
fn each_bridge_on_the_way_is_noted() {
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
fn what_the_bridge_gets_is_not_noted_for_it_sees_that_itself() {
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

#[test]
fn a_lease_runs_out_by_itself() {
    let mut bench = Bench::new();
    let lease = Config { lease_until_ns: now_ns() + 300_000_000, ..Agent::Well.config(0) };
    bench.config(lease);
    crate::harness::wait_for(crate::harness::SLACK, "the lease does not end", || {
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
