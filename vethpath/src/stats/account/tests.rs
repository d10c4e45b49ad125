use std::collections::BTreeMap;

use vethpath_common::Count as Programs;

use super::*;
use crate::stats::Count;

fn inner(sent: (u64, u64), received: (u64, u64)) -> LinkCounters {
    LinkCounters { sent, received, ..LinkCounters::default() }
}

fn counters(fast_tx: Programs, fast_rx: Programs, slow: &[(Reason, Programs)]) -> PairCounters {
    let mut counters = PairCounters { fast_tx, fast_rx, ..PairCounters::default() };
    for (reason, count) in slow {
        counters.slow[*reason as usize] = *count;
    }
    counters
}

const NONE: Lost = Lost { redirected: 0, refused: 0 };

const fn programs(frames: u64, packets: u64, bytes: u64) -> Programs {
    Programs { frames, packets, bytes }
}

#[track_caller]
fn balances(traffic: &Traffic) {
    let sum = |by_reason: &BTreeMap<&str, u64>| by_reason.values().sum::<u64>();
    assert_eq!(traffic.tx.packets, traffic.fast.tx.packets + sum(&traffic.slow), "{traffic:#?}");
    assert_eq!(traffic.tx.frames, traffic.fast.tx.frames + sum(&traffic.slow_frames), "{traffic:#?}");
    assert_eq!(traffic.tx.bytes, traffic.fast.tx.bytes + sum(&traffic.slow_bytes), "{traffic:#?}");
    assert!(traffic.rx.frames >= traffic.fast.rx.frames && traffic.rx.packets >= traffic.fast.rx.packets);
    assert!(traffic.slow.values().all(|&packets| packets > 0), "{traffic:#?}");
}

/// The worked example of `docs/stats.md`.
#[test]
fn the_documented_example() {
    let link = inner((1_012, 10_001_240), (508, 40_000));
    let programs = counters(
        programs(1_000, 7_000, 10_000_000),
        programs(500, 500, 33_000),
        &[(Reason::Arp, programs(2, 2, 84)), (Reason::Group, programs(6, 6, 700))],
    );
    let traffic = account(Some(&link), &programs, NONE, (0, 0));
    balances(&traffic);
    assert_eq!(traffic.tx, Count { frames: 1_012, packets: 7_012, bytes: 10_001_240 });
    assert_eq!(traffic.rx, Count { frames: 508, packets: 508, bytes: 40_000 });
    assert_eq!(traffic.fast.tx, Count { frames: 1_000, packets: 7_000, bytes: 10_000_000 });
    assert_eq!(traffic.slow, BTreeMap::from([("arp", 2), ("group", 6), ("unseen", 4)]));
    assert_eq!(traffic.slow_frames, traffic.slow);
    assert_eq!(traffic.slow_bytes, BTreeMap::from([("arp", 84), ("group", 700), ("unseen", 456)]));
}

#[test]
fn nothing_sent_nothing_told() {
    let traffic = account(Some(&inner((0, 0), (0, 0))), &PairCounters::default(), NONE, (0, 0));
    assert_eq!(traffic, Traffic::default());
}

#[test]
fn a_gso_frame_on_the_slow_path_is_its_segments_too() {
    let programs =
        counters(Programs::default(), Programs::default(), &[(Reason::Lease, programs(3, 120, 150_000))]);
    let traffic = account(Some(&inner((3, 150_000), (0, 0))), &programs, NONE, (0, 0));
    balances(&traffic);
    assert_eq!(traffic.tx, Count { frames: 3, packets: 120, bytes: 150_000 });
    assert_eq!((traffic.slow["lease"], traffic.slow_frames["lease"]), (120, 3));
    assert!(!traffic.slow.contains_key(UNSEEN));
}

/// One frame by the bridge, whose segments are unknown, and two by the fast path with 40 segments each.
#[test]
fn received_gso_frames_are_their_segments_where_the_fast_path_delivered_them() {
    let programs = counters(Programs::default(), programs(2, 80, 100_000), &[]);
    let traffic = account(Some(&inner((0, 0), (3, 150_000))), &programs, NONE, (0, 0));
    balances(&traffic);
    assert_eq!(traffic.rx, Count { frames: 3, packets: 81, bytes: 150_000 });
}

/// The kernel's counters were read first. The program counted two more frames since, one of them with 3 segments.
#[test]
fn frames_under_way_are_never_lost() {
    let programs = counters(programs(12, 14, 1_300), programs(7, 7, 700), &[]);
    let traffic = account(Some(&inner((10, 1_000), (6, 600))), &programs, NONE, (0, 0));
    balances(&traffic);
    assert_eq!(traffic.tx, Count { frames: 12, packets: 14, bytes: 1_300 });
    assert_eq!(traffic.rx, Count { frames: 7, packets: 7, bytes: 700 });
    assert!(traffic.slow.is_empty());
}

#[test]
fn without_programs_all_is_unseen() {
    let traffic = account(Some(&inner((10, 1_000), (6, 600))), &PairCounters::default(), NONE, (0, 0));
    balances(&traffic);
    assert_eq!(traffic.slow, BTreeMap::from([(UNSEEN, 10)]));
    assert_eq!(traffic.rx, Count { frames: 6, packets: 6, bytes: 600 });
}

/// Ten frames of 100 bytes were redirected. Two were dropped because the ring was full. Three were dropped because
/// the inner end was not ready, or came from the bridge. The kernel counts the rest.
#[test]
fn what_was_dropped_on_the_way_was_not_received() {
    let programs = counters(Programs::default(), programs(10, 10, 1_000), &[]);
    let lost = Lost { redirected: 2, refused: 3 };
    let traffic = account(Some(&inner((0, 0), (5, 500))), &programs, lost, (0, 0));
    balances(&traffic);
    assert_eq!(traffic.rx, Count { frames: 5, packets: 5, bytes: 500 });
    assert_eq!(traffic.fast.rx, traffic.rx);
    // The refused frames came from the bridge.
    let traffic = account(Some(&inner((0, 0), (8, 800))), &programs, lost, (0, 0));
    balances(&traffic);
    assert_eq!(traffic.fast.rx, Count { frames: 8, packets: 8, bytes: 800 });
    // All redirected frames were dropped.
    let traffic = account(None, &programs, Lost { redirected: 12, refused: 1 }, (0, 0));
    balances(&traffic);
    assert_eq!(traffic.rx, Count::default());
}

/// The kernel's counters are gone with the inner end. The programs' counters remain.
#[test]
fn without_an_inner_end_the_programs_counts_stand() {
    let programs =
        counters(programs(12, 14, 1_300), programs(7, 9, 700), &[(Reason::Arp, programs(1, 1, 42))]);
    let traffic = account(None, &programs, NONE, (0, 0));
    balances(&traffic);
    assert_eq!(traffic.tx, Count { frames: 13, packets: 15, bytes: 1_342 });
    assert_eq!(traffic.rx, Count { frames: 7, packets: 9, bytes: 700 });
}

#[test]
fn each_reason_has_its_own_line() {
    let mut programs = PairCounters::default();
    for (count, frames) in programs.slow.iter_mut().zip(1..) {
        *count = Programs { frames, packets: frames * 2, bytes: frames * 100 };
    }
    let traffic = account(None, &programs, NONE, (0, 0));
    balances(&traffic);
    assert_eq!(traffic.slow.len(), Reason::COUNT);
    assert!(!Reason::ALL.iter().any(|reason| reason.name() == UNSEEN), "the name is ours");
}

/// Seven packets that reached the bridge as two frames, and three that the tc program redirected as one.
#[test]
fn what_gro_put_together_behind_xdp_is_counted_apart() {
    let programs = || {
        counters(
            programs(5, 7, 9_000),
            Programs::default(),
            &[(Reason::UnknownDestination, programs(2, 7, 8_000)), (Reason::Arp, programs(1, 1, 42))],
        )
    };
    let sent = |frames| apart(programs(), frames, 0);
    let traffic = account(Some(&inner((15, 20_000), (0, 0))), &sent(15), NONE, (0, 0));
    balances(&traffic);
    assert_eq!((traffic.tx.frames, traffic.tx.packets), (15, 15));
    assert_eq!((traffic.fast.tx.frames, traffic.fast.tx.packets), (7, 7));
    assert_eq!(traffic.slow, BTreeMap::from([("unknown-destination", 7), ("arp", 1)]), "nothing is unseen");
    // More frames were sent before any program saw them.
    let traffic = account(Some(&inner((20, 30_000), (0, 0))), &sent(20), NONE, (0, 0));
    balances(&traffic);
    assert_eq!((traffic.tx.frames, traffic.slow[UNSEEN]), (20, 5));
    // These were GSO frames when they were sent, before the pair was on XDP.
    assert_eq!(sent(8), programs());
    balances(&account(Some(&inner((10, 20_000), (0, 0))), &sent(10), NONE, (0, 0)));
}

/// Two of ten frames were unseen. Three more were sent between the reads of the kernel's and of the programs' counters.
#[test]
fn frames_under_way_hide_no_unseen_ones_that_are_known() {
    let (link, programs) =
        (inner((10, 1_000), (0, 0)), counters(programs(11, 11, 1_100), Programs::default(), &[]));
    assert!(account(Some(&link), &programs, NONE, (0, 0)).slow.is_empty());
    let traffic = account(Some(&link), &programs, NONE, (2, 200));
    balances(&traffic);
    assert_eq!(traffic.tx, Count { frames: 13, packets: 13, bytes: 1_300 });
    assert_eq!((traffic.slow[UNSEEN], traffic.slow_bytes[UNSEEN]), (2, 200));
    // What is found beyond that is unseen too.
    let traffic = account(Some(&inner((15, 1_500), (0, 0))), &programs, NONE, (2, 200));
    assert_eq!((traffic.tx.frames, traffic.slow[UNSEEN], traffic.slow_bytes[UNSEEN]), (15, 4, 400));
}

/// Ten unseen frames from a time without programs are no merged ones.
#[test]
fn known_unseen_frames_are_not_counted_as_segments() {
    let programs = counters(programs(5, 50, 50_000), Programs::default(), &[]);
    assert_eq!(apart(programs, 15, 0).fast_tx.frames, 15);
    assert_eq!(apart(programs, 15, 10), programs);
    assert_eq!(apart(programs, 18, 10).fast_tx.frames, 8);
}
