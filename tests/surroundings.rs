//! What a command gets from its caller: output that nothing reads, a small stack, an early signal.

use std::collections::BTreeSet;

use crate::harness::{Host, SLACK, TIMEOUT, wait_for, wait_until};

/// Runs a command whose output goes into a pipe without a reader.
fn unread(host: &Host, command: &str) -> crate::harness::Done {
    let script = "pipe(R, W); close R; open(STDOUT, '>&W'); open(STDERR, '>&W'); exec @ARGV";
    let mut words: Vec<_> = ["perl", "-e", script, &host.exe()].map(str::to_owned).to_vec();
    words.extend(command.split(' ').map(str::to_owned));
    host.run(words)
}

#[test]
fn who_reads_nothing_takes_nothing_away() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    for command in ["validate", "plan", "up", "up"] {
        let _ = unread(&host, &format!("{command} {file}")).ok();
    }
    for command in
        ["list", "show", "stats", "exec ns0 -- true", "doctor", "down", "--help", "man", "completions bash"]
    {
        let _ = unread(&host, command).ok();
    }
    let _ = unread(&host, "exec ns0 -- true").fails(1);
    let _ = unread(&host, "down three-hosts").fails(1);
    let _ = unread(&host, "nosuch").fails(1);
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
    let _ = run("list").ok().prints("3 of 3 pairs armed, agent alive");
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
    let _ = run("exec ns0 -- sh -c 'ulimit -s'").ok().prints("64");
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
        let done = up.wait(TIMEOUT);
        if done.succeeded() {
            let _ = host.vethpath("down three-hosts").ok();
        } else {
            let _ = done.fails(130);
        }
        wait_until(SLACK, || host.changes().map_or(Ok(()), Err));
    }
    host.finish();
}
