//! Receivers that go down, disappear or move.

use super::super::common::{A_SECOND, B, C, on_all};
use crate::harness::{Host, TIMEOUT};

#[test]
fn down_and_up_again() {
    on_all(|host, lab, _| {
        let port = lab.port("ns1:eth0");
        let _ = host.run(format!("ip link set {port} down")).ok();
        lab.loses_within(A_SECOND, "ns0", B);
        lab.reaches("ns0", C);
        let _ = host.run(format!("ip link set {port} up")).ok();
        lab.reaches_within(A_SECOND, "ns0", B);
    });
}

#[test]
fn no_longer_a_port() {
    on_all(|host, lab, _| {
        let port = lab.port("ns1:eth0");
        let _ = host.run(format!("ip link set {port} nomaster")).ok();
        lab.loses_within(A_SECOND, "ns0", B);
        lab.reaches("ns0", C);
        let _ = host.run(format!("ip link set {port} master docker0")).ok();
        lab.reaches_within(A_SECOND, "ns0", B);
    });
}

/// A receiver that disappears affects no other.
#[test]
fn a_namespace_is_deleted_by_hand() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", B);
    let _ = host.run("ip netns del ns1").ok();
    // The kernel removes namespaces asynchronously, one after the other.
    lab.loses_within(TIMEOUT, "ns0", B);
    lab.is_fast("ns0:eth0", "172.17.0.103");
    let _ = host.vethpath("show three-hosts").ok();
    lab.down();
    host.finish();
}

#[test]
fn an_inner_end_is_deleted_by_hand() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", B);
    let _ = lab.run("ns1", "ip link del eth0").ok();
    lab.loses_within(A_SECOND, "ns0", B);
    lab.is_fast("ns0:eth0", "172.17.0.103");
    lab.down();
    host.finish();
}

#[test]
fn the_bridge_is_deleted_by_hand() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", B);
    let _ = host.run("ip link del docker0").ok();
    lab.loses_within(A_SECOND, "ns0", B);
    lab.down();
    host.finish();
}
