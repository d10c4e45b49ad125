//! Whole round trips by every way there is between two hosts of one bridge, to tell what the mechanism
//! allows from what the program costs: a cable, the plain bridge, the bridge with programs that leave
//! the frame to it, a program that redirects to a constant, programs that do a part of what the port program
//! does and then the same, the fast path, and that with 10,000 stations.
//!
//! Messages of 64 bytes by UDP or TCP, both ends on one CPU, slices in random order, with new sockets in each
//! round. The agent is ended and this holds the lease, so that nobody but this touches programs and maps. Each
//! program is there several times, at several addresses, in turns.
//!
//! With `nf` bridges call netfilter. With `stats` the kernel counts how long each run of a program takes
//! (`BPF_ENABLE_STATS`), and that is printed; its own look at the clock makes round trips longer.
//!
//! As root: `cargo bench --bench limit [-- SECONDS] [tcp] [nf] [stats]`

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]

mod copies;
mod lab;
mod pingpong;
mod said;
#[expect(dead_code, unused_imports, reason = "bench uses more of it, and tests it")]
#[path = "../../src/bench/statistics.rs"]
mod statistics;
mod way;

use std::{collections::BTreeMap, time::Duration};

use aya::sys::{Stats, enable_stats};
use lab::Lab;
use pingpong::{PingPong, Protocol};
use said::Slices;
use way::Way;

/// The length of one slice, of which a tenth is warm-up.
const SLICE: Duration = Duration::from_millis(60);

fn main() {
    if lab::must_move() {
        return;
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let is_said = |word: &str| words.iter().any(|one| one == word);
    let seconds = words.iter().find_map(|word| word.parse().ok()).unwrap_or(60);
    let protocol = if is_said("tcp") { Protocol::Tcp } else { Protocol::Udp };
    let mut ways = Way::all(is_said("nf"));
    let statistics = is_said("stats").then(|| enable_stats(Stats::RunTime).unwrap());
    if statistics.is_some() {
        ways.retain(|way| way.program().is_some());
    }
    let mut lab = Lab::up(is_said("nf"));
    let mut slices = Slices::new();
    let mut places: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let round = SLICE * u32::try_from(ways.len()).unwrap();
    let rounds =
        usize::try_from(Duration::from_secs(seconds).as_millis() / round.as_millis()).unwrap().max(1);
    for number in 0..rounds {
        // Where sockets are in memory makes them faster or slower for as long as they are there.
        let by_bridge = PingPong::between(lab::BRIDGED, protocol);
        let by_cable = PingPong::between(lab::CABLED, protocol);
        fastrand::shuffle(&mut ways);
        for &way in &ways {
            let before = lab.fast_frames();
            let place = lab.take(way, number);
            let exchange = if way == Way::Cable { &by_cable } else { &by_bridge };
            let figure = if statistics.is_some() {
                a_run(&mut lab, way, number, exchange)
            } else {
                exchange.slice(SLICE)
            };
            lab.leave(way);
            let fast = lab.fast_frames() - before;
            // Neighbours ask each other now and then whether they are still there.
            assert_eq!(fast > 100, way.is_fast(), "{way:?}: {fast} frames took the fast path");
            slices.entry(way).or_default().push(figure);
            if way == Way::Fast {
                places.entry(place).or_default().push(figure);
            }
        }
    }
    drop(lab);
    if statistics.is_some() {
        said::runs(SLICE, &slices);
    } else {
        said::round_trips(protocol, SLICE, &slices);
        said::places(&places);
    }
}

/// How long a run of the way's program takes, in nanoseconds: the mean of a slice.
fn a_run(lab: &mut Lab, way: Way, number: usize, exchange: &PingPong) -> f64 {
    let (time, count) = lab.runs(way, number);
    exchange.slice(SLICE);
    let (time_after, count_after) = lab.runs(way, number);
    assert!(count_after - count > 100, "{way:?}: the program has not run");
    (time_after - time).as_nanos() as f64 / (count_after - count) as f64
}
