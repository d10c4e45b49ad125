//! tcpdump on a port or on the bridge sees the traffic in both directions.

use super::super::common::{A, A_SECOND, B, fast_datapaths, lab_by};
use crate::harness::{Host, Lab, SLACK, wait_for, wait_until};

#[test]
fn tcpdump_on_a_port_sees_both_ways() {
    for datapath in fast_datapaths() {
        sniffer(datapath, "ns0:eth0");
        sniffer(datapath, "ns1:eth0");
    }
}

fn sniffer(datapath: &str, pair: &str) {
    let host = Host::new();
    let lab = lab_by(datapath, &host);
    let port = lab.port(pair);
    let capture = host.spawn(format!("tcpdump -l -n --immediate-mode -i {port} icmp"));
    wait_for(SLACK, "tcpdump does not start", || capture.output().contains("listening on"));
    lab.says_of(pair, "a packet socket");
    sees_both_ways(&lab, || capture.output());
    // It also sees later frames, not only the first ones.
    let count = || capture.output().matches("ICMP echo").count();
    let before = count();
    lab.reaches("ns0", B);
    wait_for(SLACK, "tcpdump sees no more", || count() >= before + 6);
    capture.interrupt();
    let _ = capture.wait(SLACK).ok();
    lab.is_fast("ns0:eth0", B);
    let _ = lab.accounts_balance();
    lab.down();
    host.finish();
}

#[test]
fn tcpdump_on_the_bridge_sees_both_ways() {
    for datapath in fast_datapaths() {
        let host = Host::new();
        let lab = lab_by(datapath, &host);
        // tcpdump makes the bridge promiscuous: it then gets a copy of every frame.
        let capture = host.spawn("tcpdump -l -n --immediate-mode -i docker0 icmp");
        wait_for(SLACK, "tcpdump does not start", || capture.output().contains("listening on"));
        sees_both_ways(&lab, || capture.output());
        capture.interrupt();
        let _ = capture.wait(SLACK).ok();
        lab.is_fast("ns0:eth0", B);
        lab.down();
        host.finish();
    }
}

/// A sniffer in a namespace does not concern the bridge: the fast path stays, and the sniffer sees all frames.
#[test]
fn tcpdump_inside_a_namespace_sees_both_ways() {
    for datapath in fast_datapaths() {
        let host = Host::new();
        let lab = lab_by(datapath, &host);
        let capture = lab.spawn("ns1", "tcpdump -l -n --immediate-mode -i eth0 icmp");
        wait_for(SLACK, "tcpdump does not start", || capture.output().contains("listening on"));
        sees_both_ways(&lab, || capture.output());
        lab.is_fast("ns0:eth0", B);
        drop(capture);
        lab.down();
        host.finish();
    }
}

#[track_caller]
fn sees_both_ways(lab: &Lab<'_>, seen: impl Fn() -> String) {
    wait_until(A_SECOND, || {
        lab.reaches("ns0", B);
        let seen = seen();
        let both = [format!("{A} > {B}: ICMP echo request"), format!("{B} > {A}: ICMP echo reply")];
        if both.iter().all(|way| seen.contains(way)) { Ok(()) } else { Err(format!("tcpdump saw {seen}")) }
    });
}
