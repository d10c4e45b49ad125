//! Reading events as they occur, reading some of them, and reading where there are none.

use std::time::{Duration, Instant};

use super::{events, wait_for_output, wait_for_state, without_leases};
use crate::harness::{Host, SLACK, TIMEOUT, wait_until};

#[test]
fn following_tells_at_once_and_ends_with_the_lab() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let port = lab.port("ns0:eth0");
    let followers = ["events -f", "events three-hosts --follow --json", "events -f --pair ns0:eth0"]
        .map(|command| host.spawn_vethpath(command));
    for follower in &followers {
        wait_for_output(follower, |printed| printed.contains("armed"));
    }
    for (way, seen) in [("down", "the port is down"), ("up", "armed")] {
        let _ = host.run(format!("ip link set {port} {way}")).ok();
        for follower in &followers {
            let last = |printed: &str| {
                let of_it = |line: &&str| line.contains("ns0:eth0") && line.contains("armed");
                printed.lines().rfind(of_it).is_some_and(|line| line.contains(seen))
            };
            wait_for_output(follower, last);
        }
    }
    // A new agent and a rotated file: no event is lost, and none is printed twice.
    let first = lab.pid();
    let _ = host.run(format!("kill -KILL {first}")).ok();
    let rotate = "cd /run/vethpath/three-hosts && mv events.jsonl events.old.jsonl";
    let _ = host.run(["sh", "-c", rotate]).ok();
    host.ends(first);
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    wait_for_output(&followers[1], |printed| printed.matches("\"lab-up\"").count() == 2);
    let kept = host.vethpath("events --json").ok().stdout;
    let start = Instant::now();
    lab.down();
    let took = start.elapsed();
    let [text, json, pair] = followers.map(|follower| follower.wait(TIMEOUT).ok());
    for done in [&text, &json, &pair] {
        assert_eq!(done.stderr, "lab three-hosts is down\n", "{done}");
    }
    let (head, tail) = json.stdout.split_at(kept.len().min(json.stdout.len()));
    assert_eq!(head, kept, "what was there is told first, once");
    assert!(tail.contains("\"lab-down\""), "{json}");
    // An agent that does not end within three seconds is killed, and reports nothing.
    assert!(tail.contains("\"agent-ended\"") || took > Duration::from_secs(3), "{json}");
    assert_eq!(text.stdout.lines().count(), json.stdout.lines().count());
    assert!(pair.stdout.lines().all(|line| line.contains("  ns0:eth0  ")), "{pair}");
    host.finish();
}

#[test]
fn following_ends_well_when_interrupted() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let follower = host.spawn_vethpath("events -f");
    wait_for_output(&follower, |printed| printed.contains("lab  up"));
    follower.interrupt();
    let _ = follower.wait(TIMEOUT).ok();
    lab.down();
    host.finish();
}

/// The folder's removal is noticed even while a process has it as its working directory.
#[test]
fn following_ends_when_the_folder_is_removed_by_hand() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let standing = host.spawn(["sh", "-c", "cd /run/vethpath/three-hosts && exec sleep 1000"]);
    let follower = host.spawn_vethpath("events -f");
    wait_for_output(&follower, |printed| printed.contains("lab  up"));
    host.remove("/run/vethpath/three-hosts");
    let _ = follower.wait(TIMEOUT).ok().says("lab three-hosts is down");
    drop(standing);
    let _ = host.vethpath(format!("down {}", lab.file)).ok();
    lab.forget();
    let agents = || host.run("pgrep -c -f agent.three-hosts").stdout.trim().to_owned();
    wait_until(SLACK, || if agents() == "0" { Ok(()) } else { Err("the agent lives".to_owned()) });
    host.finish();
}

#[test]
fn since_leaves_out_what_is_older() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let told = |more| without_leases(events(&host, more)).len();
    assert_eq!(told("--since 2h"), told(""));
    wait_until(TIMEOUT, || {
        let recent = events(&host, "--since 1s");
        if recent.is_empty() { Ok(()) } else { Err(format!("{recent:#?}")) }
    });
    let _ = host.vethpath("events --since soon").fails(1).says("--since");
    lab.down();
    host.finish();
}

#[test]
fn what_is_not_there_is_the_users_fault() {
    let host = Host::new();
    let _ = host.vethpath("events").fails(1).says("no lab is up").says("hint:");
    let _ = host.vethpath("events -f three-hosts").fails(1).says("no lab `three-hosts` is up").says("hint:");
    let lab = host.lab("three-hosts").up();
    let _ =
        host.vethpath(format!("events {} --pair ns7:eth0", lab.file)).fails(1).says("ns7:eth0").says("hint:");
    let exe = host.public_exe();
    for more in ["", "--json", "-f", "-f --json"] {
        let script = format!("set -o pipefail; {exe} events {more} | head -1");
        let mut closed = host.spawn(["bash", "-c", &script]);
        wait_for_output(&closed, |printed| printed.contains("started"));
        // A follower notices a closed pipe at the next event. `head` may take a while to exit.
        let port = lab.port("ns0:eth0");
        wait_until(TIMEOUT, || {
            for (way, reason) in [("down", Some("the port is down")), ("up", None)] {
                let _ = host.run(format!("ip link set {port} {way}")).ok();
                let _ = wait_for_state(&host, reason);
            }
            if closed.has_ended() { Ok(()) } else { Err(format!("it goes on: {more}")) }
        });
        let closed = closed.wait(TIMEOUT).ok();
        assert_eq!((closed.stdout.lines().count(), closed.stderr.as_str()), (1, ""), "{closed}");
    }
    lab.down();
    host.finish();
}
