//! Prints the results by path.

use std::{collections::BTreeMap, time::Duration};

use vethpath_figures::statistics::{Interval, median, overhead_removed, ratio};

use super::{pingpong::Protocol, way::Way};

/// The figures by path, one per round.
pub(crate) type Slices = BTreeMap<Way, Vec<f64>>;

/// The ratios to print, with their names.
const RATIOS: [(&str, Way, Way); 10] = [
    ("fast over constant", Way::Fast, Way::Constant),
    ("fast over cable", Way::Fast, Way::Cable),
    ("constant over cable", Way::Constant, Way::Cable),
    ("bridge over cable", Way::Bridge, Way::Cable),
    ("a program that only passes over plain bridge", Way::Passed, Way::Bridge),
    ("slow path with programs over plain bridge", Way::Slow, Way::Bridge),
    ("slow path of unknown senders over plain bridge", Way::SlowOfUnknown, Way::Bridge),
    ("fast over fast without netfilter's checks", Way::Fast, Way::Unchecked),
    ("fast with 10,000 stations over with few", Way::FastOfMany, Way::Fast),
    ("fast with 10,000 stations, in hash maps, over with few", Way::FastAmongOthers, Way::Fast),
];

/// The removed overheads to print, with their names.
const REMOVED: [(&str, Way); 2] =
    [("overhead removed, fast path", Way::Fast), ("overhead removed, constant", Way::Constant)];

/// Prints round trips and the ratios of the paths.
pub(crate) fn round_trips(protocol: Protocol, slice: Duration, slices: &Slices) {
    println!(
        "{protocol:?}, {} rounds of {} ms a way; microseconds, median of the slices' medians",
        slices[&Way::Cable].len(),
        slice.as_millis()
    );
    for (way, slices) in slices {
        println!("{:>8.3}  {}", middle(slices), way.name());
    }
    for (what, one, other) in RATIOS {
        if let (Some(one), Some(other)) = (slices.get(&one), slices.get(&other)) {
            println!("{}  {what}", said(ratio(one, other)));
        }
    }
    for (what, way) in REMOVED {
        let removed = overhead_removed(&slices[&Way::Cable], &slices[&Way::Bridge], &slices[&way]);
        println!("{}  {what}", said(removed));
    }
}

/// Prints the run times of the programs.
pub(crate) fn runs(slice: Duration, slices: &Slices) {
    let rounds = slices[&Way::Fast].len();
    println!(
        "{rounds} rounds of {} ms a way; a run as the kernel counts it, median of the slices",
        slice.as_millis()
    );
    for (way, slices) in slices {
        println!("{:>5.1} ns  {}", middle(slices), way.name());
    }
}

/// Prints the fast path's round trips by the programs' addresses.
pub(crate) fn places(places: &BTreeMap<String, Vec<f64>>) {
    println!("fast path, by where the kernel has put the programs of the two ports");
    for (place, slices) in places {
        println!("{:>8.3}  {place}", middle(slices));
    }
}

fn middle(slices: &[f64]) -> f64 {
    median(slices.to_vec()).unwrap()
}

fn said(interval: Option<Interval>) -> String {
    interval.map_or_else(
        || "none".to_owned(),
        |Interval { value, low, high }| format!("{value:.3} ({low:.3} to {high:.3})"),
    )
}
