//! The CPU time of `stats --watch` at one sample a second, in a terminal of 200x50 (tmux), on one bridge with 1,000
//! hosts, some of which send. The agent's share is printed too: it answers a request for each sample.
//!
//! As root: `cargo bench --bench watch` (`-- 300` for another number of hosts). It needs tmux and ping. The lab is in
//! private namespaces, which end with the benchmark.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]

use std::{
    env, fs,
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

#[path = "frames/private.rs"]
mod private;

const VETHPATH: &str = env!("CARGO_BIN_EXE_vethpath");

/// A tmux of its own. `/run` is private.
const TMUX: [&str; 6] = ["tmux", "-u", "-S", "/run/tmux", "-f", "/dev/null"];

/// How long the view runs before it is measured, so that its history has some length.
const BEFORE: Duration = Duration::from_secs(10);

/// How long it is measured.
const MEASURED: Duration = Duration::from_secs(30);

/// Hosts that send.
const SENDERS: usize = 8;

/// Clock ticks per second (USER_HZ).
const TICKS: f64 = 100.0;

fn main() -> ExitCode {
    if !private::is_inside() {
        return private::start();
    }
    let hosts = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1000);
    let file = "/run/scale.toml";
    let bridge = "name = \"scale\"\n[bridge.br0]\naddresses = [\"10.77.0.1/16\"]\n";
    let group = format!("[group.h]\ncount = {hosts}\nbridge = \"br0\"\nsubnet = \"10.77.0.0/16\"\n");
    fs::write(file, bridge.to_owned() + &group).unwrap();
    run(VETHPATH, &["up", file]);
    let mut senders: Vec<_> = (0..SENDERS)
        .map(|host| {
            let host = format!("h{host}");
            let ping = ["exec", &host, "--", "ping", "-q", "-i", "0.01", "10.77.0.30"];
            Command::new(VETHPATH).args(ping).stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let view = ["new-session", "-d", "-x", "200", "-y", "50", VETHPATH, "stats", "scale", "--watch"];
    run(TMUX[0], &[&TMUX[1..], &view].concat());
    thread::sleep(BEFORE);
    let screen = output(&[&TMUX[1..], &["capture-pane", "-p"]].concat());
    assert!(screen.contains("HISTORY"), "{screen}");
    let view = output(&[&TMUX[1..], &["display-message", "-p", "#{pane_pid}"]].concat());
    let agent = fs::read_to_string("/run/vethpath/scale/agent.lock").unwrap();
    let ticks = || [view.trim(), agent.trim()].map(ticks);
    let before = ticks();
    thread::sleep(MEASURED);
    let after = ticks();
    let percent = |index: usize| (after[index] - before[index]) / TICKS / MEASURED.as_secs_f64() * 100.0;
    println!("| hosts | view, CPU | agent, CPU |\n|---|---|---|");
    println!("| {hosts} | {:.2} % | {:.2} % |", percent(0), percent(1));
    println!("| at most, at 1000 | 2.00 % | |");
    for sender in &mut senders {
        sender.kill().unwrap();
        let _ = sender.wait();
    }
    run(TMUX[0], &[&TMUX[1..], &["kill-server"]].concat());
    run(VETHPATH, &["down", "scale"]);
    ExitCode::SUCCESS
}

/// The CPU time that a process has used, in ticks.
fn ticks(pid: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).stderr(Stdio::piped()).output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn output(arguments: &[&str]) -> String {
    let done = Command::new(TMUX[0]).args(arguments).output().unwrap();
    String::from_utf8(done.stdout).unwrap()
}
