//! What it costs to scrape a lab's metrics: a GET in both formats beside `ip -s -j link show` over the ports of the same
//! lab, in turns. The time of `ip` has its start and exit in it, that of a scrape has the connection.
//!
//! As root: `cargo bench --bench scrape` (`-- 300` for another number of hosts than 1000).

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use hosts::{VETHPATH, timed};

#[path = "frames/hosts.rs"]
mod hosts;
#[path = "frames/private.rs"]
mod private;

const ADDRESS: &str = "127.0.0.1:9466";

/// Runs of each.
const RUNS: usize = 41;

fn main() -> ExitCode {
    if !private::is_inside() {
        return private::start();
    }
    let hosts = hosts::numbers(&[1000])[0];
    let _ = hosts::up("scrape", &format!("metrics = \"{ADDRESS}\"\n"), hosts);
    hosts::settle();
    let cases: [(&str, &dyn Fn() -> Duration); 3] = [
        ("`ip -s -j link show`", &|| timed(&["ip", "-s", "-j", "link", "show"])),
        ("a scrape as OpenMetrics", &|| scrape("Accept: application/openmetrics-text; version=1.0.0\r\n")),
        ("a scrape as text", &|| scrape("")),
    ];
    let mut times: [Vec<Duration>; 3] = Default::default();
    // The first round fills caches.
    for round in 0..=RUNS {
        for (number, (_, case)) in cases.iter().enumerate() {
            let took = case();
            if round > 0 {
                times[number].push(took);
            }
            // The process that reads rests as long as it has read. No one scrapes that soon again.
            thread::sleep(took);
        }
    }
    for times in &mut times {
        times.sort_unstable();
    }
    println!("| of {hosts} pairs | least | median | to `ip` by the median |");
    println!("|---|---|---|---|");
    for ((name, _), times_of) in cases.iter().zip(&times) {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (median, of_ip) = (times_of[RUNS / 2], times[0][RUNS / 2]);
        let ratio = median.as_secs_f64() / of_ip.as_secs_f64();
        println!("| {name} | {:.1} ms | {:.1} ms | {ratio:.2} |", ms(times_of[0]), ms(median));
    }
    println!("| at most, a scrape | | | 0.70 |");
    let _ = timed(&[VETHPATH, "down", "scrape"]);
    ExitCode::SUCCESS
}

/// How long a scrape took.
fn scrape(header: &str) -> Duration {
    let began = Instant::now();
    let mut stream = TcpStream::connect(ADDRESS).unwrap();
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {ADDRESS}\r\n{header}\r\n").as_bytes()).unwrap();
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response).unwrap();
    let took = began.elapsed();
    assert!(response.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&response));
    took
}
