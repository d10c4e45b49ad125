//! tcpdump on a port or on the bridge sees the traffic in both directions.

use crate::{
    harness::{Host, Lab, SLACK, wait_for, wait_until},
    hazards::{A, A_SECOND, B, fast_datapaths, lab_by, wait_for_tcpdump},
};

#[test]
fn tcpdump_on_a_port_sees_both_directions() {
    for datapath in fast_datapaths() {
        capture_on_port(datapath, "ns0:eth0");
        capture_on_port(datapath, "ns1:eth0");
    }
}

fn capture_on_port(datapath: &str, pair: &str) {
    let host = Host::new();
    let lab = lab_by(datapath, &host);
    let port = lab.port(pair);
    let capture = wait_for_tcpdump(host.spawn(format!("tcpdump -l -n --immediate-mode -i {port} icmp")));
    lab.wait_for_state(pair, "a packet socket");
    wait_for_both_directions(&lab, || capture.output());
    // It also sees later frames, not only the first ones.
    let count = || capture.output().matches("ICMP echo").count();
    let before = count();
    lab.reaches("ns0", B);
    wait_for(SLACK, "tcpdump sees no more", || count() >= before + 6);
    capture.interrupt();
    let _ = capture.wait(SLACK).ok();
    lab.is_fast("ns0:eth0", B);
    let _ = lab.assert_counters_match();
    lab.down();
    host.finish();
}

#[test]
fn tcpdump_on_the_bridge_sees_both_directions() {
    for datapath in fast_datapaths() {
        let host = Host::new();
        let lab = lab_by(datapath, &host);
        // tcpdump makes the bridge promiscuous: it then gets a copy of every frame.
        let capture = wait_for_tcpdump(host.spawn("tcpdump -l -n --immediate-mode -i docker0 icmp"));
        wait_for_both_directions(&lab, || capture.output());
        capture.interrupt();
        let _ = capture.wait(SLACK).ok();
        lab.is_fast("ns0:eth0", B);
        lab.down();
        host.finish();
    }
}

/// A sniffer in a namespace does not concern the bridge: the fast path stays, and the sniffer sees all frames.
#[test]
fn tcpdump_inside_a_namespace_sees_both_directions() {
    for datapath in fast_datapaths() {
        let host = Host::new();
        let lab = lab_by(datapath, &host);
        let capture = wait_for_tcpdump(lab.spawn("ns1", "tcpdump -l -n --immediate-mode -i eth0 icmp"));
        wait_for_both_directions(&lab, || capture.output());
        lab.is_fast("ns0:eth0", B);
        drop(capture);
        lab.down();
        host.finish();
    }
}

#[track_caller]
fn wait_for_both_directions(lab: &Lab<'_>, seen: impl Fn() -> String) {
    wait_until(A_SECOND, || {
        lab.reaches("ns0", B);
        let seen = seen();
        let both = [format!("{A} > {B}: ICMP echo request"), format!("{B} > {A}: ICMP echo reply")];
        if both.iter().all(|line| seen.contains(line)) { Ok(()) } else { Err(format!("tcpdump saw {seen}")) }
    });
}
