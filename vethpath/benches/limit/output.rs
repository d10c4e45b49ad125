//! Prints the results by path.

use std::{collections::BTreeMap, time::Duration};

use vethpath_figures::statistics::{Interval, median, overhead_removed, ratio};

use super::{path::Path, pingpong::Protocol};

/// The figures by path, one per round.
pub(crate) type Slices = BTreeMap<Path, Vec<f64>>;

/// The ratios to print, with their names.
const RATIOS: [(&str, Path, Path); 10] = [
    ("fast over constant", Path::Fast, Path::Constant),
    ("fast over cable", Path::Fast, Path::Cable),
    ("constant over cable", Path::Constant, Path::Cable),
    ("bridge over cable", Path::Bridge, Path::Cable),
    ("a program that only passes over plain bridge", Path::Passed, Path::Bridge),
    ("slow path with programs over plain bridge", Path::Slow, Path::Bridge),
    ("slow path of unknown senders over plain bridge", Path::SlowOfUnknown, Path::Bridge),
    ("fast over fast without netfilter's checks", Path::Fast, Path::Unchecked),
    ("fast with 10,000 stations over with few", Path::FastOfMany, Path::Fast),
    ("fast with 10,000 stations, in hash maps, over with few", Path::FastAmongOthers, Path::Fast),
];

/// The removed overheads to print, with their names.
const REMOVED: [(&str, Path); 2] =
    [("overhead removed, fast path", Path::Fast), ("overhead removed, constant", Path::Constant)];

/// Prints round trips and the ratios of the paths.
pub(crate) fn round_trips(protocol: Protocol, slice: Duration, slices: &Slices) {
    println!(
        "{protocol:?}, {} rounds of {} ms a way; microseconds, median of the slices' medians",
        slices[&Path::Cable].len(),
        slice.as_millis()
    );
    for (path, slices) in slices {
        println!("{:>8.3}  {}", middle(slices), path.name());
    }
    for (what, one, other) in RATIOS {
        if let (Some(one), Some(other)) = (slices.get(&one), slices.get(&other)) {
            println!("{}  {what}", shown(ratio(one, other)));
        }
    }
    for (what, path) in REMOVED {
        let removed = overhead_removed(&slices[&Path::Cable], &slices[&Path::Bridge], &slices[&path]);
        println!("{}  {what}", shown(removed));
    }
}

/// Prints the run times of the programs.
pub(crate) fn runs(slice: Duration, slices: &Slices) {
    let rounds = slices[&Path::Fast].len();
    println!(
        "{rounds} rounds of {} ms a way; a run as the kernel counts it, median of the slices",
        slice.as_millis()
    );
    for (path, slices) in slices {
        println!("{:>5.1} ns  {}", middle(slices), path.name());
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

fn shown(interval: Option<Interval>) -> String {
    interval.map_or_else(
        || "none".to_owned(),
        |Interval { value, low, high }| format!("{value:.3} ({low:.3} to {high:.3})"),
    )
}
