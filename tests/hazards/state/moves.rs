//! A MAC that moves to another port: roaming, failover.

use super::super::common::{A, A_SECOND, B, knows, mac};
use crate::harness::{Host, Lab};

const VIP_MAC: &str = "02:00:00:00:99:99";
const VIP: &str = "172.17.0.150";

/// A service address with its own MAC fails over, as with VRRP.
#[test]
fn a_mac_moves_to_another_port() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", B);
    let mut home = "ns1";
    take_vip(&lab, home);
    for next in ["ns2", "ns1", "ns2"] {
        lab.reaches_within(A_SECOND, "ns0", VIP);
        let _ = lab.run(home, "ip link del vip").ok();
        take_vip(&lab, next);
        // With its first frame the bridge learns where it is now.
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
        // The service replies for its own address alone.
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
        lab.reaches_within(A_SECOND, "ns1", A);
        lab.reaches_within(A_SECOND, "ns0", B);
    }
    lab.is_fast("ns0:eth0", B);
    let _ = lab.accounts_balance();
    lab.down();
    host.finish();
}
