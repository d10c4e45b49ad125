//! The cost of a lab by the number of its hosts, compared with a typical shell script of `ip` commands for the same
//! network: up, down, an `up` without changes, `stats --json`, and the idle agent's CPU time and memory. All run in
//! sequence, in private namespaces.
//!
//! As root: `cargo bench --bench scale` (`-- 10 100` for other numbers of hosts than 10, 100 and 1000).

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]

use std::{
    env,
    fmt::Write as _,
    fs,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

#[path = "frames/private.rs"]
mod private;

const VETHPATH: &str = env!("CARGO_BIN_EXE_vethpath");

/// A bridge notifies the state of each port again when its forward delay of 15 s expires
/// (`br_forward_delay_timer_expired` in net/bridge/br_stp_timer.c). The agent is not idle before.
const FORWARD_DELAY: Duration = Duration::from_secs(20);

/// How long the idle agent is measured.
const IDLE: Duration = Duration::from_secs(20);

/// Clock ticks per second (USER_HZ).
const TICKS: f64 = 100.0;

fn main() -> ExitCode {
    if !private::is_inside() {
        return private::start();
    }
    let hosts: Vec<usize> = env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let hosts = if hosts.is_empty() { vec![10, 100, 1000] } else { hosts };
    println!(
        "| hosts | script up | vethpath up | script down | vethpath down | up again | stats --json | agent CPU | agent memory |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for hosts in hosts {
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
    let script_up = timed("sh", &["-e", &up]);
    settle();
    let script_down = timed("sh", &["-e", &down]);
    settle();

    let file = write("scale.toml", topology(hosts));
    let up = timed(VETHPATH, &["up", &file]);
    thread::sleep(FORWARD_DELAY);
    let (cpu, memory) = idle();
    let again = timed(VETHPATH, &["up", &file]);
    let mut stats: Vec<_> = (0..9).map(|_| timed(VETHPATH, &["stats", "scale", "--json"])).collect();
    stats.sort();
    let down = timed(VETHPATH, &["down", "scale"]);
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

fn timed(program: &str, arguments: &[&str]) -> Duration {
    let began = Instant::now();
    let done = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let (done, took) = (done.unwrap(), began.elapsed());
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    took
}

/// The agent's CPU usage in percent of one CPU, and its resident memory in MB.
fn idle() -> (f64, f64) {
    let pid = fs::read_to_string("/run/vethpath/scale/agent.lock").unwrap();
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().map(str::to_owned).collect();
        fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()
    };
    let before = ticks();
    thread::sleep(IDLE);
    let used = (ticks() - before) / TICKS / IDLE.as_secs_f64();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (used * 100.0, resident.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0)
}

fn address(number: usize) -> String {
    format!("10.77.{}.{}", 1 + number / 200, 1 + number % 200)
}

fn topology(hosts: usize) -> String {
    let mut text = "name = \"scale\"\n[bridge.br0]\naddresses = [\"10.77.0.1/16\"]\n".to_owned();
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
