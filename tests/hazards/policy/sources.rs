//! What may forbid the fast path and cannot be asked: a subsystem that the kernel does not have yet forbids nothing,
//! until it comes; any other refusal may hide anything.

use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_SOCK_DIAG};
use nix::errno::Errno;

use super::super::common::{A_SECOND, B, goes_by_port};
use crate::harness::{Host, Lab, Refusal, SLACK, wait_for};

/// A lab whose agent is refused netlink sockets of a protocol.
fn lab_without(host: &Host, protocol: isize, errno: Errno) -> (Lab<'_>, Refusal) {
    host.lab("three-hosts").up_without(i32::try_from(protocol).expect("it is small"), errno)
}

/// Has a rule of the bridge family drop what goes to ns1.
fn forbid(host: &Host) {
    for command in [
        "nft add table bridge guard",
        "nft add chain bridge guard forward { type filter hook forward priority 0 ; }",
        "nft add rule bridge guard forward ip daddr 172.17.0.102 drop",
    ] {
        let _ = host.run(command).ok();
    }
}

#[test]
fn rules_that_come_with_their_subsystem_take_effect() {
    let host = Host::new();
    let (lab, refusal) = lab_without(&host, NETLINK_NETFILTER, Errno::EPROTONOSUPPORT);
    lab.is_fast("ns0:eth0", B);
    // Where there are rules, the subsystem is there.
    refusal.end();
    forbid(&host);
    lab.loses_within(A_SECOND, "ns0", B);
    lab.says_of("ns0:eth0", "nft table bridge guard, chain forward");
    let _ = host.run("nft delete table bridge guard").ok();
    lab.is_fast("ns0:eth0", B);
    lab.down();
    drop(refusal);
    host.finish();
}

#[test]
fn rules_that_cannot_be_asked_for_may_forbid_anything() {
    let host = Host::new();
    let (lab, refusal) = lab_without(&host, NETLINK_NETFILTER, Errno::EMFILE);
    forbid(&host);
    lab.says_of("ns0:eth0", "cannot open a netlink socket");
    lab.says_of("ns2:eth0", "Too many open files");
    assert!(!lab.pings("ns0", B), "a rule is bypassed");
    lab.reaches("ns0", "172.17.0.103");
    refusal.end();
    lab.says_of("ns0:eth0", "nft table bridge guard, chain forward");
    let _ = host.run("nft delete table bridge guard").ok();
    lab.is_fast("ns0:eth0", B);
    lab.down();
    drop(refusal);
    host.finish();
}

/// Packet sockets are listed under /proc too, where the kernel has them and no `sock_diag`.
#[test]
fn packet_sockets_are_found_without_sock_diag() {
    let host = Host::new();
    let (lab, refusal) = lab_without(&host, NETLINK_SOCK_DIAG, Errno::EPROTONOSUPPORT);
    lab.is_fast("ns0:eth0", B);
    let capture = host.spawn(format!("tcpdump -l -n --immediate-mode -i {} icmp", lab.port("ns0:eth0")));
    wait_for(SLACK, "tcpdump does not start", || capture.output().contains("listening on"));
    lab.says_of("ns0:eth0", "a packet socket on the port");
    lab.reaches("ns0", B);
    wait_for(SLACK, "tcpdump sees nothing", || capture.output().matches("ICMP echo").count() >= 6);
    drop(capture);
    lab.is_fast("ns0:eth0", B);
    lab.down();
    drop(refusal);
    host.finish();
}

#[test]
fn packet_sockets_that_cannot_be_asked_for_may_be_anywhere() {
    let host = Host::new();
    let (lab, refusal) = lab_without(&host, NETLINK_SOCK_DIAG, Errno::EMFILE);
    lab.says_of("ns0:eth0", "cannot open a netlink socket");
    lab.reaches("ns0", B);
    assert_eq!(lab.stats().fast(), 0);
    refusal.end();
    lab.is_fast("ns0:eth0", B);
    lab.down();
    drop(refusal);
    host.finish();
}

/// Without the features of devices frames are delivered by their ports, which make checksums and segments where that is
/// to be done; with them, straight into the namespace.
#[test]
fn features_that_could_not_be_asked_for_are_asked_for_again() {
    let host = Host::new();
    let (lab, refusal) = lab_without(&host, NETLINK_GENERIC, Errno::EMFILE);
    lab.is_fast("ns0:eth0", B);
    wait_for(A_SECOND, "frames go past the port", || goes_by_port(&host, &lab));
    refusal.end();
    wait_for(A_SECOND, "frames still go by the port", || !goes_by_port(&host, &lab));
    lab.down();
    drop(refusal);
    host.finish();
}
