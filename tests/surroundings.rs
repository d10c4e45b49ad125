//! What a command gets from its caller: output that nothing reads, a small stack, an early signal, a time namespace.

use std::collections::BTreeSet;

use crate::harness::{Host, Output, SLACK, TIMEOUT, wait_for, wait_until};

/// Runs a command whose output goes into a pipe without a reader.
fn run_unread(host: &Host, command: &str) -> Output {
    let script = "pipe(R, W); close R; open(STDOUT, '>&W'); open(STDERR, '>&W'); exec @ARGV";
    let mut words: Vec<_> = ["perl", "-e", script, &host.exe()].map(str::to_owned).to_vec();
    words.extend(command.split(' ').map(str::to_owned));
    host.run(words)
}

#[test]
fn unread_output_changes_no_exit_status() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    for command in ["validate", "plan", "up", "up"] {
        let _ = run_unread(&host, &format!("{command} {file}")).ok();
    }
    for command in
        ["list", "show", "stats", "exec ns0 -- true", "doctor", "down", "--help", "man", "completions bash"]
    {
        let _ = run_unread(&host, command).ok();
    }
    let _ = run_unread(&host, "exec ns0 -- true").fails(1);
    let _ = run_unread(&host, "down three-hosts").fails(1);
    let _ = run_unread(&host, "nosuch").fails(1);
    host.finish();
}

#[test]
fn a_small_stack_is_enough() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    let run = |command: &str| host.run(["sh", "-c", &format!("ulimit -s 64; exec {} {command}", host.exe())]);
    for command in ["validate", "plan", "up", "up"] {
        let _ = run(&format!("{command} {file}")).ok();
    }
    let _ = run("list").ok().stdout_has("3 of 3 pairs armed, agent alive");
    let _ = run("show").ok();
    // No thread of the agent has kept a capability that it must not have.
    let agent = run("stats --json").ok().json()["agent"]["pid"].to_string();
    let rights = host.run(["sh", "-c", &format!("cat /proc/{agent}/task/*/status")]).ok().stdout;
    let rights: BTreeSet<_> = rights.lines().filter(|line| line.starts_with("CapPrm:")).collect();
    assert_eq!(rights.len(), 1, "{rights:?}");
    let kept = rights.iter().next().and_then(|line| line.split_whitespace().last());
    let kept = u64::from_str_radix(kept.expect("a number"), 16).expect("in hexadecimal");
    assert!(kept.count_ones() <= 3, "{kept:x}");
    let _ = run("doctor");
    // The user's program gets the user's limit.
    let _ = run("exec ns0 -- sh -c 'ulimit -s'").ok().stdout_has("64");
    let _ = run("down").ok();
    host.finish();
}

/// An interrupted `up` removes everything that it has made, from the first moment on.
#[test]
fn an_interrupt_of_the_first_moment_leaves_nothing() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    for _ in 0..10 {
        let up = host.spawn_vethpath(format!("up {file}"));
        let folder = host.path("/run/vethpath");
        wait_for(TIMEOUT, "it makes no folder", || folder.exists());
        up.interrupt();
        let output = up.wait(TIMEOUT);
        if output.succeeded() {
            let _ = host.vethpath("down three-hosts").ok();
        } else {
            let _ = output.fails(130);
        }
        wait_until(SLACK, || host.changes().map_or(Ok(()), Err));
    }
    host.finish();
}

/// A lease of another clock would hold for a day, or would have expired before it begins.
#[test]
fn the_lease_is_of_the_clock_that_programs_read() {
    let host = Host::new();
    // A clock cannot be set to before boot.
    let back = (uptime_seconds() / 2).min(100);
    for shift in ["86400".to_owned(), format!("-{back}")] {
        let file = host.lab("three-hosts").write();
        let shifted = format!("unshare --time --monotonic={shift} --fork {}", host.exe());
        let _ = host.run(format!("{shifted} up {file}")).ok();
        let lease = |command: &str| {
            let stats = host.run(format!("{command} stats --json")).ok().json();
            stats["agent"]["lease_left_ms"].as_u64().expect("a number")
        };
        for command in [host.exe(), shifted] {
            let left = lease(&command);
            assert!(left <= 3000, "{shift}: {left} ms are left");
        }
        let fast = || {
            let stats = host.vethpath("stats --json").ok().json();
            stats["pairs"][0]["fast"]["tx"]["packets"].as_u64().expect("a number")
        };
        let ping = || host.vethpath("exec ns0 -- ping -n -q -c 1 -W 5 172.17.0.102").ok();
        wait_for(SLACK, "nothing is fast", || {
            let before = fast();
            let _ = ping();
            fast() > before
        });
        let agent = host.vethpath("stats --json").ok().json()["agent"]["pid"].to_string();
        let _ = host.run(format!("kill -KILL {agent}")).ok();
        wait_for(SLACK, "the lease does not end", || lease(&host.exe()) == 0);
        let before = fast();
        let _ = ping();
        assert_eq!(fast(), before, "{shift}: without an agent it is a plain bridge");
        let _ = host.vethpath("down three-hosts").ok();
    }
    host.finish();
}

/// How many seconds ago the machine was booted.
fn uptime_seconds() -> u64 {
    let uptime = std::fs::read_to_string("/proc/uptime").expect("it is there");
    uptime.split('.').next().and_then(|seconds| seconds.parse().ok()).expect("a number")
}
