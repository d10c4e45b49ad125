//! Ports that another program plugs into an accelerated bridge: the time from the command that puts a port on the bridge
//! to its first fast frame, and what the agent costs while a hundred such ports are idle.
//!
//! What is behind the port sends a datagram each millisecond to a host on the bridge, as soon as its interface is up, and
//! knows that host's MAC. The programs' counters are polled each half millisecond. Engines set the inner end up after the
//! port has joined, and so does this.
//!
//! As root: `cargo bench --bench guests` (`-- 200` for another number of trials than 50). It needs `ip`. The bridge is in
//! private namespaces, which end with the benchmark.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]

use std::{
    collections::BTreeMap,
    env, fs,
    net::UdpSocket,
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use vethpath::{
    datapath::{Counters, Pins},
    kernel::Netns,
    state::{Directory, Record},
};
use vethpath_common::MatrixKey;

#[path = "frames/private.rs"]
mod private;

const VETHPATH: &str = env!("CARGO_BIN_EXE_vethpath");
const LAB: &str = "accelerate-br0";

/// Trials without an argument.
const TRIALS: usize = 50;

/// The MAC of the host that receives.
const RECEIVER: &str = "02:00:00:00:00:01";

/// Idle ports, and how long the agent is measured with them.
const PORTS: usize = 100;
const IDLE: Duration = Duration::from_secs(30);

/// A bridge notifies the state of each port again when its forward delay of 15 s expires
/// (`br_forward_delay_timer_expired` in net/bridge/br_stp_timer.c). The agent is not idle before.
const FORWARD_DELAY: Duration = Duration::from_secs(20);

/// A trial that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Clock ticks per second (USER_HZ).
const TICKS: f64 = 100.0;

fn main() -> ExitCode {
    if !private::is_inside() {
        return private::start();
    }
    let trials = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(TRIALS);
    run("ip", "link add br0 type bridge");
    run("ip", "link set br0 up");
    make(0);
    join(0);
    run(VETHPATH, "accelerate br0");
    let counters = Counters::open(&Pins::of(&LAB.parse().unwrap())).unwrap();
    let mut times: Vec<f64> = (0..trials).map(|at| trial(at % 200 + 1, &counters)).collect();
    times.sort_by(f64::total_cmp);
    println!("| first fast frame after a port has joined | median | 90th percentile | longest | at most |");
    println!("|---|---|---|---|---|");
    println!(
        "| {trials} ports, one after the other | {:.0} ms | {:.0} ms | {:.0} ms | median 300 ms |",
        times[trials / 2],
        times[trials * 9 / 10],
        times[trials - 1]
    );
    (1..PORTS).for_each(|number| {
        make(number);
        join(number);
    });
    let agent = fs::read_to_string(format!("/run/vethpath/{LAB}/agent.lock")).unwrap();
    thread::sleep(FORWARD_DELAY);
    let before = ticks(&agent);
    thread::sleep(IDLE);
    let used = (ticks(&agent) - before) / TICKS / IDLE.as_secs_f64() * 100.0;
    println!("\n| {PORTS} idle guest ports | agent CPU | agent memory |\n|---|---|---|");
    println!("| | {used:.2} % | {:.1} MB |\n| at most | 0.50 % | 20.0 MB |", memory(&agent));
    ExitCode::SUCCESS
}

fn run(program: &str, arguments: &str) {
    let done = Command::new(program).args(arguments.split(' ')).stdout(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A namespace with one end of a veth pair, of which neither is up.
fn make(number: usize) {
    run("ip", &format!("netns add g{number}"));
    run("ip", &format!("link add v{number} type veth peer name eth0 netns g{number}"));
    run("ip", &format!("-n g{number} addr add 10.77.{}.{}/16 dev eth0", number / 200, number % 200 + 1));
    if number == 0 {
        run("ip", &format!("-n g0 link set eth0 address {RECEIVER}"));
    } else {
        // An ARP request that is too early is repeated after a second only, on any bridge.
        run("ip", &format!("-n g{number} neigh add 10.77.0.1 lladdr {RECEIVER} dev eth0 nud permanent"));
    }
}

fn join(number: usize) {
    run("ip", &format!("link set v{number} master br0 up"));
    run("ip", &format!("-n g{number} link set eth0 up"));
}

/// Milliseconds from the command to the first fast frame.
fn trial(number: usize, counters: &Counters) -> f64 {
    make(number);
    let netns = Netns::open(Path::new(&format!("/run/netns/g{number}")), "a guest").unwrap();
    let stop = AtomicBool::new(false);
    let took = thread::scope(|scope| {
        let send = || {
            netns.run(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                while !stop.load(Ordering::Relaxed) {
                    // There is no route before the interface is up.
                    let _ = socket.send_to(b"x", "10.77.0.1:9");
                    thread::sleep(Duration::from_millis(1));
                }
            })
        };
        let sender = scope.spawn(send);
        let (before, began) = (fast(counters), Instant::now());
        join(number);
        let has_grown = |(key, frames): (&MatrixKey, &u64)| before.get(key).is_none_or(|then| then < frames);
        while !fast(counters).iter().any(has_grown) && began.elapsed() < TIMEOUT {
            thread::sleep(Duration::from_micros(500));
        }
        let took = began.elapsed();
        stop.store(true, Ordering::Relaxed);
        sender.join().unwrap().unwrap();
        took
    });
    assert!(took < TIMEOUT, "no frame was fast");
    run("ip", &format!("link del v{number}"));
    run("ip", &format!("netns del g{number}"));
    // The next one begins when this one has left, plus some of the second in which the agent also does something.
    thread::sleep(Duration::from_millis(300 + number as u64 * 37 % 1000));
    took.as_secs_f64() * 1e3
}

/// Frames that took the fast path, but for those of ports that have left: they are moved to another number.
fn fast(counters: &Counters) -> BTreeMap<MatrixKey, u64> {
    let record = Record::read(&Directory::of(&LAB.parse().unwrap())).unwrap().unwrap();
    let former = record.topology.guests.unwrap().former;
    let matrix = counters.matrix().unwrap();
    matrix.cells().filter(|(key, _)| key.from != former).map(|(key, count)| (key, count.frames)).collect()
}

/// The CPU time that a process has used, in clock ticks.
fn ticks(pid: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().map(str::to_owned).collect();
    fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()
}

/// Resident memory in MB.
fn memory(pid: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
