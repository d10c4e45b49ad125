//! The CPU time of `stats --watch` at one sample a second, in a terminal of 200x50 (tmux), on one bridge with 1,000
//! hosts, some of which send. The agent's share is printed too: it answers a request for each sample.
//!
//! As root: `cargo bench --bench watch` (`-- 300` for another number of hosts). It needs tmux and ping. The lab is in
//! private namespaces, which end with the benchmark.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]

use std::{
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use hosts::{VETHPATH, address, timed};

#[path = "frames/cpu.rs"]
mod cpu;
#[path = "frames/hosts.rs"]
mod hosts;
#[path = "frames/private.rs"]
mod private;

/// A tmux of its own. `/run` is private.
const TMUX: [&str; 6] = ["tmux", "-u", "-S", "/run/tmux", "-f", "/dev/null"];

/// How long the view runs before it is measured, so that its history has some length.
const BEFORE: Duration = Duration::from_secs(10);

/// How long it is measured.
const MEASURED: Duration = Duration::from_secs(30);

/// Hosts that send.
const SENDERS: usize = 8;

fn main() -> ExitCode {
    if !private::is_inside() {
        return private::start();
    }
    let hosts = hosts::numbers(&[1000])[0];
    let _ = hosts::up("scale", "", hosts);
    hosts::settle();
    let receiver = address(29);
    let mut senders: Vec<_> = (0..SENDERS)
        .map(|host| {
            let host = format!("h{host}");
            let ping = ["exec", &host, "--", "ping", "-q", "-i", "0.01", &receiver];
            Command::new(VETHPATH).args(ping).stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let view = ["new-session", "-d", "-x", "200", "-y", "50", VETHPATH, "stats", "scale", "--watch"];
    let _ = timed(&[&TMUX[..], &view].concat());
    thread::sleep(BEFORE);
    let screen = output(&[&TMUX[1..], &["capture-pane", "-p"]].concat());
    assert!(screen.contains("HISTORY"), "{screen}");
    let view = output(&[&TMUX[1..], &["display-message", "-p", "#{pane_pid}"]].concat());
    let agent = cpu::agent("scale");
    let [view, agent] = cpu::percent([view.trim(), agent.trim()], MEASURED);
    println!("| hosts | view, CPU | agent, CPU |\n|---|---|---|");
    println!("| {hosts} | {view:.2} % | {agent:.2} % |");
    println!("| at most, at 1000 | 2.00 % | |");
    for sender in &mut senders {
        sender.kill().unwrap();
        let _ = sender.wait();
    }
    let _ = timed(&[&TMUX[..], &["kill-server"]].concat());
    let _ = timed(&[VETHPATH, "down", "scale"]);
    ExitCode::SUCCESS
}

fn output(arguments: &[&str]) -> String {
    let done = Command::new(TMUX[0]).args(arguments).output().unwrap();
    String::from_utf8(done.stdout).unwrap()
}
