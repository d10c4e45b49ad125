//! tc and tcx programs and qdiscs that others have added to ports keep working.

use std::time::Duration;

use super::super::common::{A_SECOND, B, fast_lab, sink};
use crate::harness::{Host, SLACK, iperf, received, wait_for, wait_until};

#[test]
fn a_shaper_shapes() {
    let host = Host::new();
    let lab = fast_lab(&host);
    let port = lab.port("ns1:eth0");
    let _ = host.run(format!("tc qdisc add dev {port} root tbf rate 8mbit burst 20kb latency 50ms")).ok();
    let through = || {
        let qdiscs = host.json(format!("tc -s -j qdisc show dev {port} root"));
        qdiscs[0]["packets"].as_u64().expect("a counter")
    };
    wait_until(A_SECOND, || {
        let before = through();
        lab.reaches("ns0", B);
        let passed = through() - before;
        if passed >= 3 { Ok(()) } else { Err(format!("{passed} of 3 pings went through the shaper")) }
    });
    let report = iperf(&lab, "ns0", ("ns1", B), "--time 2");
    // 8 Mbit/s for two seconds are 2 MB. A fast path around the shaper would carry gigabytes.
    assert!(received(&report) < 8_000_000, "{:#}", report["end"]);
    let qdiscs = host.json(format!("tc -j qdisc show dev {port} root"));
    assert_eq!(qdiscs[0]["kind"], "tbf");
    let _ = host.run(format!("tc qdisc del dev {port} root")).ok();
    lab.is_fast("ns0:eth0", B);
    let _ = lab.accounts_balance();
    lab.down();
    host.finish();
}

#[test]
fn somebodys_filter_at_the_egress_of_a_port() {
    let mut host = Host::new();
    sink(&mut host);
    let lab = fast_lab(&host);
    let port = lab.port("ns1:eth0");
    filter(&host, &port, "egress", "mirred egress redirect dev sink0");
    // They are redirected: ns1 does not receive them.
    lab.loses_within(A_SECOND, "ns0", B);
    lab.reaches("ns0", "172.17.0.103");
    let _ = host.run(format!("tc filter show dev {port} egress")).ok().prints("mirred");
    let _ = host.run(format!("tc qdisc del dev {port} clsact")).ok();
    lab.reaches_within(A_SECOND, "ns0", B);
    lab.is_fast("ns0:eth0", B);
    lab.down();
    host.finish();
}

#[test]
fn somebodys_filter_at_the_ingress_of_a_port() {
    let mut host = Host::new();
    sink(&mut host);
    let lab = fast_lab(&host);
    let port = lab.port("ns0:eth0");
    // The qdisc alone does nothing to frames.
    let _ = host.run(format!("tc qdisc add dev {port} clsact")).ok();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(lab.state("ns0:eth0"), "armed");
    filter(&host, &port, "ingress", "mirred egress mirror dev sink0");
    let mirrored = || {
        let link = host.json("ip -s -j link show dev sink1");
        link[0]["stats64"]["rx"]["packets"].as_u64().expect("a counter")
    };
    wait_until(A_SECOND, || {
        let before = mirrored();
        lab.reaches("ns0", B);
        let copies = mirrored() - before;
        if copies >= 3 { Ok(()) } else { Err(format!("{copies} of 3 pings were mirrored")) }
    });
    let _ = host.run(format!("tc qdisc del dev {port} clsact")).ok();
    lab.is_fast("ns0:eth0", B);
    let _ = lab.accounts_balance();
    lab.down();
    host.finish();
}

/// Another program's filter for frames to ns1.
fn filter(host: &Host, port: &str, way: &str, action: &str) {
    let _ = host.run(format!("tc qdisc replace dev {port} clsact")).ok();
    let matching = "protocol ip u32 match ip dst 172.17.0.102/32";
    let _ = host.run(format!("tc filter add dev {port} {way} {matching} action {action}")).ok();
}

/// Under clsact our filter is identified by its priority and handle. A single ingress filter of another program is
/// not taken for it.
#[test]
fn a_clsact_filter_of_somebody_else_is_not_ours() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    let _ = host.vethpath(format!("up {file} --hook clsact")).ok().says("3 of 3 pairs armed");
    let lab_stats = || {
        let done = host.vethpath("stats --json").ok();
        let pairs = done.json()["pairs"].clone();
        (pairs[0]["port"].as_str().expect("a port").to_owned(), pairs[0]["state"].as_str().map(str::to_owned))
    };
    let (port, _) = lab_stats();
    let _ = host.run(format!("tc filter del dev {port} ingress")).ok();
    let program = "/sys/fs/bpf/vethpath/three-hosts/port_ingress_0";
    let add = format!(
        "tc filter add dev {port} ingress prio 5 protocol all bpf direct-action object-pinned {program}"
    );
    let _ = host.run(add).ok();
    wait_for(SLACK, "somebody else's filter is not seen", || {
        lab_stats().1.is_some_and(|state| state != "armed")
    });
    // It stays so after the agent's next check.
    std::thread::sleep(Duration::from_secs(2));
    assert_ne!(lab_stats().1.as_deref(), Some("armed"));
    let _ = host.vethpath("down").ok();
    host.finish();
}
