//! Compares medians of `vethpath bench` with those of two independent programs: a ping-pong in C, and sockperf. They
//! use the same labs in turns, over the fast path and over a plain bridge.
//!
//! The ping-pong runs first, in the middle and last. If its results on one CPU show that the machine's speed has
//! changed, the round is discarded and reported.
//!
//! As root: `cargo bench --bench others -- ROUNDS`. It needs `cc` and `sockperf`, and runs in private network, mount and
//! pid namespaces. With one CPU it measures nothing across CPUs.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]

use std::{
    fs,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use vethpath_figures::statistics;

#[path = "../frames/private.rs"]
mod private;

/// A lab for each path, with the number in its addresses.
const PATHS: [(&str, &str, u8); 2] = [("fast", "tc", 1), ("bridge", "bridge", 2)];
const WORK: [&str; 2] = ["udp", "tcp"];

/// Measuring time of each program, in seconds. The minimum of `bench` and sockperf is one. Across CPUs round trips vary
/// more, so all measure longer.
const BENCH_SECONDS: [&str; 2] = ["1", "3"];
const C_SECONDS: [&str; 2] = ["0.15", "1"];
const SOCKPERF_SECONDS: &str = "1";

/// The limit for the ratio of the longest to the shortest ping-pong of a round, on one CPU.
const STEADY: f64 = 1.04;

/// Attempts per valid round.
const ATTEMPTS: usize = 6;

/// Start-up time of all sockperf servers.
const READY: Duration = Duration::from_secs(1);

/// The path, protocol and CPUs of a measurement.
struct Case {
    path: &'static str,
    number: u8,
    work: &'static str,
    cores: &'static str,
    cpus: [usize; 2],
    /// The port of sockperf. The C program uses the next one.
    port: u16,
}

/// Microseconds per round trip in one round: by `bench`, by the C program (the median of its turns) and, on one CPU, by
/// sockperf, which takes more than three seconds to measure half a second.
struct Figures {
    bench: f64,
    by_c: f64,
    sockperf: Option<f64>,
}

fn main() -> ExitCode {
    if !private::is_inside() {
        return private::start();
    }
    let rounds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(5);
    // Bridges do not call netfilter. The file does not exist without br_netfilter.
    let _ = fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
    let pingpong = "/run/pingpong";
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/others/pingpong.c");
    let _ = printed(Command::new("cc").args(["-O2", "-o", pingpong, source]));
    for (path, datapath, number) in PATHS {
        let file = format!("/run/{path}.toml");
        fs::write(&file, lab(path, datapath, number)).unwrap();
        let _ = printed(vethpath().args(["up", &file]));
    }
    let cases = cases();
    let servers: Vec<_> = cases.iter().flat_map(|case| case.servers(pingpong)).collect();
    thread::sleep(READY);
    let (mut found, mut aside) = ((0..cases.len()).map(|_| Vec::new()).collect::<Vec<_>>(), 0);
    // Interleaved, so that a temporary disturbance affects all cases.
    for attempt in 0..ATTEMPTS * rounds {
        for (case, found) in cases.iter().zip(&mut found) {
            if found.len() < rounds {
                match case.round(pingpong) {
                    Some(figures) => found.push(figures),
                    None => aside += 1,
                }
            }
        }
        if found.iter().all(|found| found.len() == rounds) {
            break;
        }
        assert!(attempt + 1 < ATTEMPTS * rounds, "the machine is not quiet: {aside} rounds were put aside");
    }
    print(&cases, &found, aside);
    drop(servers);
    for (path, ..) in PATHS {
        let _ = printed(vethpath().args(["down", path]));
    }
    ExitCode::SUCCESS
}

/// Prints a line for each case. Ratios are medians of the rounds' ratios, with minimum and maximum.
fn print(cases: &[Case], found: &[Vec<Figures>], aside: usize) {
    let rounds = found[0].len();
    println!(
        "medians of {rounds} rounds; microseconds a round trip of 64 bytes; {aside} rounds were put aside"
    );
    println!("{:<20}{:>8}{:>8}{:>10}{:>24}{:>24}", "", "bench", "C", "sockperf", "bench/C", "bench/sockperf");
    for (case, found) in cases.iter().zip(found) {
        let name = format!("{}, {}, {}", case.work.to_uppercase(), case.path, case.cores);
        let all = |figure: fn(&Figures) -> Option<f64>| found.iter().map(figure).collect::<Option<Vec<_>>>();
        let of = |figure| all(figure).map_or_else(|| "-".to_owned(), |all| format!("{:.2}", median(all)));
        let ratio = |figure| all(figure).map_or_else(|| "-".to_owned(), spread);
        println!(
            "{name:<20}{:>8}{:>8}{:>10}{:>24}{:>24}",
            of(|figures| Some(figures.bench)),
            of(|figures| Some(figures.by_c)),
            of(|figures| figures.sockperf),
            ratio(|figures| Some(figures.bench / figures.by_c)),
            ratio(|figures| figures.sockperf.map(|sockperf| figures.bench / sockperf)),
        );
    }
}

/// The median, minimum and maximum.
fn spread(all: Vec<f64>) -> String {
    let least = all.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = all.iter().copied().fold(0.0, f64::max);
    format!("{:.3} ({least:.3} to {greatest:.3})", median(all))
}

/// All cases, on the CPUs that `bench` uses.
fn cases() -> Vec<Case> {
    let cpus = thread::available_parallelism().unwrap().get();
    let placements = [("same", [cpus - 1; 2]), ("cross", [cpus - 1, cpus.saturating_sub(2)])];
    let mut cases = Vec::new();
    let mut port = 7000;
    for work in WORK {
        for (path, _, number) in PATHS {
            for &(cores, cpus) in placements.iter().take(cpus) {
                port += 2;
                cases.push(Case { path, number, work, cores, cpus, port });
            }
        }
    }
    cases
}

impl Case {
    /// The servers, which run until they are dropped.
    fn servers(&self, pingpong: &str) -> [Server; 2] {
        let (to, port, next) = (self.address(2), self.port.to_string(), (self.port + 1).to_string());
        let mut by_c = self.inside(1);
        by_c.args([pingpong, "answer", self.work, &to, &next]);
        let mut sockperf = self.inside(1);
        sockperf.args(["sockperf", "server", "-i", &to, "-p", &port]).args(self.tcp());
        [Server::start(&mut by_c), Server::start(&mut sockperf)]
    }

    /// Runs each program in sequence. `None` if the machine's speed has changed meanwhile.
    fn round(&self, pingpong: &str) -> Option<Figures> {
        let on_one = self.cores == "same";
        let mut by_c = vec![self.by_c(pingpong)];
        let bench = self.by_bench();
        by_c.push(self.by_c(pingpong));
        let sockperf = on_one.then(|| self.by_sockperf());
        by_c.extend(on_one.then(|| self.by_c(pingpong)));
        let (least, greatest) = by_c.iter().fold((f64::INFINITY, 0.0_f64), |(a, b), &c| (a.min(c), b.max(c)));
        let is_steady = !on_one || greatest <= least * STEADY;
        is_steady.then(|| Figures { bench, by_c: median(by_c), sockperf })
    }

    fn by_bench(&self) -> f64 {
        let (work, seconds) = (format!("{}-rr", self.work), BENCH_SECONDS[usize::from(self.cores != "same")]);
        let arguments =
            ["bench", self.path, "--work", &work, "--cores", self.cores, "--seconds", seconds, "--json"];
        let report: Value = serde_json::from_str(&printed(vethpath().args(arguments))).unwrap();
        // The figure in the first line of its output.
        let rounds = report["cases"][0]["latency"][self.path]["round_p50_us"].as_array().unwrap();
        median(rounds.iter().filter_map(Value::as_f64).collect())
    }

    fn by_c(&self, pingpong: &str) -> f64 {
        let (to, port) = (self.address(2), (self.port + 1).to_string());
        let seconds = C_SECONDS[usize::from(self.cores != "same")];
        let mut client = self.inside(0);
        let text = printed(client.args([pingpong, "ask", self.work, &to, &port, seconds]));
        text.trim().parse().unwrap()
    }

    fn by_sockperf(&self) -> f64 {
        let (to, port) = (self.address(2), self.port.to_string());
        let mut client = self.inside(0);
        client.args(["sockperf", "ping-pong", "-i", &to, "-p", &port, "-t", SOCKPERF_SECONDS]);
        let text = printed(client.args(["--msg-size", "64", "--full-rtt"]).args(self.tcp()));
        let (_, after) = text.split_once("percentile 50.000 =").unwrap_or_else(|| panic!("{text}"));
        after.split_whitespace().next().unwrap().parse().unwrap()
    }

    fn tcp(&self) -> Option<&'static str> {
        (self.work == "tcp").then_some("--tcp")
    }

    fn address(&self, host: u8) -> String {
        format!("10.88.{}.{host}", self.number)
    }

    /// A command in the namespace and on the CPU of one end.
    fn inside(&self, end: usize) -> Command {
        let mut command = Command::new("ip");
        let namespace = format!("{}-{}", self.path, ["a", "b"][end]);
        command.args(["netns", "exec", &namespace, "taskset", "-c", &self.cpus[end].to_string()]);
        command
    }
}

/// A server process, which runs until this is dropped.
struct Server(Child);

impl Server {
    fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The namespaces default to reno, which any namespace may use. sockperf cannot set it, and a connection that starts
/// with BBR stays paced until it is closed.
fn lab(path: &str, datapath: &str, number: u8) -> String {
    let mut text = format!("name = \"{path}\"\n[bridge.{path}0]\ndatapath = \"{datapath}\"\n");
    for (end, host) in [("a", 1), ("b", 2)] {
        text += &format!(
            "[namespace.{path}-{end}]\nsysctls = {{ \"net.ipv4.tcp_congestion_control\" = \"reno\" }}\n\
             [namespace.{path}-{end}.interface.eth0]\nlink = \"{path}0\"\n\
             addresses = [\"10.88.{number}.{host}/24\"]\n"
        );
    }
    text
}

fn vethpath() -> Command {
    Command::new(env!("CARGO_BIN_EXE_vethpath"))
}

fn printed(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn median(figures: Vec<f64>) -> f64 {
    statistics::median(figures).unwrap()
}
