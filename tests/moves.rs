//! Addresses that move, change, age; MTUs that shrink.

use std::time::Duration;

use crate::{
    harness::{Host, Lab, SLACK, holds_for, wait_for, wait_until},
    ports::{knows, mac},
};

const A: &str = "172.17.0.101";
const B: &str = "172.17.0.102";
const SOON: Duration = Duration::from_secs(1).saturating_add(SLACK);
const VIP_MAC: &str = "02:00:00:00:99:99";
const VIP: &str = "172.17.0.150";

/// A service address with a MAC of its own fails over, as VRRP has it.
#[test]
fn a_mac_moves_to_another_port() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", B);
    let mut home = "ns1";
    take_vip(&lab, home);
    for next in ["ns2", "ns1", "ns2"] {
        lab.reaches_within(SOON, "ns0", VIP);
        let _ = lab.run(home, "ip link del vip").ok();
        take_vip(&lab, next);
        // Its first frame tells the bridge where it is now.
        let _ = lab.run(next, format!("ping -n -q -c 1 -W 5 -I vip {A}")).ok();
        lab.reaches("ns0", VIP);
        let port = lab.port(&format!("{next}:eth0"));
        assert!(knows(&host, &port, VIP_MAC), "the bridge does not know where {VIP_MAC} went");
        lab.is_fast("ns0:eth0", B);
        home = next;
    }
    let _ = lab.accounts_balance();
    lab.down();
    host.finish();
}

fn take_vip(lab: &Lab<'_>, namespace: &str) {
    for command in [
        format!("ip link add vip link eth0 address {VIP_MAC} type macvlan mode bridge"),
        format!("ip addr add {VIP}/32 dev vip"),
        "ip link set vip up".to_owned(),
        format!("ip route add {A}/32 dev vip src {VIP} metric 10"),
        // The service answers for its own address alone.
        "sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2".to_owned(),
    ] {
        let _ = lab.run(namespace, command).ok();
    }
}

#[test]
fn an_interface_gets_another_mac() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", B);
    let old = mac(&lab, "ns1");
    for new in ["02:00:00:00:77:01", "02:00:00:00:77:02", old.as_str()] {
        let _ = lab.run("ns1", format!("ip link set eth0 address {new}")).ok();
        lab.reaches_within(SOON, "ns1", A);
        lab.reaches_within(SOON, "ns0", B);
    }
    lab.is_fast("ns0:eth0", B);
    let _ = lab.accounts_balance();
    lab.down();
    host.finish();
}

#[test]
fn an_inner_end_gets_a_smaller_mtu() {
    let host = Host::new();
    for datapath in ["\"bridge\"", "\"tc\""] {
        let lab = host.lab("three-hosts").with("\"tc\"", datapath).up();
        let ping =
            |size: u32| lab.run("ns0", format!("ping -n -q -c 1 -W 1 -M do -s {size} {B}")).succeeded();
        assert!(ping(1472), "{datapath}");
        let _ = lab.run("ns1", "ip link set eth0 mtu 1300").ok();
        wait_for(SOON, "ns1 still gets 1500 bytes", || !ping(1472));
        assert!(ping(1200), "{datapath}");
        let _ = lab.run("ns1", "ip link set eth0 mtu 1500").ok();
        wait_for(SOON, "ns1 does not get 1500 bytes again", || ping(1472));
        lab.down();
    }
    host.finish();
}

/// An address that the fast path saw stays in the bridge's table; one that is silent goes.
#[test]
fn who_talks_does_not_age() {
    let host = Host::new();
    let lab = host.lab("ageing").up();
    let place = |n: u32| (lab.port(&format!("ns{n}:eth0")), format!("02:00:00:00:0a:0{n}"));
    let places = [place(0), place(1), place(2)];
    lab.reaches("ns0", "10.4.0.12");
    lab.is_fast("ns0:eth0", "10.4.0.11");
    // Address resolution would show the bridge a frame now and then.
    for (namespace, other) in [("ns0", 1), ("ns1", 0)] {
        let (_, mac) = &places[other];
        let command = format!("ip neigh replace 10.4.0.1{other} lladdr {mac} dev eth0 nud permanent");
        let _ = lab.run(namespace, command).ok();
    }
    let talk = lab.spawn("ns0", "ping -n -q -i 0.2 10.4.0.11");
    let in_table = |n: usize| knows(&host, &places[n].0, &places[n].1);
    let before = lab.stats().fast();
    wait_until(Duration::from_secs(60), || {
        assert!(in_table(0) && in_table(1), "the bridge forgets who talks");
        if in_table(2) { Err("the bridge remembers who is silent".to_owned()) } else { Ok(()) }
    });
    holds_for(Duration::from_secs(12), "the bridge forgets who talks", || in_table(0) && in_table(1));
    assert!(lab.stats().fast() > before + 50, "that was to be fast traffic");
    drop(talk);
    lab.down();
    host.finish();
}

/// A receiver that goes away takes nothing with it.
#[test]
fn a_namespace_is_deleted_by_hand() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", B);
    let _ = host.run("ip netns del ns1").ok();
    lab.loses_within(SOON, "ns0", B);
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
    lab.loses_within(SOON, "ns0", B);
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
    lab.loses_within(SOON, "ns0", B);
    lab.down();
    host.finish();
}
