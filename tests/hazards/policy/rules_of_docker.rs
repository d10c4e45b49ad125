//! On a host with docker, its FORWARD rules apply to every bridge of the host namespace. That is reported with a
//! workaround, and the workaround works.

use super::super::common::{A_SECOND, B};
use crate::harness::Host;

/// As docker sets it up: forwarded packets are dropped unless a rule accepts them.
const DOCKER: [&str; 3] = [
    "nft add table ip filter",
    "nft add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }",
    "nft add rule ip filter FORWARD ip saddr 172.17.0.0/16 accept",
];

#[test]
fn dockers_rules_are_obeyed_and_the_way_out_is_told() {
    let mut host = Host::new();
    let _ = host.run("sysctl net.bridge.bridge-nf-call-iptables").ok().prints("= 1");
    for command in DOCKER {
        let _ = host.run(command).ok();
    }
    host.remember();
    let lab = host.lab("three-hosts").up();
    lab.reaches("ns0", B);
    lab.says_of("ns0:eth0", "FORWARD");
    assert_eq!(lab.stats().fast(), 0);
    let _ = host.vethpath("doctor").prints("namespace = \"fabric\"");
    // What docker's rules drop is dropped.
    let _ = host.run("nft flush chain ip filter FORWARD").ok();
    lab.loses_within(A_SECOND, "ns0", B);
    let _ = host.run(DOCKER[2]).ok();
    lab.reaches_within(A_SECOND, "ns0", B);
    lab.down();

    let lab = host.lab("fabric").up();
    lab.is_fast("ns0:eth0", "10.2.0.11");
    lab.down();
    host.finish();
}
