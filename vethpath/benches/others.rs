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

/// For how long a program measures, in seconds.
const SECONDS: u64 = 1;

/// The time that a server has to come up.
const READY: Duration = Duration::from_millis(300);

/// What two hosts do: over which path, by which protocol, on which CPUs.
struct Case {
    path: &'static str,
    number: u8,
    work: &'static str,
    cores: &'static str,
    cpus: [usize; 2],
}

fn main() {
    let rounds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(3);
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
    let mut found = vec![[const { Vec::new() }; 3]; cases.len()];
    for _ in 0..rounds {
        for (case, found) in cases.iter().zip(&mut found) {
            found[0].push(case.bench());
            found[1].push(case.by_c(pingpong));
            found[2].push(case.by_sockperf());
        }
    }
    println!("medians of {rounds} runs of {SECONDS} s each; microseconds a round trip of 64 bytes");
    println!("{:<24}{:>9}{:>9}{:>10}", "", "bench", "C", "sockperf");
    for (case, found) in cases.iter().zip(found) {
        let name = format!("{}, {}, {}", case.work.to_uppercase(), case.path, case.cores);
        let [bench, by_c, sockperf] = found.map(median);
        println!("{name:<24}{bench:>9.2}{by_c:>9.2}{sockperf:>10.2}");
    }
    for (path, ..) in PATHS {
        let _ = printed(vethpath().args(["down", path]));
    }
}

/// All, on the CPUs that `bench` takes.
fn cases() -> Vec<Case> {
    let cpus = thread::available_parallelism().unwrap().get();
    let placements = [("same", [cpus - 1; 2]), ("cross", [cpus - 1, cpus.saturating_sub(2)])];
    let mut cases = Vec::new();
    for work in WORK {
        for (path, _, number) in PATHS {
            for &(cores, cpus) in placements.iter().take(cpus) {
                cases.push(Case { path, number, work, cores, cpus });
            }
        }
    }
    cases
}

impl Case {
    fn bench(&self) -> f64 {
        let work = format!("{}-rr", self.work);
        let seconds = SECONDS.to_string();
        let words = ["bench", self.path, "--work", &work, "--cores", self.cores, "--seconds", &seconds];
        let report = printed(vethpath().args(words).arg("--json"));
        let report: Value = serde_json::from_str(&report).unwrap();
        report["cases"][0]["latency"][self.path]["p50_us"].as_f64().unwrap()
    }

    fn by_c(&self, pingpong: &str) -> f64 {
        let to = self.address(2);
        let mut server = Server::start(self.inside(1).args([pingpong, "answer", self.work, &to, "7001"]));
        let seconds = SECONDS.to_string();
        let text = printed(self.inside(0).args([pingpong, "ask", self.work, &to, "7001", &seconds]));
        server.stop();
        text.trim().parse().unwrap()
    }

    fn by_sockperf(&self) -> f64 {
        let to = self.address(2);
        let tcp = (self.work == "tcp").then_some("--tcp");
        let mut server =
            Server::start(self.inside(1).args(["sockperf", "server", "-i", &to, "-p", "7002"]).args(tcp));
        let seconds = SECONDS.to_string();
        let mut client = self.inside(0);
        client.args(["sockperf", "ping-pong", "-i", &to, "-p", "7002", "-t", &seconds]);
        let text = printed(client.args(["--msg-size", "64", "--full-rtt"]).args(tcp));
        server.stop();
        let (_, after) = text.split_once("percentile 50.000 =").unwrap_or_else(|| panic!("{text}"));
        after.split_whitespace().next().unwrap().parse().unwrap()
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

/// A program that answers until it is stopped.
struct Server(Child);

impl Server {
    fn start(command: &mut Command) -> Self {
        let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(READY);
        Self(server)
    }

    fn stop(&mut self) {
        // It may have ended with its client.
        let _ = self.0.kill();
        let _ = self.0.wait().unwrap();
    }
}

fn lab(path: &str, datapath: &str, number: u8) -> String {
    let mut text = format!("name = \"{path}\"\n[bridge.{path}0]\ndatapath = \"{datapath}\"\n");
    for (end, host) in [("a", 1), ("b", 2)] {
        text += &format!(
            "[namespace.{path}-{end}.interface.eth0]\nlink = \"{path}0\"\naddresses = [\"10.88.{number}.{host}/24\"]\n"
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

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
