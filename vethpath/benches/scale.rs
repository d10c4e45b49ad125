//! The cost of a lab by the number of its hosts, compared with a typical shell script of `ip` commands for the same
//! network: up, down, an `up` without changes, `stats --json`, and the idle agent's CPU time and memory. All run in
//! sequence, in private namespaces.
//!
//! As root: `cargo bench --bench scale` (`-- 10 100` for other numbers of hosts than 10, 100 and 1000).

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]

use std::{fmt::Write as _, fs, process::ExitCode, thread, time::Duration};

use hosts::{VETHPATH, address, timed};

#[path = "frames/cpu.rs"]
mod cpu;
#[path = "frames/hosts.rs"]
mod hosts;
#[path = "frames/private.rs"]
mod private;

/// How long the idle agent is measured.
const IDLE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    if !private::is_inside() {
        return private::start();
    }
    println!(
        "| hosts | script up | vethpath up | script down | vethpath down | up again | stats --json | agent CPU | agent memory |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for hosts in hosts::numbers(&[10, 100, 1000]) {
        measure(hosts);
    }
    // Limits for a lab of 1000 hosts on two CPUs.
    println!("| at most, at 1000 | | 1.50 ms | | 0.70 ms | | 20.0 ms | 1.00 % | 20.0 MB |");
    ExitCode::SUCCESS
}

fn measure(hosts: usize) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (up, down) = (write("up.sh", script(hosts)), write("down.sh", script_down(hosts)));
    let script_up = timed(&["sh", "-e", &up]);
    settle();
    let script_down = timed(&["sh", "-e", &down]);
    settle();

    let (file, up) = hosts::up("scale", "", hosts);
    hosts::settle();
    let (cpu, memory) = idle();
    let again = timed(&[VETHPATH, "up", &file]);
    let mut stats: Vec<_> = (0..9).map(|_| timed(&[VETHPATH, "stats", "scale", "--json"])).collect();
    stats.sort();
    let down = timed(&[VETHPATH, "down", "scale"]);
    settle();
    let each = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3 / hosts as f64);
    let all = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    println!(
        "| {hosts} | {} | {} | {} | {} | {} | {} | {cpu:.2} % | {memory:.1} MB |",
        each(script_up),
        each(up),
        each(script_down),
        each(down),
        all(again),
        all(stats[4]),
    );
}

/// The kernel removes devices asynchronously, which must not disturb the next measurement.
fn settle() {
    thread::sleep(Duration::from_secs(5));
}

/// The agent's CPU usage in percent of one CPU, and its resident memory in MB.
fn idle() -> (f64, f64) {
    let pid = cpu::agent("scale");
    let [used] = cpu::percent([&pid], IDLE);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (used, resident.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0)
}

fn script(hosts: usize) -> String {
    let mut text =
        "ip link add br0 type bridge\nip address add 10.77.0.1/16 dev br0\nip link set br0 up\n".to_owned();
    for number in 0..hosts {
        writeln!(
            text,
            "ip netns add h{number}\n\
             ip link add v{number} type veth peer name eth0 netns h{number}\n\
             ip link set v{number} master br0\n\
             ip link set v{number} up\n\
             ip -n h{number} link set lo up\n\
             ip -n h{number} address add {}/16 dev eth0\n\
             ip -n h{number} link set eth0 up\n\
             ip -n h{number} route add default via 10.77.0.1",
            address(number)
        )
        .unwrap();
    }
    text
}

/// Ends when nothing of it is left, like `vethpath down`.
fn script_down(hosts: usize) -> String {
    let mut text = String::new();
    for number in 0..hosts {
        writeln!(text, "ip netns delete h{number}").unwrap();
    }
    text + "ip link delete br0\nwhile ip -o link | grep -q '@if'; do sleep 0.01; done\n"
}
