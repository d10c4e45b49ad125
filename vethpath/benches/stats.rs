//! What it costs to read a lab's counters: `vethpath stats --json` beside `ip -s -j link show` over the ports of the same
//! lab, in turns, each a process of its own. Then `stats --json --rtt` without TCP connections, and with one from each host
//! to the first.
//!
//! As root: `cargo bench --bench stats` (`-- 300` for another number of hosts than 1000).

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    time::Duration,
};

use hosts::{VETHPATH, address, timed};
use vethpath::kernel::Netns;

#[path = "frames/hosts.rs"]
mod hosts;
#[path = "frames/private.rs"]
mod private;

/// Runs of each command, and of those that ask each namespace.
const RUNS: usize = 41;
const FEWER: usize = 9;

const IP: &[&str] = &["ip", "-s", "-j", "link", "show"];
const STATS: &[&str] = &[VETHPATH, "stats", "readers", "--json"];
const TIMES: &[&str] = &[VETHPATH, "stats", "readers", "--json", "--rtt"];

fn main() -> ExitCode {
    if !private::is_inside() {
        return private::start();
    }
    let hosts = hosts::numbers(&[1000])[0];
    let _ = hosts::up("readers", "", hosts);
    hosts::settle();

    println!("| of {hosts} pairs | least | median | to `ip` by the median |");
    println!("|---|---|---|---|");
    let [ip, stats] = in_turns([IP, STATS], RUNS);
    let [without] = in_turns([TIMES], FEWER);
    let connections = connect(hosts);
    let [with] = in_turns([TIMES], FEWER);
    for (name, times) in [
        ("`ip -s -j link show`", &ip),
        ("`stats --json`", &stats),
        ("`stats --json --rtt`", &without),
        ("the same with a TCP connection for each", &with),
    ] {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let ratio = times.median.as_secs_f64() / ip.median.as_secs_f64();
        println!("| {name} | {:.1} ms | {:.1} ms | {ratio:.2} |", ms(times.least), ms(times.median));
    }
    println!("| at most, `stats --json` | | | 0.70 |");
    drop(connections);
    let _ = timed(&[VETHPATH, "down", "readers"]);
    ExitCode::SUCCESS
}

/// The times of one command.
struct Times {
    least: Duration,
    median: Duration,
}

/// Runs commands in turns, the first round for nothing.
fn in_turns<const N: usize>(commands: [&[&str]; N], runs: usize) -> [Times; N] {
    let mut times: [Vec<Duration>; N] = std::array::from_fn(|_| Vec::new());
    for round in 0..=runs {
        for (command, times) in commands.iter().zip(&mut times) {
            let took = timed(command);
            if round > 0 {
                times.push(took);
            }
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        Times { least: times[0], median: times[runs / 2] }
    })
}

/// Connections from each host to the first one.
fn connect(hosts: usize) -> Vec<TcpStream> {
    let inside = |number: usize| {
        let name = format!("h{number}");
        Netns::open(format!("/run/netns/{name}").as_ref(), &name).unwrap()
    };
    let listener = inside(0).run(|| TcpListener::bind("0.0.0.0:7000")).unwrap().unwrap();
    let at: SocketAddr = format!("{}:7000", address(0)).parse().unwrap();
    let both = (1..hosts).flat_map(|number| {
        let client = inside(number).run(|| TcpStream::connect(at)).unwrap().unwrap();
        [client, listener.accept().unwrap().0]
    });
    both.collect()
}
