//! A fast path that is broken on purpose while it is measured: no gain is claimed, and the lab is restored
//! afterwards.

use std::time::Duration;

use super::{armed, stop_while_off, stopped_while_off, warns_of};
use crate::harness::{Done, Host, Lab, TIMEOUT, wait_for, wait_until};

/// This many filters take many times as long as everything that the fast path saves.
const FILTERS: usize = 4000;

/// Thousands of filters at the sender slow the bridge and the fast path alike. The programs' counters still count the
/// frames as fast.
#[test]
fn slowed_down_it_gains_nothing() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    // Added before the first round, so that all rounds are slow.
    let filter = "filter add dev eth0 egress protocol ip prio 1 u32 match u32 0x12345678 0xffffffff at 0\n";
    let batch = "qdisc add dev eth0 clsact\n".to_owned() + &filter.repeat(FILTERS);
    let _ = host.feed("ip netns exec ns0 tc -batch -", &batch).ok();
    let report = host.vethpath("bench --work udp-rr --cores same --seconds 3 --json").ok().json();
    let removed = &report["overhead_removed"];
    let [value, low, high] = ["value", "low", "high"].map(|part| removed[part].as_f64().unwrap_or_default());
    // All 0 if it is null.
    assert!(value < 0.25 || (low <= 0.0 && high >= 0.0), "{removed:#}");
    let ratio = report["cases"][0]["fast_to_bridge"]["value"].as_f64().expect("a number");
    assert!(ratio > 0.8, "{:#}", report["cases"][0]["fast_to_bridge"]);
    let filters = lab.run("ns0", "tc filter show dev eth0 egress").ok().stdout;
    assert_eq!(filters.matches("match 12345678/ffffffff").count(), FILTERS);
    is_as_before(&host, &lab);
    lab.down();
    host.finish();
}

/// A port is disarmed while another program has a qdisc on it.
#[test]
fn disarmed_by_a_queue_it_claims_nothing() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let port = lab.port("ns1:eth0");
    let measured = stopped_while_off(&host, &lab);
    let _ = host.run(format!("tc qdisc add dev {port} root tbf rate 2mbit burst 2kb latency 50ms")).ok();
    measured.go_on();
    let done = measured.wait(TIMEOUT).fails(2).says("ns1:eth0 was armed before and is not any more: qdisc");
    assert_eq!(done.stdout, "");
    assert_eq!(host.json(format!("tc -j qdisc show dev {port} root"))[0]["kind"], "tbf");
    let _ = host.run(format!("tc qdisc del dev {port} root")).ok();
    is_as_before(&host, &lab);
    lab.down();
    host.finish();
}

/// All ports are disarmed by a packet socket, which stays open.
#[test]
fn disarmed_in_the_middle_it_claims_nothing() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let measured = stopped_while_off(&host, &lab);
    let tap = host.spawn("tcpdump --immediate-mode -n -i any -w /dev/null");
    wait_for(TIMEOUT, "tcpdump does not start", || tap.output().contains("listening on"));
    measured.go_on();
    let done = measured.wait(TIMEOUT).fails(2).says("was armed before and is not any more: ");
    assert_eq!(done.stdout, "");
    drop(tap);
    is_as_before(&host, &lab);
    lab.down();
    host.finish();
}

/// The programs are attached, but their lease is not renewed.
#[test]
fn without_its_agent_it_claims_nothing() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let agent = lab.pid();
    let measured = stopped_while_off(&host, &lab);
    let _ = host.run(format!("kill -9 {agent}")).ok();
    measured.go_on();
    let done = measured.wait(TIMEOUT).fails(2).says("the agent does not answer");
    assert_eq!(done.stdout, "");
    let _ = host.vethpath(format!("up {}", lab.file)).ok().says("3 of 3 pairs armed");
    is_as_before(&host, &lab);
    lab.down();
    host.finish();
}

/// In the lab beside it, senders leave their checksums to the device, and XDP cannot forward their frames.
#[test]
fn what_did_not_go_by_xdp_is_not_said_to() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let before = host.namespaces();
    let measured = "bench --xdp --work udp-rr --cores same --seconds 6 --json";
    let done = broken_early(&host, &lab, measured, || {
        let others = host.namespaces().into_iter().filter(|name| !before.contains(name));
        for namespace in others.filter(|name| !name.ends_with("-bridges")) {
            let ethtool = format!("ip netns exec {namespace} ethtool -K eth0 tx-checksum-ip-generic on");
            let _ = host.run(ethtool).ok();
        }
    });
    if done.succeeded() {
        // The report is about the rounds before that.
        let report = done.json();
        assert!(warns_of(&report, "not-fast") || warns_of(&report, "not-xdp"), "{done}");
    } else {
        let done = done.fails(2).says("no valid round");
        assert_eq!(done.stdout, "");
    }
    assert_eq!(host.namespaces(), before);
    is_as_before(&host, &lab);
    lab.down();
    host.finish();
}

/// Runs a bench of six seconds and breaks something within the first three, so that at most half of the rounds are
/// unaffected. Retries if it was too late.
#[track_caller]
fn broken_early(host: &Host, lab: &Lab<'_>, command: &str, breaks: impl Fn()) -> Done {
    wait_until(TIMEOUT, || {
        let measured = host.spawn_vethpath(command);
        stop_while_off(host, lab, &measured);
        // The lock is written when the first round begins.
        let lock = std::fs::metadata(host.path(&format!("/run/vethpath/{}/bench.lock", lab.name)));
        let begun = lock.and_then(|lock| lock.modified()).expect("it measures");
        breaks();
        let late = begun.elapsed().unwrap_or_default();
        measured.go_on();
        let done = measured.wait(TIMEOUT);
        if late < Duration::from_secs(3) {
            return Ok(done);
        }
        Err(format!("it was broken after {late:?}"))
    })
}

/// Checks that the lab has its fast path again.
fn is_as_before(host: &Host, lab: &Lab<'_>) {
    wait_for(TIMEOUT, "the lab is armed again", || armed(host) == 3);
    lab.is_fast("ns0:eth0", "172.17.0.102");
}
