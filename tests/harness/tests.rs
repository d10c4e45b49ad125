//! Tests of the harness, with plain `ip`: a test that cannot fail proves nothing.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{Host, SLACK, wait_for};

fn panic_message(test: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).expect_err("it should have complained");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn hosts_are_private() {
    let (first, second) = (Host::new(), Host::new());
    for host in [&first, &second] {
        let _ = host.run("ip link add docker0 type bridge").ok();
        let _ = host.run("ip netns add ns0").ok();
        assert_eq!(host.namespaces(), ["ns0"]);
        let _ = host.run("ping -q -c 1 127.0.0.1").ok();
        // Its own sysfs: only what is in its own network namespace.
        let _ = host.run("ls /sys/class/net").ok().stdout_has("docker0\nlo\n");
        // Its own processes: `sleep` is the first of them.
        assert_eq!(host.run("cat /proc/1/comm").ok().stdout, "sleep\n");
    }
    assert_eq!(first.run("ip -n ns0 -br link").ok().stdout.lines().count(), 1);
    for host in [first, second] {
        let _ = host.run("ip netns del ns0").ok();
        let _ = host.run("ip link del docker0").ok();
        host.finish();
    }
}

#[test]
fn there_is_no_bpffs_unless_somebody_mounts_it() {
    let mut host = Host::new();
    let _ = host.run("mountpoint /sys/fs/bpf").fails(32);
    let _ = host.run("mount -t bpf bpf /sys/fs/bpf").ok();
    assert!(host.changes().expect("a mount more").contains("/sys/fs/bpf bpf"));
    host.set_baseline();
    assert_eq!(host.changes(), None);
}

#[test]
fn leftovers_are_found() {
    for (leave, seen) in [
        ("ip link add left0 type bridge", "left0"),
        ("ip netns add left1", "netns/left1"),
        ("mkdir -p /run/vethpath/left2", "vethpath/left2"),
        ("mount -t bpf bpf /sys/fs/bpf", "/sys/fs/bpf bpf"),
        ("nft add table inet left3", "left3"),
        ("sysctl -w net.ipv4.ip_forward=1", "ip_forward = 1"),
        ("ip addr add 10.9.9.9/32 dev lo", "10.9.9.9"),
    ] {
        let host = Host::new();
        let _ = host.run(leave).ok();
        assert!(host.changes().is_some_and(|c| c.contains(seen)), "{leave} went unseen");
        if leave.contains("left0") {
            assert!(
                panic_message(|| host.finish_within(Duration::from_secs(1)))
                    .contains("the host is not as it was")
            );
        } else {
            panic_message(move || {
                let _host = host;
                panic!("leave without the final look");
            });
        }
    }
}

#[test]
fn a_daemon_that_stays_is_found_and_killed() {
    let host = Host::new();
    let _ = host.run(["sh", "-c", "setsid sleep 4321 >/dev/null 2>&1 </dev/null & echo $!"]).ok();
    // Its name is that of the shell first, and then `setsid`.
    wait_for(SLACK, "a process more", || host.changes().is_some_and(|changes| changes.contains("sleep")));
    let outside = outside_pid(&["sleep", "4321"]).expect("it runs");
    assert!(
        panic_message(move || {
            let _host = host;
            panic!("as a test does");
        })
        .is_empty()
    );
    assert!(!fs::exists(outside).expect("/proc is readable"), "the daemon outlived its host");
}

#[test]
fn orphans_leave_no_zombies() {
    let host = Host::new();
    let _ = host.run(["sh", "-c", "setsid sleep 0.1 >/dev/null 2>&1 </dev/null &"]).ok();
    // `finish` counts zombies as processes.
    host.finish();
}

#[test]
fn a_command_that_hangs_is_killed_and_reported() {
    let host = Host::new();
    let start = Instant::now();
    let process = host.spawn(["sh", "-c", "echo so far so good; sleep 8765"]);
    wait_for(SLACK, "no output", || process.output().contains("so far so good\n"));
    let panic_message = panic_message(|| {
        let _ = process.wait(Duration::from_millis(300));
    });
    assert!(
        panic_message.contains("did not end") && panic_message.contains("so far so good"),
        "{panic_message}"
    );
    assert!(start.elapsed() < Duration::from_secs(60));
    wait_for(SLACK, "its child lives", || outside_pid(&["sleep", "8765"]).is_none());
    host.finish();
}

#[test]
fn exit_codes_output_and_input_come_through() {
    let host = Host::new();
    let output = host
        .run(["sh", "-c", "echo data; echo talk >&2; exit 7"])
        .fails(7)
        .stdout_has("data")
        .stderr_has("talk");
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("data\n", "talk\n"));
    assert_eq!(host.run_with_input("cat", "a line\n").ok().stdout, "a line\n");
    assert_eq!(host.run(["sh", "-c", "kill -9 $$"]).code(), None);
    assert_eq!(host.json("ip -j link")[0]["ifname"], "lo");
    let file = host.topology("some", "name = \"some\"");
    assert_eq!(host.run(format!("cat {file}")).ok().stdout, "name = \"some\"");
}

/// The `/proc` folder, seen from outside, of the process with this command line.
fn outside_pid(command: &[&str]) -> Option<PathBuf> {
    let processes = fs::read_dir("/proc").expect("readable").flatten();
    let words = |line: String| line.split_terminator('\0').eq(command.iter().copied());
    let is_process = |p: &PathBuf| fs::read_to_string(p.join("cmdline")).is_ok_and(words);
    processes.map(|e| e.path()).find(is_process)
}
