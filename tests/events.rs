//! `vethpath events`: each event of a lab is reported once, with its time.

use std::{
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{Host, Process, SLACK, TIMEOUT, wait_for, wait_until};

/// What `vethpath events --json` prints, each line parsed, in order of time.
#[track_caller]
fn events(host: &Host, more: &str) -> Vec<Value> {
    let output = host.vethpath(format!("events three-hosts --json {more}")).ok();
    let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
    let events: Vec<_> = output.stdout.lines().map(parse).collect();
    let time = |event: &Value| event["time"].as_str().map(str::to_owned).expect("each has a time");
    for event in &events {
        let time = time(event);
        assert!(time.len() == "2026-11-21T02:47:52.123456Z".len() && time.ends_with('Z'), "{event}");
        assert_eq!(event["lab"], "three-hosts");
    }
    assert!(events.is_sorted_by_key(time), "not in order of time: {output}");
    events
}

/// Waits for an event for which `is` holds.
#[track_caller]
fn wait_for_event(host: &Host, is: impl Fn(&Value) -> bool) -> Value {
    wait_until(TIMEOUT, || {
        let events = events(host, "");
        let found = events.iter().rev().find(|event| is(event)).cloned();
        found.ok_or_else(|| format!("no such event in {events:#?}"))
    })
}

/// Waits until the last event of ns0's pair is that it is armed, or that it is not armed for this reason.
#[track_caller]
fn wait_for_state(host: &Host, reason: Option<&str>) -> Value {
    wait_until(TIMEOUT, || {
        let events = events(host, "--pair ns0:eth0");
        let last = events.last().cloned().ok_or("no event of it")?;
        let is = match reason {
            None => last["kind"] == "pair-armed",
            Some(reason) => last["kind"] == "pair-not-armed" && last["reason"] == reason,
        };
        if is { Ok(last) } else { Err(format!("{reason:?} is not the last of {events:#?}")) }
    })
}

/// Waits until `is` holds for the output of a follower.
#[track_caller]
fn wait_for_output(follower: &Process, is: impl Fn(&str) -> bool) {
    wait_until(TIMEOUT, || {
        let printed = follower.output();
        if is(&printed) { Ok(()) } else { Err(format!("so far: {printed}")) }
    });
}

/// The same events without expired leases: on a loaded machine a lease may expire at any time.
fn without_leases(mut events: Vec<Value>) -> Vec<Value> {
    events.retain(|event| event["kind"] != "lease-expired");
    events
}

#[test]
fn each_state_change_of_a_pair_is_reported_with_the_previous_state() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let first = wait_for_state(&host, None);
    let port = lab.port("ns0:eth0");
    assert_eq!(first["port"], *port);
    let qdisc = "qdisc tbf on the port";
    for (change, restore, reason) in [
        (format!("ip link set {port} down"), format!("ip link set {port} up"), "the port is down"),
        (
            format!("tc qdisc add dev {port} root tbf rate 8mbit burst 20kb latency 50ms"),
            format!("tc qdisc del dev {port} root"),
            qdisc,
        ),
        (
            format!("bridge link set dev {port} neigh_suppress on"),
            format!("bridge link set dev {port} neigh_suppress off"),
            "port flag neigh_suppress",
        ),
    ] {
        let _ = host.run(change).ok();
        let event = wait_for_state(&host, Some(reason));
        assert_eq!(event["before"], "armed", "{event}");
        let _ = host.run(restore).ok();
        let event = wait_for_state(&host, None);
        assert!(event["before"].is_string() && event["before"] != "armed", "{event}");
    }
    let text = host
        .vethpath("events --pair ns0:eth0")
        .ok()
        .stdout_has(&format!("Z  ns0:eth0  not armed: {qdisc}\n"));
    assert!(text.stdout.lines().all(|line| line.contains("  ns0:eth0  ")), "{text}");
    let log = host.run("cat /run/vethpath/three-hosts/agent.log").ok().stdout;
    assert!(!log.contains("armed"), "told twice: {log}");
    lab.down();
    host.finish();
}

#[test]
fn up_and_start_and_end_of_agents_are_reported() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let first = lab.pid();
    let started = events(&host, "").into_iter().next().expect("an event");
    assert_eq!((&started["kind"], &started["pid"]), (&"agent-started".into(), &first.into()), "{started}");
    assert_eq!(started["former"], "none");
    let up = wait_for_event(&host, |event| event["kind"] == "lab-up");
    assert!(up["changes"].as_u64().is_some_and(|changes| changes > 0), "{up}");

    // A killed agent cannot report its end: the next one does.
    for (signal, former) in [("KILL", "died"), ("TERM", "ended")] {
        let before = lab.pid();
        let _ = host.run(format!("kill -{signal} {before}")).ok();
        host.wait_for_exit(before);
        let _ = host.vethpath(format!("up {}", lab.file)).ok();
        let now = lab.pid();
        let started = wait_for_event(&host, |event| event["pid"] == now);
        assert_eq!(started["former"], former, "{started}");
        if signal == "TERM" {
            let ended = wait_for_event(&host, |event| event["kind"] == "agent-ended");
            assert_eq!((&ended["pid"], &ended["how"]), (&before.into(), &"terminated".into()), "{ended}");
        }
    }
    let ups = || events(&host, "").iter().filter(|event| event["kind"] == "lab-up").count();
    let _ = lab.live_stats();
    let before = ups();
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    assert_eq!(ups(), before, "nothing was changed");
    lab.down();
    host.finish();
}

#[test]
fn a_continued_agent_reports_how_long_the_lease_was_expired() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let pid = lab.pid();
    let _ = host.run(format!("kill -STOP {pid}")).ok();
    // The stopped agent does not reply. Each call times out after two seconds, and the lease lasts three.
    wait_until(TIMEOUT, || {
        let agent = host.vethpath("stats three-hosts --json").ok().json();
        if agent["agent"]["lease_left_ms"] == 0 { Ok(()) } else { Err(format!("{agent:#}")) }
    });
    let _ = host.run(format!("kill -CONT {pid}")).ok();
    let event = wait_for_event(&host, |event| event["kind"] == "lease-expired");
    assert!(event["for_ms"].as_u64().is_some_and(|ms| ms < 120_000), "{event}");
    lab.down();
    host.finish();
}

#[test]
fn a_bridge_that_is_deleted_and_made_again() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let _ = host.run("ip link del docker0").ok();
    let gone = wait_for_event(&host, |event| event["kind"] == "bridge-gone");
    assert_eq!((&gone["bridge"], &gone["namespace"]), (&"docker0".into(), &"host".into()));
    let _ = wait_for_state(&host, Some("the port is not on its bridge"));
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    let _ = wait_for_event(&host, |event| event["kind"] == "bridge-back");
    lab.down();
    host.finish();
}

#[test]
fn a_namespace_with_a_bridge_that_is_deleted() {
    let host = Host::new();
    let lab = host.lab("fabric").named("three-hosts").up();
    let _ = wait_for_state(&host, None);
    let _ = host.run("ip netns del fabric").ok();
    let gone = wait_for_event(&host, |event| event["kind"] == "namespace-gone");
    assert_eq!(gone["namespace"], "fabric");
    let _ = wait_for_state(&host, Some("the port does not exist"));
    let _ = wait_for_event(&host, |event| event["kind"] == "bridge-gone" && event["bridge"] == "br0");
    lab.down();
    host.finish();
}

/// The agent is stopped while more events occur than its socket can hold.
#[test]
fn lost_netlink_events_are_reported() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let pid = lab.pid();
    let _ = host.run(format!("kill -STOP {pid}")).ok();
    let mut batch = String::new();
    for round in 0..40_000 {
        let word = if round % 2 == 0 { "add" } else { "del" };
        batch += &format!("fdb {word} 02:aa:aa:aa:aa:aa dev {} master static\n", "PORT");
    }
    // `stats` would wait for the agent, which is stopped. `bridge` lists the ports too.
    let port = host.json("bridge -j link")[0]["ifname"].as_str().expect("a port").to_owned();
    let _ = host.run_with_input("bridge -batch -", &batch.replace("PORT", &port)).ok();
    let _ = host.run(format!("kill -CONT {pid}")).ok();
    let lost = wait_for_event(&host, |event| event["kind"] == "netlink-lost");
    assert!(lost["generation"].as_u64().is_some_and(|generation| generation > 0), "{lost}");
    lab.down();
    host.finish();
}

#[test]
fn start_and_end_of_bench_are_reported() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let _ = host.vethpath("bench three-hosts --seconds 1").ok();
    let kinds: Vec<_> = without_leases(events(&host, "")).iter().map(|event| event["kind"].clone()).collect();
    let at = |kind: &str| kinds.iter().position(|other| other == kind).expect(kind);
    assert_eq!(at("bench-ended"), at("bench-started") + 1, "each turn is told: {kinds:?}");
    lab.down();
    host.finish();
}

/// While the bench lock is held, program changes are not reported. What a killed `bench` leaves is reported.
#[test]
fn programs_left_detached_are_reported() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let _ = wait_for_state(&host, None);
    let bench = host.spawn([
        "flock",
        "/run/vethpath/three-hosts/bench.lock",
        "sh",
        "-c",
        "echo ready; exec sleep 1000",
    ]);
    wait_for_output(&bench, |printed| printed.contains("ready"));
    let before = without_leases(events(&host, ""));
    let off = "the program is not attached";
    let _ = host.run(["sh", "-c", "rm /sys/fs/bpf/vethpath/three-hosts/link_*"]).ok();
    wait_until(SLACK, || match lab.stats().pair("ns0:eth0").state.as_str() {
        state if state == off => Ok(()),
        other => Err(other.to_owned()),
    });
    assert_eq!(without_leases(events(&host, "")), before);
    drop(bench);
    let event = wait_for_state(&host, Some(off));
    assert_eq!(event["before"], "armed");
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    let _ = wait_for_state(&host, None);
    lab.down();
    host.finish();
}

#[test]
fn events_are_for_root_alone_and_broken_lines_are_skipped() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let file = host.path("/run/vethpath/three-hosts/events.jsonl");
    let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = without_leases(events(&host, "")).len();
    let change = "printf '{\"time\":\"20\\n\\377\\n{\"half' >> /run/vethpath/three-hosts/events.jsonl";
    let _ = host.run(["sh", "-c", change]).ok();
    assert_eq!(without_leases(events(&host, "")).len(), before);
    let port = lab.port("ns0:eth0");
    let _ = host.run(format!("ip link set {port} down")).ok();
    let _ = wait_for_state(&host, Some("the port is down"));
    lab.down();
    host.finish();
}

/// Whatever happens to the file, the fast path goes on.
#[test]
fn an_unwritable_event_file_does_not_stop_the_fast_path() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let _ =
        host.run(["sh", "-c", "cd /run/vethpath/three-hosts && rm events.jsonl && mkdir events.jsonl"]).ok();
    let port = lab.port("ns0:eth0");
    let _ = host.run(format!("ip link set {port} down")).ok();
    wait_until(SLACK, || match lab.stats().pair("ns0:eth0").state.as_str() {
        "the port is down" => Ok(()),
        other => Err(other.to_owned()),
    });
    let _ = host.run(format!("ip link set {port} up")).ok();
    lab.is_fast("ns0:eth0", "172.17.0.102");
    let _ = host.run("rmdir /run/vethpath/three-hosts/events.jsonl").ok();
    // Events that could not be written then are written now.
    let event = wait_for_event(&host, |event| event["reason"] == "the port is down");
    assert_eq!(event["before"], "armed");
    lab.down();
    host.finish();
}

#[test]
fn follow_prints_events_at_once_and_ends_with_the_lab() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let port = lab.port("ns0:eth0");
    let followers = ["events -f", "events three-hosts --follow --json", "events -f --pair ns0:eth0"]
        .map(|command| host.spawn_vethpath(command));
    for follower in &followers {
        wait_for_output(follower, |printed| printed.contains("armed"));
    }
    for (state, seen) in [("down", "the port is down"), ("up", "armed")] {
        let _ = host.run(format!("ip link set {port} {state}")).ok();
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
    host.wait_for_exit(first);
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    wait_for_output(&followers[1], |printed| printed.matches("\"lab-up\"").count() == 2);
    let kept = host.vethpath("events --json").ok().stdout;
    let start = Instant::now();
    lab.down();
    let elapsed = start.elapsed();
    let [text, json, pair] = followers.map(|follower| follower.wait(TIMEOUT).ok());
    for output in [&text, &json, &pair] {
        assert_eq!(output.stderr, "lab three-hosts is down\n", "{output}");
    }
    let (head, tail) = json.stdout.split_at(kept.len().min(json.stdout.len()));
    assert_eq!(head, kept, "what was there is told first, once");
    assert!(tail.contains("\"lab-down\""), "{json}");
    // An agent that does not end within three seconds is killed, and reports nothing.
    assert!(tail.contains("\"agent-ended\"") || elapsed > Duration::from_secs(3), "{json}");
    assert_eq!(text.stdout.lines().count(), json.stdout.lines().count());
    assert!(pair.stdout.lines().all(|line| line.contains("  ns0:eth0  ")), "{pair}");
    host.finish();
}

#[test]
fn follow_exits_with_0_when_interrupted() {
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
fn follow_ends_when_the_folder_is_removed_by_hand() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let standing = host.spawn(["sh", "-c", "cd /run/vethpath/three-hosts && exec sleep 1000"]);
    let follower = host.spawn_vethpath("events -f");
    wait_for_output(&follower, |printed| printed.contains("lab  up"));
    host.remove("/run/vethpath/three-hosts");
    let _ = follower.wait(TIMEOUT).ok().stderr_has("lab three-hosts is down");
    drop(standing);
    let _ = host.vethpath(format!("down {}", lab.file)).ok();
    lab.forget();
    wait_for(SLACK, "the agent lives", || host.agents("three-hosts") == 0);
    host.finish();
}

#[test]
fn since_omits_older_events() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let count = |more| without_leases(events(&host, more)).len();
    assert_eq!(count("--since 2h"), count(""));
    wait_until(TIMEOUT, || {
        let recent = events(&host, "--since 1s");
        if recent.is_empty() { Ok(()) } else { Err(format!("{recent:#?}")) }
    });
    let _ = host.vethpath("events --since soon").fails(1).stderr_has("--since");
    lab.down();
    host.finish();
}

#[test]
fn missing_labs_and_pairs_exit_with_1() {
    let host = Host::new();
    let _ = host.vethpath("events").fails(1).stderr_has("no lab is up").stderr_has("hint:");
    let _ = host
        .vethpath("events -f three-hosts")
        .fails(1)
        .stderr_has("no lab `three-hosts` is up")
        .stderr_has("hint:");
    let lab = host.lab("three-hosts").up();
    let _ = host
        .vethpath(format!("events {} --pair ns7:eth0", lab.file))
        .fails(1)
        .stderr_has("ns7:eth0")
        .stderr_has("hint:");
    let exe = host.public_exe();
    for more in ["", "--json", "-f", "-f --json"] {
        let script = format!("set -o pipefail; {exe} events {more} | head -1");
        let mut closed = host.spawn(["bash", "-c", &script]);
        wait_for_output(&closed, |printed| printed.contains("started"));
        // A follower notices a closed pipe at the next event. `head` may take a while to exit.
        let port = lab.port("ns0:eth0");
        wait_until(TIMEOUT, || {
            for (state, reason) in [("down", Some("the port is down")), ("up", None)] {
                let _ = host.run(format!("ip link set {port} {state}")).ok();
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
