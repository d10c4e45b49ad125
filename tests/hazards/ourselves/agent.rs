//! The end and restart of the agent: the network goes on, counters are kept, and `up` restores the fast path.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Host, Iperf, Lab, SLACK, Stats, TIMEOUT, holds_for, wait_for, wait_until};

const NS1: &str = "172.17.0.102";

#[test]
fn the_lease_of_a_killed_agent_expires_and_up_replaces_it() {
    without_agent("KILL", true);
}

#[test]
fn the_network_works_after_the_agent_is_terminated() {
    without_agent("TERM", false);
}

/// Ends the agent during a TCP stream, checks that the bridge takes over, and starts the agent again.
fn without_agent(signal: &str, expect_lease: bool) {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", NS1);
    let armed = lab.live_stats();
    let first_pid = lab.pid();

    let stream = Iperf::start(&lab, "ns0", ("ns1", NS1), "--time 8");
    wait_for(SLACK, "the stream is not fast", || lab.stats().fast() > armed.fast() + 1000);
    let _ = host.run(format!("kill -{signal} {first_pid}")).ok();
    lab.reaches("ns2", NS1);
    // After SIGTERM, the agent may take a while to exit.
    host.wait_for_exit(first_pid);
    let orphaned = wait_until_slow(&lab, &armed);
    assert!(!orphaned.agent.alive, "{:#?}", orphaned.agent);
    if expect_lease {
        // New frames have been sent since, and are counted as slow for this reason.
        let slow = orphaned.pair("ns0:eth0").slow("lease");
        wait_for(SLACK, "no frame is slow for want of a lease", || {
            lab.reaches("ns0", NS1);
            lab.stats().pair("ns0:eth0").slow("lease") > slow
        });
    }
    assert_continuous(stream);
    lab.reaches("ns2", NS1);
    let before = lab.assert_counters_match();
    before.not_less_than(&armed);

    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    wait_until_armed(&lab);
    let after = lab.live_stats();
    after.not_less_than(&before);
    assert!(after.agent.pid.is_some_and(|pid| pid != first_pid), "{:#?}", after.agent);
    lab.is_fast("ns0:eth0", NS1);
    lab.assert_counters_match().not_less_than(&before);
    lab.down();
    host.finish();
}

#[test]
fn a_continued_agent_restores_the_fast_path() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", NS1);
    let armed = lab.live_stats();
    let pid = lab.pid();
    let _ = host.run(format!("kill -STOP {pid}")).ok();
    let _ = wait_until_slow(&lab, &armed);
    lab.reaches("ns0", NS1);
    let _ = host.run(format!("kill -CONT {pid}")).ok();
    lab.is_fast("ns0:eth0", NS1);
    assert_eq!(lab.pid(), pid);
    lab.down();
    host.finish();
}

#[test]
fn a_stopped_agent_cannot_keep_a_lab_up() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let pid = lab.pid();
    let _ = host.run(format!("kill -STOP {pid}")).ok();
    lab.down();
    host.finish();
}

#[test]
fn down_needs_no_agent() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let pid = lab.pid();
    let _ = host.run(format!("kill -KILL {pid}")).ok();
    for command in ["show", "list", "stats"] {
        let _ = host.vethpath(command).ok();
    }
    lab.down();
    host.finish();
}

#[test]
fn a_second_up_keeps_a_running_agent() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", NS1);
    let before = lab.live_stats();
    let again = host.vethpath(format!("up {} --json", lab.file)).ok().json();
    assert_eq!(again["changes"], Value::Array(vec![]));
    let after = lab.live_stats();
    after.not_less_than(&before);
    assert_eq!(after.agent.pid, before.agent.pid);
    wait_until_armed(&lab);
    lab.down();
    host.finish();
}

/// `up` and its agent must not depend on the shell they were started from.
#[test]
fn the_agent_survives_the_death_of_its_session() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    let exe = host.public_exe();
    let _ = host.run(["script", "-qec", &format!("{exe} up {file}"), "/dev/null"]).ok();
    let answers = || {
        wait_until(TIMEOUT, || {
            let agent = host.vethpath("stats three-hosts --json").ok().json()["agent"].clone();
            let pid = agent["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
            pid.ok_or_else(|| format!("the agent does not answer: {agent}"))
        })
    };
    let pid = answers();
    holds_for(Duration::from_secs(2), "the agent went with its terminal", || host.is_alive(pid));
    assert_eq!(answers(), pid);
    let _ = host.vethpath("down three-hosts").ok();
    host.finish();
}

/// Waits until pings get replies and none of them is fast. Checks that it stays so.
#[track_caller]
fn wait_until_slow(lab: &Lab<'_>, armed: &Stats) -> Stats {
    let promise = Duration::from_millis(armed.agent.lease_ms) + Duration::from_secs(1);
    let ping = || {
        let before = lab.stats();
        lab.reaches("ns0", NS1);
        (before, lab.stats())
    };
    let still = |(before, after): &(Stats, Stats)| before.fast() == after.fast();
    let (_, stats) = wait_until(promise + SLACK, || {
        let both = ping();
        if still(&both) { Ok(both) } else { Err(format!("still fast: {:#?}", both.1)) }
    });
    for _ in 0..3 {
        assert!(still(&ping()), "the fast path came back on its own");
    }
    stats
}

/// Checks that every second of the stream transferred data.
#[track_caller]
fn assert_continuous(stream: Iperf) {
    let report = stream.report();
    let intervals = report["intervals"].as_array().expect("one a second");
    // A client that was late catches up with intervals of almost no length.
    let moved = |i: &Value| {
        let sum = &i["sum"];
        sum["bytes"].as_u64().is_some_and(|b| b > 0) || sum["seconds"].as_f64().is_some_and(|s| s < 0.5)
    };
    assert!(intervals.len() >= 7 && intervals.iter().all(moved), "{report:#}");
}

#[track_caller]
fn wait_until_armed(lab: &Lab<'_>) {
    wait_until(TIMEOUT, || {
        let stats = lab.stats();
        let armed = stats.pairs.iter().all(|p| p.state == "armed") && stats.agent.alive;
        if armed { Ok(()) } else { Err(format!("not armed: {stats:#?}")) }
    });
}

/// Pins that were removed are created again, and not by an agent that still holds the old maps. A clsact filter
/// outlives the pins, and gets the new program.
#[test]
fn removed_pins_are_created_again() {
    for hook in ["", "--hook clsact"] {
        let host = Host::new();
        let file = host.lab("three-hosts").write();
        let _ = host.vethpath(format!("up {file} {hook}")).ok();
        let lab = Lab::existing(&host, "three-hosts", file.clone());
        let before = lab.pid();
        let _ = host.run("rm -rf /sys/fs/bpf/vethpath/three-hosts").ok();
        let _ = host.vethpath(format!("up {file}")).ok();
        assert_ne!(lab.pid(), before);
        lab.is_fast("ns0:eth0", "172.17.0.102");
        lab.down();
        host.finish();
    }
}

/// An agent whose state folder was removed cannot be found any more: it exits by itself.
#[test]
fn a_state_folder_removed_by_hand_leaves_no_agent() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let file = host.lab("three-hosts").write();
    host.remove("/run/vethpath/three-hosts");
    let _ = host.vethpath(format!("up {file}")).ok();
    wait_for(SLACK, "the first agent ends", || host.agents("three-hosts") == 1);
    lab.is_fast("ns0:eth0", "172.17.0.102");
    host.remove("/run/vethpath/three-hosts");
    let _ = host.vethpath(format!("down {file}")).ok();
    lab.forget();
    wait_for(SLACK, "the second agent ends", || host.agents("three-hosts") == 0);
    host.finish();
}
