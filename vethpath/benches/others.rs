//! Medians of `vethpath bench` beside those of two programs that share nothing with it: a ping-pong in C, and
//! sockperf. The same labs, in turns, over the fast path and over a plain bridge.
//!
//! As root: `cargo bench --bench others -- ROUNDS`. It needs `cc` and `sockperf`, and makes its labs on a private
//! machine (network, mounts). With one CPU nothing is measured across CPUs.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use serde_json::Value;

/// A lab for each path, with the number in its addresses.
const PATHS: [(&str, &str, u8); 2] = [("fast", "tc", 1), ("bridge", "bridge", 2)];
const WORK: [&str; 2] = ["udp", "tcp"];

/// For how long a program measures, in seconds: `bench` all cases of a path in turns, the others one case. sockperf
/// measures for no less.
const BENCH_SECONDS: &str = "2";
const C_SECONDS: &str = "0.3";
const SOCKPERF_SECONDS: &str = "1";

/// The time that sockperf's servers have to come up, all at once.
const READY: Duration = Duration::from_secs(1);

/// What two hosts do: over which path, by which protocol, on which CPUs.
struct Case {
    path: &'static str,
    number: u8,
    work: &'static str,
    cores: &'static str,
    cpus: [usize; 2],
    /// sockperf's. That of the C program is the next.
    port: u16,
}

/// Microseconds of a round trip, by `bench`, by the C program and, on one CPU, by sockperf: it takes more than three
/// seconds to measure half a second.
type Figures = (f64, f64, Option<f64>);

fn main() {
    let rounds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(5);
    private();
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
    let mut found: Vec<Vec<Figures>> = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for (path, ..) in PATHS {
            let report = bench(path);
            for (case, found) in cases.iter().zip(&mut found).filter(|(case, _)| case.path == path) {
                let sockperf = (case.cores == "same").then(|| case.by_sockperf());
                found.push((case.by_bench(&report), case.by_c(pingpong), sockperf));
            }
        }
    }
    print(&cases, &found);
    drop(servers);
    for (path, ..) in PATHS {
        let _ = printed(vethpath().args(["down", path]));
    }
}

/// A line for each case. Ratios are medians of the rounds' ratios, of figures that were taken one after the other.
fn print(cases: &[Case], found: &[Vec<Figures>]) {
    let rounds = found[0].len();
    println!("medians of {rounds} rounds; microseconds a round trip of 64 bytes");
    println!("{:<20}{:>9}{:>9}{:>10}{:>10}{:>16}", "", "bench", "C", "sockperf", "bench/C", "bench/sockperf");
    for (case, found) in cases.iter().zip(found) {
        let name = format!("{}, {}, {}", case.work.to_uppercase(), case.path, case.cores);
        let of = |figure: fn(&Figures) -> Option<f64>, digits: usize| {
            let figures: Option<Vec<_>> = found.iter().map(figure).collect();
            figures.map_or_else(|| "-".to_owned(), |figures| format!("{:.digits$}", median(figures)))
        };
        println!(
            "{name:<20}{:>9}{:>9}{:>10}{:>10}{:>16}",
            of(|(bench, ..)| Some(*bench), 2),
            of(|(_, by_c, _)| Some(*by_c), 2),
            of(|(.., sockperf)| *sockperf, 2),
            of(|(bench, by_c, _)| Some(bench / by_c), 3),
            of(|(bench, _, sockperf)| sockperf.map(|sockperf| bench / sockperf), 3),
        );
    }
}

/// All, on the CPUs that `bench` takes.
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

/// What `bench` finds on a lab.
fn bench(path: &str) -> Value {
    let words = ["bench", path, "--work", "udp-rr,tcp-rr", "--seconds", BENCH_SECONDS, "--json"];
    serde_json::from_str(&printed(vethpath().args(words))).unwrap()
}

impl Case {
    /// Those that answer, for as long as they are kept.
    fn servers(&self, pingpong: &str) -> [Server; 2] {
        let (to, port, next) = (self.address(2), self.port.to_string(), (self.port + 1).to_string());
        let mut by_c = self.inside(1);
        by_c.args([pingpong, "answer", self.work, &to, &next]);
        let mut sockperf = self.inside(1);
        sockperf.args(["sockperf", "server", "-i", &to, "-p", &port]).args(self.tcp());
        [Server::start(&mut by_c), Server::start(&mut sockperf)]
    }

    fn by_bench(&self, report: &Value) -> f64 {
        let work = format!("{}_rr", self.work);
        let cases = report["cases"].as_array().unwrap().iter();
        let mut cases =
            cases.filter(|case| case["work"] == *work && case["placement"]["cores"] == self.cores);
        cases.next().unwrap()["latency"][self.path]["p50_us"].as_f64().unwrap()
    }

    fn by_c(&self, pingpong: &str) -> f64 {
        let (to, port) = (self.address(2), (self.port + 1).to_string());
        let mut client = self.inside(0);
        let text = printed(client.args([pingpong, "ask", self.work, &to, &port, C_SECONDS]));
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

    /// A command at one of the two ends, on its CPU.
    fn inside(&self, end: usize) -> Command {
        let mut command = Command::new("ip");
        let namespace = format!("{}-{}", self.path, ["a", "b"][end]);
        command.args(["netns", "exec", &namespace, "taskset", "-c", &self.cpus[end].to_string()]);
        command
    }
}

/// A program that answers for as long as this is kept.
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

/// TCP begins with reno in it where nobody says, which any namespace may have: sockperf cannot be told, and what begins
/// with BBR is paced to its end.
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

/// Namespaces of our own, as long as the process lives. Its bridges call no netfilter.
fn private() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces (it needs root)");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    for (kind, point) in [("sysfs", "/sys"), ("tmpfs", "/run")] {
        mount(Some(kind), point, Some(kind), MsFlags::empty(), None::<&str>).unwrap();
    }
    // Not there without br_netfilter.
    let _ = fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
}

fn vethpath() -> Command {
    Command::new(env!("CARGO_BIN_EXE_vethpath"))
}

fn printed(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// The middle one, or the middle of the two that are.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let last = figures.len() - 1;
    f64::midpoint(figures[last / 2], figures[last - last / 2])
}
