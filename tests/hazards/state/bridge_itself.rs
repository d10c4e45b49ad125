//! The bridge as a host: its own MAC, its addresses, and promiscuous mode.

use super::super::common::{A_SECOND, B, on_all};
use crate::harness::wait_for;

const GATEWAY: &str = "172.17.0.1";

#[test]
fn the_bridges_own_mac_is_no_station_and_it_is_reached() {
    on_all(|host, lab, fast| {
        let slow = || lab.stats().pair("ns0:eth0").slow("unknown-destination");
        // Retried if the agent was late to renew its lease: frames are then slow for that reason.
        wait_for(A_SECOND, "what is for the bridge goes to the bridge", || {
            let before = slow();
            lab.reaches("ns0", GATEWAY);
            let _ = host.run(format!("ping -n -q -c 3 -l 3 -W 5 {B}")).ok();
            !fast || slow() >= before + 3
        });
        // Another MAC, which no host has learned yet.
        let _ = host.run("ip link set docker0 address 02:00:00:00:77:77").ok();
        for namespace in ["ns0", "ns1"] {
            let _ = lab.run(namespace, "ip neigh flush dev eth0").ok();
        }
        lab.reaches_within(A_SECOND, "ns0", GATEWAY);
        lab.reaches("ns0", B);
        let _ = host.run("ip addr add 172.17.0.2/16 dev docker0").ok();
        lab.reaches_within(A_SECOND, "ns1", "172.17.0.2");
    });
}

#[test]
fn a_promiscuous_bridge_gets_everything() {
    on_all(|host, lab, fast| {
        let _ = host.run("ip link set docker0 promisc on").ok();
        if fast {
            lab.says_of("ns0:eth0", "the bridge is promiscuous");
            lab.says_of("ns1:eth0", "the bridge is promiscuous");
        }
        // Frames between hosts are also passed up to the bridge device.
        let received = || super::super::common::figure(host, "", "docker0", ("rx", "packets"));
        wait_for(A_SECOND, "the bridge gets no copy", || {
            let before = received();
            lab.reaches("ns0", B);
            received() >= before + 6
        });
        let _ = host.run("ip link set docker0 promisc off").ok();
    });
}
