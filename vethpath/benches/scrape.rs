//! What it costs to scrape a lab's metrics: a GET in both formats beside `ip -s -j link show` over the ports of the same
//! lab, in turns. The time of `ip` has its start and exit in it, that of a scrape has the connection.
//!
//! As root: `cargo bench --bench scrape` (`-- 300` for another number of hosts than 1000).

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]

use std::{
    env,
    fmt::Write as _,
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

#[path = "frames/private.rs"]
mod private;

const VETHPATH: &str = env!("CARGO_BIN_EXE_vethpath");

const ADDRESS: &str = "127.0.0.1:9466";

/// Runs of each.
const RUNS: usize = 41;

/// A bridge notifies the state of each port again when its forward delay of 15 s expires
/// (`br_forward_delay_timer_expired` in net/bridge/br_stp_timer.c). The agent is not idle before.
const FORWARD_DELAY: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    if !private::is_inside() {
        return private::start();
    }
    let hosts = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1000);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scrape.toml");
    fs::write(&file, topology(hosts)).unwrap();
    let _ = run(&[VETHPATH, "up", file.to_str().unwrap()]);
    thread::sleep(FORWARD_DELAY);
    let cases: [(&str, &dyn Fn() -> usize); 3] = [
        ("`ip -s -j link show`", &|| run(&["ip", "-s", "-j", "link", "show"])),
        ("a scrape as OpenMetrics", &|| scrape("Accept: application/openmetrics-text; version=1.0.0\r\n")),
        ("a scrape as text", &|| scrape("")),
    ];
    let mut times: [Vec<Duration>; 3] = Default::default();
    let mut lengths = [0; 3];
    // The first round fills caches.
    for round in 0..=RUNS {
        for (number, (_, case)) in cases.iter().enumerate() {
            let began = Instant::now();
            lengths[number] = case();
            if round > 0 {
                times[number].push(began.elapsed());
            }
        }
    }
    for times in &mut times {
        times.sort_unstable();
    }
    println!("| of {hosts} pairs | bytes | least | median | to `ip` by the median |");
    println!("|---|---|---|---|---|");
    for (((name, _), times_of), length) in cases.iter().zip(&times).zip(lengths) {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (median, of_ip) = (times_of[RUNS / 2], times[0][RUNS / 2]);
        let ratio = median.as_secs_f64() / of_ip.as_secs_f64();
        println!("| {name} | {length} | {:.1} ms | {:.1} ms | {ratio:.2} |", ms(times_of[0]), ms(median));
    }
    println!("| at most, a scrape | | | | 0.70 |");
    let _ = run(&[VETHPATH, "down", "scrape"]);
    ExitCode::SUCCESS
}

/// The number of bytes that a command prints.
fn run(command: &[&str]) -> usize {
    let done = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout.len()
}

/// The number of bytes of the response.
fn scrape(header: &str) -> usize {
    let mut stream = TcpStream::connect(ADDRESS).unwrap();
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {ADDRESS}\r\n{header}\r\n").as_bytes()).unwrap();
    let mut response = Vec::new();
    let length = stream.read_to_end(&mut response).unwrap();
    assert!(response.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&response));
    length
}

fn topology(hosts: usize) -> String {
    let mut text = format!("metrics = \"{ADDRESS}\"\n[bridge.br0]\naddresses = [\"10.77.0.1/16\"]\n");
    for number in 0..hosts {
        let address = format!("10.77.{}.{}", 1 + number / 200, 1 + number % 200);
        writeln!(
            text,
            "[namespace.h{number}]\ngateway = \"10.77.0.1\"\n[namespace.h{number}.interface.eth0]\n\
             link = \"br0\"\naddresses = [\"{address}/16\"]"
        )
        .unwrap();
    }
    text
}
