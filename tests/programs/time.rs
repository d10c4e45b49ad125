//! The lease and what the program writes of a station: both are time.

use vethpath_common::Config;

use super::{
    bench::{Bench, now_ns},
    case::{TC_ACT_REDIRECT, TC_ACT_UNSPEC},
    frames::Frame,
    world::{Agent, Port, STALE},
};

#[test]
fn the_source_is_seen_and_the_destination_is_not() {
    let mut bench = Bench::new();
    let before = now_ns();
    assert_eq!(bench.run(&Frame::udp4(0)).action, TC_ACT_REDIRECT);
    let seen = bench.seen_ns(Port::A, 1);
    assert!((before..=now_ns()).contains(&seen), "{before} {seen}");
    assert_eq!(bench.seen_ns(Port::A, 2), 0);
    assert_eq!(bench.seen_ns(Port::B, 1), 0, "a silent destination must age");
}

#[test]
fn a_source_is_seen_anew() {
    let mut bench = Bench::new();
    let _ = bench.run(&Frame::udp4(0));
    let first = bench.seen_ns(Port::A, 1);
    crate::harness::wait_for(crate::harness::SLACK, "the program's clock stands", || {
        let _ = bench.run(&Frame::udp4(0));
        bench.seen_ns(Port::A, 1) > first
    });
}

#[test]
fn a_source_is_seen_even_if_the_bridge_gets_the_frame() {
    let mut bench = Bench::new();
    assert_eq!(bench.run(&Frame::udp4(0).to(Port::Elsewhere.mac(1))).action, TC_ACT_UNSPEC);
    assert_ne!(bench.seen_ns(Port::A, 1), 0);
}

#[test]
fn what_is_not_looked_up_is_not_seen() {
    let mut bench = Bench::new();
    let _ = bench.run(&Frame::udp4(0).from(Port::A.mac(STALE)));
    assert_eq!(bench.seen_ns(Port::A, STALE), 0);
    let _ = bench.run(&Frame::raw(0x0806, &[0; 28]));
    assert_eq!(bench.seen_ns(Port::A, 1), 0);
    bench.agent(Agent::Gone);
    let _ = bench.run(&Frame::udp4(0));
    assert_eq!(bench.seen_ns(Port::A, 1), 0);
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
