//! `vethpath events`: each event of a lab is reported once, with its time.

mod reading;

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::harness::{Host, Process, SLACK, TIMEOUT, wait_until};

/// What `vethpath events --json` prints, each line parsed, in order of time.
#[track_caller]
fn events(host: &Host, more: &str) -> Vec<Value> {
    let done = host.vethpath(format!("events three-hosts --json {more}")).ok();
    let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
    let events: Vec<_> = done.stdout.lines().map(parse).collect();
    let time = |event: &Value| event["time"].as_str().map(str::to_owned).expect("each has a time");
    for event in &events {
        let time = time(event);
        assert!(time.len() == "2026-11-21T02:47:52.123456Z".len() && time.ends_with('Z'), "{event}");
        assert_eq!(event["lab"], "three-hosts");
    }
    assert!(events.is_sorted_by_key(time), "not in order of time: {done}");
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
fn each_change_of_a_pair_is_told_with_what_was_before() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let first = wait_for_state(&host, None);
    let port = lab.port("ns0:eth0");
    assert_eq!(first["port"], *port);
    let qdisc = "qdisc tbf on the port";
    for (spoil, mend, reason) in [
        (format!("ip link set {port} down"), format!("ip link set {port} up"), "the port is down"),
        (
            format!("tc qdisc add dev {port} root tbf rate 8mbit burst 20kb latency 50ms"),
            format!("tc qdisc del dev {port} root"),
            qdisc,
        ),
        (
            format!("bridge link set dev {port} hairpin on"),
            format!("bridge link set dev {port} hairpin off"),
            "port flag hairpin",
        ),
    ] {
        let _ = host.run(spoil).ok();
        let event = wait_for_state(&host, Some(reason));
        assert_eq!(event["before"], "armed", "{event}");
        let _ = host.run(mend).ok();
        let event = wait_for_state(&host, None);
        assert!(event["before"].is_string() && event["before"] != "armed", "{event}");
    }
    let text =
        host.vethpath("events --pair ns0:eth0").ok().prints(&format!("Z  ns0:eth0  not armed: {qdisc}\n"));
    assert!(text.stdout.lines().all(|line| line.contains("  ns0:eth0  ")), "{text}");
    let log = host.run("cat /run/vethpath/three-hosts/agent.log").ok().stdout;
    assert!(!log.contains("armed"), "told twice: {log}");
    lab.down();
    host.finish();
}

#[test]
fn up_and_the_agents_life_are_told() {
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
        host.ends(before);
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
    let _ = lab.heard();
    let before = ups();
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    assert_eq!(ups(), before, "nothing was changed");
    lab.down();
    host.finish();
}

#[test]
fn an_agent_that_was_stopped_tells_for_how_long_the_lease_had_run_out() {
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
fn netlink_events_that_were_lost_are_told() {
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
    let _ = host.feed("bridge -batch -", &batch.replace("PORT", &port)).ok();
    let _ = host.run(format!("kill -CONT {pid}")).ok();
    let lost = wait_for_event(&host, |event| event["kind"] == "netlink-lost");
    assert!(lost["generation"].as_u64().is_some_and(|generation| generation > 1), "{lost}");
    lab.down();
    host.finish();
}

#[test]
fn bench_is_told() {
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
fn programs_that_stay_off_are_told() {
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
    let told = wait_for_state(&host, Some(off));
    assert_eq!(told["before"], "armed");
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    let _ = wait_for_state(&host, None);
    lab.down();
    host.finish();
}

#[test]
fn events_are_roots_alone_and_a_broken_line_hides_no_other() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let file = host.path("/run/vethpath/three-hosts/events.jsonl");
    let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = without_leases(events(&host, "")).len();
    let spoil = "printf '{\"time\":\"20\\n\\377\\n{\"half' >> /run/vethpath/three-hosts/events.jsonl";
    let _ = host.run(["sh", "-c", spoil]).ok();
    assert_eq!(without_leases(events(&host, "")).len(), before);
    let port = lab.port("ns0:eth0");
    let _ = host.run(format!("ip link set {port} down")).ok();
    let _ = wait_for_state(&host, Some("the port is down"));
    lab.down();
    host.finish();
}

/// Whatever happens to the file, the fast path goes on.
#[test]
fn a_file_that_cannot_be_written_stops_nothing() {
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
    let told = wait_for_event(&host, |event| event["reason"] == "the port is down");
    assert_eq!(told["before"], "armed");
    lab.down();
    host.finish();
}
