//! Round trips over every path between two hosts of one bridge, to separate the cost of the mechanism from that of the
//! program: a cable, the plain bridge, the bridge after programs that pass the frame, a program that redirects to a
//! constant, programs that do a part of the port program's work first, the fast path, and the fast path with 10,000
//! stations.
//!
//! Messages of 64 bytes by UDP or TCP, both ends on one CPU, slices in random order, new sockets in each round. The
//! agent is ended and this process holds the lease, so that no other process changes programs and maps. Each program is
//! loaded several times, at different addresses, which take turns.
//!
//! With `nf` bridges call netfilter. With `stats` the kernel measures each run of a program (`BPF_ENABLE_STATS`), and
//! those times are printed; reading the clock for it makes round trips longer.
//!
//! As root: `cargo bench --bench limit [-- SECONDS] [tcp] [nf] [stats]`

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]

mod copies;
mod lab;
mod output;
mod path;
mod pingpong;
#[path = "../frames/private.rs"]
mod private;

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use aya::sys::{Stats, enable_stats};
use lab::Lab;
use output::Slices;
use path::Path;
use pingpong::{PingPong, Protocol};

/// The length of one slice. A tenth of it is warm-up.
const SLICE: Duration = Duration::from_millis(60);

fn main() -> ExitCode {
    if !private::is_inside() {
        return private::start();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_given = |word: &str| arguments.iter().any(|argument| argument == word);
    let seconds = arguments.iter().find_map(|word| word.parse().ok()).unwrap_or(60);
    let protocol = if is_given("tcp") { Protocol::Tcp } else { Protocol::Udp };
    let mut paths = Path::all(is_given("nf"));
    let statistics = is_given("stats").then(|| enable_stats(Stats::RunTime).unwrap());
    if statistics.is_some() {
        paths.retain(|path| path.program().is_some());
    }
    let mut lab = Lab::up(is_given("nf"));
    let mut slices = Slices::new();
    let mut places: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let round = SLICE * u32::try_from(paths.len()).unwrap();
    let rounds =
        usize::try_from(Duration::from_secs(seconds).as_millis() / round.as_millis()).unwrap().max(1);
    for number in 0..rounds {
        // The memory addresses of sockets change their speed while they exist.
        let by_bridge = PingPong::between(lab::BRIDGED, protocol);
        let by_cable = PingPong::between(lab::CABLED, protocol);
        fastrand::shuffle(&mut paths);
        for &path in &paths {
            let before = lab.fast_frames();
            let place = lab.take(path, number);
            let exchange = if path == Path::Cable { &by_cable } else { &by_bridge };
            let figure = if statistics.is_some() {
                a_run(&mut lab, path, number, exchange)
            } else {
                exchange.slice(SLICE)
            };
            lab.leave(path);
            let fast = lab.fast_frames() - before;
            // Neighbour probes may add a few frames.
            assert_eq!(fast > 100, path.is_fast(), "{path:?}: {fast} frames took the fast path");
            slices.entry(path).or_default().push(figure);
            if path == Path::Fast {
                places.entry(place).or_default().push(figure);
            }
        }
    }
    drop(lab);
    if statistics.is_some() {
        output::runs(SLICE, &slices);
    } else {
        output::round_trips(protocol, SLICE, &slices);
        output::places(&places);
    }
    ExitCode::SUCCESS
}

/// The mean run time of the path's program in a slice, in nanoseconds.
fn a_run(lab: &mut Lab, path: Path, number: usize, exchange: &PingPong) -> f64 {
    let (time, count) = lab.runs(path, number);
    exchange.slice(SLICE);
    let (time_after, count_after) = lab.runs(path, number);
    assert!(count_after - count > 100, "{path:?}: the program has not run");
    (time_after - time).as_nanos() as f64 / (count_after - count) as f64
}
