//! A fast path that is broken on purpose while it is measured: no gain is claimed, and the lab is restored
//! afterwards.

use std::time::Duration;

use super::{armed, has_warning, spawn_stopped_while_detached, stop_while_detached};
use crate::harness::{Host, Lab, Output, TIMEOUT, wait_for, wait_until};

/// This many filters take many times as long as everything that the fast path saves.
const FILTERS: usize = 4000;

/// Thousands of filters at the sender slow the bridge and the fast path alike. The programs' counters still count the
/// frames as fast.
#[test]
fn a_slowed_fast_path_shows_no_gain() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    // Added before the first round, so that all rounds are slow.
    let filter = "filter add dev eth0 egress protocol ip prio 1 u32 match u32 0x12345678 0xffffffff at 0\n";
    let batch = "qdisc add dev eth0 clsact\n".to_owned() + &filter.repeat(FILTERS);
    let _ = host.run_with_input("ip netns exec ns0 tc -batch -", &batch).ok();
    let report = host.vethpath("bench --work udp-rr --cores same --seconds 3 --json").ok().json();
    let removed = &report["overhead_removed"];
    let [value, low, high] = ["value", "low", "high"].map(|part| removed[part].as_f64().unwrap_or_default());
    // All 0 if it is null.
    assert!(value < 0.25 || (low <= 0.0 && high >= 0.0), "{removed:#}");
    let ratio = report["cases"][0]["fast_to_bridge"]["value"].as_f64().expect("a number");
    assert!(ratio > 0.8, "{:#}", report["cases"][0]["fast_to_bridge"]);
    let filters = lab.run("ns0", "tc filter show dev eth0 egress").ok().stdout;
    assert_eq!(filters.matches("match 12345678/ffffffff").count(), FILTERS);
    assert_restored(&host, &lab);
    lab.down();
    host.finish();
}

/// A port is disarmed while another program has a qdisc on it.
#[test]
fn a_qdisc_on_a_port_makes_bench_fail() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let port = lab.port("ns1:eth0");
    let measured = spawn_stopped_while_detached(&host, &lab);
    let _ = host.run(format!("tc qdisc add dev {port} root tbf rate 2mbit burst 2kb latency 50ms")).ok();
    measured.resume();
    let output =
        measured.wait(TIMEOUT).fails(2).stderr_has("ns1:eth0 was armed before and is not any more: qdisc");
    assert_eq!(output.stdout, "");
    assert_eq!(host.json(format!("tc -j qdisc show dev {port} root"))[0]["kind"], "tbf");
    let _ = host.run(format!("tc qdisc del dev {port} root")).ok();
    assert_restored(&host, &lab);
    lab.down();
    host.finish();
}

/// All ports are disarmed by a packet socket, which stays open.
#[test]
fn a_packet_socket_makes_bench_fail() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let measured = spawn_stopped_while_detached(&host, &lab);
    let tap = host.spawn("tcpdump --immediate-mode -n -i any -w /dev/null");
    wait_for(TIMEOUT, "tcpdump does not start", || tap.output().contains("listening on"));
    measured.resume();
    let output = measured.wait(TIMEOUT).fails(2).stderr_has("was armed before and is not any more: ");
    assert_eq!(output.stdout, "");
    drop(tap);
    assert_restored(&host, &lab);
    lab.down();
    host.finish();
}

/// The programs are attached, but their lease is not renewed.
#[test]
fn a_killed_agent_makes_bench_fail() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let agent = lab.pid();
    let measured = spawn_stopped_while_detached(&host, &lab);
    let _ = host.run(format!("kill -9 {agent}")).ok();
    measured.resume();
    let output = measured.wait(TIMEOUT).fails(2).stderr_has("the agent does not answer");
    assert_eq!(output.stdout, "");
    let _ = host.vethpath(format!("up {}", lab.file)).ok().stderr_has("3 of 3 pairs armed");
    assert_restored(&host, &lab);
    lab.down();
    host.finish();
}

/// In the lab beside it, senders leave their checksums to the device, and XDP cannot forward their frames.
#[test]
fn frames_that_xdp_did_not_forward_are_reported() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let before = host.namespaces();
    let measured = "bench --xdp --work udp-rr --cores same --seconds 6 --json";
    let output = break_early(&host, &lab, measured, || {
        let others = host.namespaces().into_iter().filter(|name| !before.contains(name));
        for namespace in others.filter(|name| !name.ends_with("-bridges")) {
            let ethtool = format!("ip netns exec {namespace} ethtool -K eth0 tx-checksum-ip-generic on");
            let _ = host.run(ethtool).ok();
        }
    });
    if output.succeeded() {
        // The report is about the rounds before that.
        let report = output.json();
        assert!(has_warning(&report, "not-fast") || has_warning(&report, "not-xdp"), "{output}");
    } else {
        let output = output.fails(2).stderr_has("no valid round");
        assert_eq!(output.stdout, "");
    }
    assert_eq!(host.namespaces(), before);
    assert_restored(&host, &lab);
    lab.down();
    host.finish();
}

/// Runs a bench of six seconds and breaks something within the first three, so that at most half of the rounds are
/// unaffected. Retries if it was too late.
#[track_caller]
fn break_early(host: &Host, lab: &Lab<'_>, command: &str, break_it: impl Fn()) -> Output {
    wait_until(TIMEOUT, || {
        let measured = host.spawn_vethpath(command);
        stop_while_detached(host, lab, &measured);
        // The lock is written when the first round begins.
        let lock = std::fs::metadata(host.path(&format!("/run/vethpath/{}/bench.lock", lab.name)));
        let begun = lock.and_then(|lock| lock.modified()).expect("it measures");
        break_it();
        let late = begun.elapsed().unwrap_or_default();
        measured.resume();
        let output = measured.wait(TIMEOUT);
        if late < Duration::from_secs(3) {
            return Ok(output);
        }
        Err(format!("it was broken after {late:?}"))
    })
}

/// Checks that the lab has its fast path again.
fn assert_restored(host: &Host, lab: &Lab<'_>) {
    wait_for(TIMEOUT, "the lab is armed again", || armed(host) == 3);
    lab.is_fast("ns0:eth0", "172.17.0.102");
}
