//! The CPU time that an agent spends on one event of a link, by the number of hosts. An event of a port concerns that port
//! alone; one of the bridge concerns all its ports, so everything is evaluated and compared with the maps. After either,
//! the agent reads what no event describes. Both kinds alternate, so that other work on the machine affects both.
//!
//! As root: `cargo bench --bench link_events` (`-- 100` for another number of hosts than 10 and 1000). It needs `ip`. The
//! lab is in private namespaces, which end with the benchmark.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]

use std::{
    env,
    fmt::Write as _,
    fs,
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use nix::{time::clock_getcpuclockid, unistd::Pid};

#[path = "frames/private.rs"]
mod private;

const VETHPATH: &str = env!("CARGO_BIN_EXE_vethpath");
const LAB: &str = "events";
const FILE: &str = "/run/events.toml";

/// Events of each kind.
const EVENTS: u32 = 100;

/// A bridge notifies the state of each port again when its forward delay of 15 s expires
/// (`br_forward_delay_timer_expired` in net/bridge/br_stp_timer.c). The agent is not idle before.
const FORWARD_DELAY: Duration = Duration::from_secs(20);

/// The agent is idle if it has used less than [`IDLE`] in this time, which is longer than it rests between reads.
const AFTER: Duration = Duration::from_millis(150);

/// What other events cost meanwhile, such as those of timers.
const IDLE: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    if !private::is_inside() {
        return private::start();
    }
    let hosts: Vec<usize> = env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    println!(
        "| hosts | CPU time of an event of a port | of the bridge | of neither, in the same time |\n|---|---|---|---|"
    );
    for hosts in if hosts.is_empty() { vec![10, 1000] } else { hosts } {
        measure(hosts);
    }
    ExitCode::SUCCESS
}

fn measure(hosts: usize) {
    let mut topology = format!("name = \"{LAB}\"\n[bridge.br0]\n");
    for number in 0..hosts {
        writeln!(topology, "[namespace.h{number}.interface.eth0]\nlink = \"br0\"\nport = \"p{number}\"")
            .unwrap();
    }
    fs::write(FILE, topology).unwrap();
    run(VETHPATH, &["up", FILE]);
    let agent = fs::read_to_string(format!("/run/vethpath/{LAB}/agent.lock")).unwrap();
    thread::sleep(FORWARD_DELAY);
    let (mut of_ports, mut of_bridge, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    for event in 0..EVENTS {
        // The agent follows a group, and it matters to nothing.
        let group = (event % 2 + 1).to_string();
        let port = format!("p{}", event as usize / 2 % hosts);
        of_ports.push(spent(&agent, || run("ip", &["link", "set", "dev", &port, "group", &group])));
        of_bridge.push(spent(&agent, || run("ip", &["link", "set", "dev", "br0", "group", &group])));
        idle.push(spent(&agent, || {}));
    }
    println!("| {hosts} | {} | {} | {} |", median(of_ports), median(of_bridge), median(idle));
    run(VETHPATH, &["down", LAB]);
}

/// The CPU time of a process from a change until it is idle again. On a busy machine that takes longer.
fn spent(pid: &str, change: impl FnOnce()) -> Duration {
    let before = cpu_time(pid);
    change();
    loop {
        let last = cpu_time(pid);
        thread::sleep(AFTER);
        let now = cpu_time(pid);
        if now - last < IDLE {
            return now - before;
        }
    }
}

/// The CPU time of all threads of a process, those that have ended included: the agent enters namespaces on threads of
/// their own.
fn cpu_time(pid: &str) -> Duration {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.trim().parse().unwrap())).unwrap();
    clock.now().unwrap().into()
}

fn median(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    format!("{:.2} ms", times[times.len() / 2].as_secs_f64() * 1e3)
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).stdout(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}
