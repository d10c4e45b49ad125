//! What it costs to read a lab's counters: `vethpath stats --json` beside `ip -s -j link show` over the ports of the same
//! lab, in turns, each a process of its own. Then `stats --json --rtt` without TCP connections, and with one from each host
//! to the first.
//!
//! As root: `cargo bench --bench stats` (`-- 300` for another number of hosts than 1000).

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]

use std::{
    env,
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use vethpath::kernel::Netns;

#[path = "frames/private.rs"]
mod private;

const VETHPATH: &str = env!("CARGO_BIN_EXE_vethpath");

/// Runs of each command, and of those that ask each namespace.
const RUNS: usize = 41;
const FEWER: usize = 9;

/// A bridge notifies the state of each port again when its forward delay of 15 s expires
/// (`br_forward_delay_timer_expired` in net/bridge/br_stp_timer.c). The agent is not idle before.
const FORWARD_DELAY: Duration = Duration::from_secs(20);

const IP: &[&str] = &["ip", "-s", "-j", "link", "show"];
const STATS: &[&str] = &[VETHPATH, "stats", "readers", "--json"];
const TIMES: &[&str] = &[VETHPATH, "stats", "readers", "--json", "--rtt"];

fn main() -> ExitCode {
    if !private::is_inside() {
        return private::start();
    }
    let hosts = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1000);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("readers.toml");
    fs::write(&file, topology(hosts)).unwrap();
    let _ = timed(&[VETHPATH, "up", file.to_str().unwrap()]);
    thread::sleep(FORWARD_DELAY);

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

fn timed(command: &[&str]) -> Duration {
    let began = Instant::now();
    let mut run = Command::new(command[0]);
    let done = run.args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let (done, took) = (done.unwrap(), began.elapsed());
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    took
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

fn address(number: usize) -> String {
    format!("10.77.{}.{}", 1 + number / 200, 1 + number % 200)
}

fn topology(hosts: usize) -> String {
    let mut text = "name = \"readers\"\n[bridge.br0]\naddresses = [\"10.77.0.1/16\"]\n".to_owned();
    for number in 0..hosts {
        writeln!(
            text,
            "[namespace.h{number}]\ngateway = \"10.77.0.1\"\n[namespace.h{number}.interface.eth0]\n\
             link = \"br0\"\naddresses = [\"{}/16\"]",
            address(number)
        )
        .unwrap();
    }
    text
}
