//! The unit in `dist/` on a machine with systemd as the first process. `cargo xtask test --kernel` runs these tests in a
//! guest that boots twice: they are about the guest itself.

use std::{fs, path::Path, process::Command};

use crate::{
    harness::{SLACK, wait_until},
    hazards::B,
};

const UNIT: &str = "vethpath@three-hosts.service";

/// Runs a command of the guest, and returns its exit code and what it printed.
fn run(command: &str) -> (Option<i32>, String) {
    let mut words = command.split(' ');
    let output = Command::new(words.next().expect("a program")).args(words).output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[track_caller]
fn ok(command: &str) -> String {
    let (code, output) = run(command);
    assert_eq!(code, Some(0), "{command}: {output}");
    output
}

/// A number that `systemctl show` prints for a unit.
fn number(unit: &str, property: &str) -> u64 {
    let value = ok(&format!("systemctl show --value --property {property} {unit}"));
    value.trim().parse().unwrap_or_else(|_| panic!("{property} of {unit} is {value}"))
}

fn is_there() {
    let _ = ok(&format!("systemctl is-active {UNIT}"));
    let _ = ok(&format!("ip netns exec ns0 ping -n -q -c 1 -W 10 {B}"));
    let _ = ok("ping -n -q -c 1 -W 10 172.17.0.101");
    let list = ok("vethpath list");
    assert!(list.contains("three-hosts"), "{list}");
}

/// Nothing of a lab is on the machine.
fn is_gone() {
    assert_eq!(fs::read_dir("/run/netns").into_iter().flatten().count(), 0);
    assert!(!Path::new("/run/vethpath/three-hosts").exists());
    assert!(!Path::new("/sys/fs/bpf/vethpath").exists());
    for command in
        ["ip -o link show type bridge", "ip -o link show type veth", "nft list ruleset", "pgrep vethpath"]
    {
        let (_, output) = run(command);
        assert_eq!(output, "", "{command}");
    }
}

#[ignore = "needs systemd as the first process"]
#[test]
fn at_boot_the_lab_is_up_and_the_unit_stops_and_starts_it() {
    assert_eq!(fs::read_to_string("/proc/1/comm").expect("it is readable"), "systemd\n");
    is_there();
    // What `up` checks are the rules of Docker, so Docker starts first.
    let docker = number("docker.service", "ActiveEnterTimestampMonotonic");
    let lab = number(UNIT, "ExecMainStartTimestampMonotonic");
    assert!(docker > 0 && docker <= lab, "Docker has started at {docker} us, and the lab at {lab} us");
    // The names of its namespaces are in the mount namespace of the machine.
    let mount = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).expect("it lives");
    let agent = ok("pgrep vethpath");
    assert_eq!(mount(agent.trim()), mount("1"));
    let reload = ok(&format!("systemctl reload {UNIT}"));
    assert_eq!(reload, "");
    assert_eq!(ok("pgrep vethpath"), agent, "it has changed nothing");
    let _ = ok(&format!("systemctl stop {UNIT}"));
    is_gone();
    let _ = ok(&format!("systemctl start {UNIT}"));
    is_there();
    // A killed agent leaves the network, and `restart` a new agent.
    let pid = ok("pgrep vethpath");
    let _ = ok(&format!("kill -KILL {}", pid.trim()));
    let _ = ok(&format!("systemctl restart {UNIT}"));
    is_there();
    let failed = ok("systemctl --failed --no-legend --plain");
    assert!(!failed.contains("vethpath"), "{failed}");
    wait_until(SLACK, || match ok("vethpath stats --json") {
        stats if stats.contains("\"alive\": true") || stats.contains("\"alive\":true") => Ok(()),
        stats => Err(stats),
    });
}

/// Runs while the guest shuts down, after the unit was stopped.
#[ignore = "needs systemd as the first process"]
#[test]
fn at_shutdown_the_lab_is_gone() {
    let (_, state) = run("systemctl is-system-running");
    assert_eq!(state, "stopping\n");
    is_gone();
}
