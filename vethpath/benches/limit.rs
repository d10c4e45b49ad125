//! Whole round trips by every way there is between two hosts of one bridge, to tell what the mechanism
//! allows from what the program costs: a cable, the plain bridge, the bridge with a program that leaves
//! the frame to it, a program that redirects to a constant, programs that do a part of what the port program
//! does and then the same, the fast path, and that with 10,000 stations.
//!
//! Messages of 64 bytes by UDP or TCP, both ends on one CPU, slices in random order. The agent is ended and
//! this holds the lease, so that nobody but this touches programs and maps. Each program is there several
//! times, at several addresses, in turns.
//!
//! As root: `cargo bench --bench limit [-- SECONDS] [tcp]`

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]

#[path = "limit/copies.rs"]
mod copies;
#[path = "limit/lab.rs"]
mod lab;
#[path = "limit/pingpong.rs"]
mod pingpong;
#[path = "limit/ratio.rs"]
mod ratio;
#[path = "limit/way.rs"]
mod way;

use std::{collections::BTreeMap, time::Duration};

use lab::Lab;
use pingpong::{PingPong, Protocol};
use ratio::Ratio;
use way::Way;

/// The length of one slice, of which a tenth is warm-up.
const SLICE: Duration = Duration::from_millis(60);

/// What is compared with what, and what it says.
const RATIOS: [(&str, Way, Way); 6] = [
    ("fast over constant", Way::Fast, Way::Constant),
    ("fast over cable", Way::Fast, Way::Cable),
    ("constant over cable", Way::Constant, Way::Cable),
    ("bridge over cable", Way::Bridge, Way::Cable),
    ("slow path with programs over plain bridge", Way::Slow, Way::Bridge),
    ("fast with 10,000 stations over with few", Way::FastOfMany, Way::Fast),
];

/// What remains of the bridge's cost, by way.
const REMOVED: [(&str, Way); 2] =
    [("overhead removed, fast path", Way::Fast), ("overhead removed, constant", Way::Constant)];

fn main() {
    if lab::must_move() {
        return;
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let seconds = words.iter().find_map(|word| word.parse().ok()).unwrap_or(60);
    let protocol = if words.iter().any(|word| word == "tcp") { Protocol::Tcp } else { Protocol::Udp };
    let mut lab = Lab::up();
    let (by_bridge, by_cable) =
        (PingPong::between(lab::BRIDGED, protocol), PingPong::between(lab::CABLED, protocol));
    let mut slices: BTreeMap<Way, Vec<f64>> = BTreeMap::new();
    let mut places: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let round = SLICE * u32::try_from(Way::ALL.len()).unwrap();
    let rounds =
        usize::try_from(Duration::from_secs(seconds).as_millis() / round.as_millis()).unwrap().max(1);
    let mut order = Way::ALL;
    for number in 0..rounds {
        fastrand::shuffle(&mut order);
        for way in order {
            let before = lab.fast_frames();
            let place = lab.take(way, number);
            let exchange = if way == Way::Cable { &by_cable } else { &by_bridge };
            let slice = exchange.slice(SLICE);
            lab.leave(way);
            let fast = lab.fast_frames() - before;
            // Neighbours ask each other now and then whether they are still there.
            assert_eq!(fast > 100, way.is_fast(), "{way:?}: {fast} frames took the fast path");
            slices.entry(way).or_default().push(slice);
            if way.is_fast() {
                places.entry(place).or_default().push(slice);
            }
        }
    }
    drop(lab);
    print(protocol, &slices);
    println!("fast path, by where the kernel has put the programs of the two ports");
    for (place, slices) in places {
        println!("{:>8.3}  {place}", ratio::median(&slices));
    }
}

fn print(protocol: Protocol, slices: &BTreeMap<Way, Vec<f64>>) {
    println!(
        "{protocol:?}, {} rounds of {} ms a way; microseconds, median of the slices' medians",
        slices[&Way::Cable].len(),
        SLICE.as_millis()
    );
    for (way, slices) in slices {
        println!("{:>8.3}  {}", ratio::median(slices), way.name());
    }
    for (what, one, other) in RATIOS {
        println!("{:>8}  {what}", Ratio::of(slices[&one].iter().zip(&slices[&other]).map(|(a, b)| a / b)));
    }
    for (what, way) in REMOVED {
        let paired = slices[&Way::Bridge].iter().zip(&slices[&Way::Cable]).zip(&slices[&way]);
        println!(
            "{:>8}  {what}",
            Ratio::of(paired.map(|((bridge, cable), way)| (bridge - way) / (bridge - cable)))
        );
    }
}
