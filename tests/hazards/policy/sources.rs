//! Kernel state that may forbid the fast path and cannot be read. A subsystem that is not loaded forbids nothing
//! until it is loaded. Any other error may hide anything.

use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_SOCK_DIAG};
use nix::errno::Errno;

use crate::{
    harness::{Host, Lab, Refusal, SLACK, wait_for},
    hazards::{A_SECOND, B, uses_port, wait_for_tcpdump},
};

/// Runs a scenario in a lab whose agent is refused netlink sockets of a protocol, until the scenario ends that.
fn with_refused_netlink(protocol: isize, errno: Errno, scenario: impl FnOnce(&Host, &Lab<'_>, &Refusal)) {
    let host = Host::new();
    let protocol = i32::try_from(protocol).expect("it is small");
    let (lab, refusal) = host.lab("three-hosts").up_without(protocol, errno);
    scenario(&host, &lab, &refusal);
    lab.down();
    drop(refusal);
    host.finish();
}

/// Adds a rule of the bridge family that drops frames to ns1.
fn add_drop_rule(host: &Host) {
    for command in [
        "nft add table bridge guard",
        "nft add chain bridge guard forward { type filter hook forward priority filter ; }",
        "nft add rule bridge guard forward ip daddr 172.17.0.102 drop",
    ] {
        let _ = host.run(command).ok();
    }
}

/// Checks that ns0 is not armed and reports why, and that it is armed when the rule is gone.
#[track_caller]
fn assert_rule_is_obeyed(host: &Host, lab: &Lab<'_>) {
    lab.wait_for_state("ns0:eth0", "nft table bridge guard, chain forward");
    let _ = host.run("nft delete table bridge guard").ok();
    lab.is_fast("ns0:eth0", B);
}

#[test]
fn rules_added_after_their_subsystem_is_loaded_take_effect() {
    with_refused_netlink(NETLINK_NETFILTER, Errno::EPROTONOSUPPORT, |host, lab, refusal| {
        lab.is_fast("ns0:eth0", B);
        // Where there are rules, the subsystem is loaded.
        refusal.end();
        add_drop_rule(host);
        lab.loses_within(A_SECOND, "ns0", B);
        assert_rule_is_obeyed(host, lab);
    });
}

#[test]
fn unreadable_rules_disarm_every_port() {
    with_refused_netlink(NETLINK_NETFILTER, Errno::EMFILE, |host, lab, refusal| {
        add_drop_rule(host);
        lab.wait_for_state("ns0:eth0", "cannot open a netlink socket");
        lab.wait_for_state("ns2:eth0", "Too many open files");
        assert!(!lab.pings("ns0", B), "a rule is bypassed");
        lab.reaches("ns0", "172.17.0.103");
        refusal.end();
        assert_rule_is_obeyed(host, lab);
    });
}

/// Packet sockets are also listed under /proc, where the kernel has them and no `sock_diag`.
#[test]
fn packet_sockets_are_found_without_sock_diag() {
    with_refused_netlink(NETLINK_SOCK_DIAG, Errno::EPROTONOSUPPORT, |host, lab, _| {
        lab.is_fast("ns0:eth0", B);
        let capture = wait_for_tcpdump(
            host.spawn(format!("tcpdump -l -n --immediate-mode -i {} icmp", lab.port("ns0:eth0"))),
        );
        lab.wait_for_state("ns0:eth0", "a packet socket on the port");
        lab.reaches("ns0", B);
        wait_for(SLACK, "tcpdump sees nothing", || capture.output().matches("ICMP echo").count() >= 6);
        drop(capture);
        lab.is_fast("ns0:eth0", B);
    });
}

#[test]
fn unreadable_packet_sockets_disarm_every_port() {
    with_refused_netlink(NETLINK_SOCK_DIAG, Errno::EMFILE, |_, lab, refusal| {
        lab.wait_for_state("ns0:eth0", "cannot open a netlink socket");
        lab.reaches("ns0", B);
        assert_eq!(lab.stats().fast(), 0);
        refusal.end();
        lab.is_fast("ns0:eth0", B);
    });
}

/// Without the features of devices, frames are delivered through their ports, which compute checksums and segments
/// where needed. With them, frames go straight into the namespace.
#[test]
fn unreadable_device_features_are_read_again() {
    with_refused_netlink(NETLINK_GENERIC, Errno::EMFILE, |host, lab, refusal| {
        lab.is_fast("ns0:eth0", B);
        wait_for(A_SECOND, "frames go past the port", || uses_port(host, lab));
        refusal.end();
        wait_for(A_SECOND, "frames still go by the port", || !uses_port(host, lab));
    });
}
