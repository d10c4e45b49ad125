//! Agents that are replaced: by an `up` that is interrupted, beside one that started late, or because they hang.

use std::time::{Duration, Instant};

use crate::harness::{Host, Lab, Process, SLACK, TIMEOUT, wait_for};

fn pid(lab: &Lab<'_>) -> i32 {
    lab.stats().agent.pid.expect("the agent is there")
}

/// The number of agents in the lab's PID namespace.
fn agents(host: &Host) -> String {
    host.run("pgrep -c -f agent.three-hosts").stdout.trim().to_owned()
}

/// It does not answer until it is continued. `plan` and `up` must not wait for that.
#[test]
fn a_stopped_agent_is_replaced_soon() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let first = pid(&lab);
    let _ = host.run(format!("kill -STOP {first}")).ok();
    let began = Instant::now();
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().prints("+ create agent three-hosts");
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    assert!(began.elapsed() < Duration::from_secs(10) + SLACK, "{:?}", began.elapsed());
    assert_ne!(pid(&lab), first);
    wait_for(SLACK, "the first agent is there", || agents(&host) == "1");
    lab.is_fast("ns0:eth0", "172.17.0.102");
    lab.down();
    host.finish();
}

/// Only the agent has been ended, to be replaced. The lab gets an agent again.
#[test]
fn an_interrupted_up_leaves_no_lab_without_its_agent() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let _ = host.run(format!("kill -STOP {}", pid(&lab))).ok();
    let up = waiting(&host, "no-agent", &format!("up {}", lab.file));
    assert_eq!(agents(&host), "0");
    up.interrupt();
    let _ = up.wait(TIMEOUT).fails(130).says("interrupted; what had been done is undone");
    assert_eq!(agents(&host), "1");
    lab.is_fast("ns0:eth0", "172.17.0.102");
    lab.down();
    host.finish();
}

/// An agent that a killed `up` has started may begin at any moment of the next `up` or `down`.
#[test]
fn an_agent_that_was_slow_to_begin_is_in_nobodys_way() {
    let host = Host::new();
    let exe = host.exe();
    for pause in [0, 5, 10, 20, 40] {
        let lab = host.lab("three-hosts").up();
        let _ = host.run(format!("kill -KILL {}", pid(&lab))).ok();
        wait_for(SLACK, "the agent is there", || agents(&host) == "0");
        let late = |command: &str| {
            let seconds = f64::from(pause) / 1000.0;
            let late = host.spawn(["sh", "-c", &format!("sleep {seconds}; exec {exe} agent three-hosts")]);
            let done = host.vethpath(command);
            (late, done)
        };
        let (first, done) = late(&format!("up {}", lab.file));
        let _ = done.ok();
        wait_for(SLACK, "there is not one agent", || agents(&host) == "1");
        lab.is_fast("ns0:eth0", "172.17.0.102");
        let _ = host.run(format!("kill -KILL {}", pid(&lab))).ok();
        drop(first);
        let (second, done) = late("down three-hosts");
        let _ = done.ok();
        let _ = second.wait(TIMEOUT);
        lab.forget();
        assert_eq!(host.changes(), None, "{pause}");
    }
    host.finish();
}

/// Starts a `vethpath` that waits at `place`, and returns it when it does. Only a debug build waits.
#[track_caller]
fn waiting(host: &Host, place: &str, command: &str) -> Process {
    let exe = host.exe();
    let process = host.spawn(format!("env VETHPATH_WAIT_AT={place} {exe} {command}"));
    wait_for(TIMEOUT, "it does not get there", || process.output().contains(&format!("waiting at {place}")));
    process
}
