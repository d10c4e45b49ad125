//! Every change that `up` makes also works where programs are attached on clsact.

use std::time::Duration;

use super::{address, change_to, host_on, hosts, without_ipv6};
use crate::harness::{Host, Lab, SLACK, Stream, wait_for};

/// The filters at the ingress of a pair's port.
fn filters(host: &Host, port: &str) -> String {
    host.run(format!("tc filter show dev {port} ingress")).ok().stdout
}

/// Checks a host's port: it has our program as a filter unless the datapath is bridge, and an XDP program on XDP.
#[track_caller]
fn assert_datapath(lab: &Lab<'_>, host: &Host, number: usize, datapath: &str) {
    let port = lab.port(&format!("h{number}:eth0"));
    assert_eq!(filters(host, &port).contains("direct-action"), datapath != "bridge", "{port} on {datapath}");
    let link = host.json(format!("ip -j -d link show {port}"))[0].clone();
    assert_eq!(link["xdp"].is_object(), datapath == "xdp", "{port} on {datapath}: {link:#}");
}

#[test]
fn hosts_and_datapaths_change_beside_a_stream_that_loses_nothing() {
    let host = Host::new();
    let with =
        |number: usize, datapath: &str| host_on(number, "br0") + &format!("datapath = \"{datapath}\"\n");
    let lab = host.lab("empty").named("changing").and(&hosts(0..3)).up_with("--hook clsact");
    lab.is_fast("h0:eth0", &address(1));
    let stream = Stream::start(&lab, ("h0", &address(0)), ("h1", &address(1)), Duration::from_millis(1));
    for datapath in ["bridge", "tc", "xdp", "tc", "xdp", "bridge", "xdp"] {
        let changes = change_to(&host, &(hosts(0..2) + &with(2, datapath) + &with(3, datapath)));
        assert!(!changes.is_empty());
        for number in [2, 3] {
            assert_datapath(&lab, &host, number, datapath);
            lab.reaches(&format!("h{number}"), &address(0));
            lab.reaches(&format!("h{number}"), &address(5 - number));
        }
        if datapath != "bridge" {
            lab.is_fast("h2:eth0", &address(3));
            lab.is_fast("h2:eth0", &address(0));
        }
        let _ = change_to(&host, &hosts(0..3));
        assert_datapath(&lab, &host, 2, "tc");
    }
    for report in stream.end() {
        assert!(report.sent > 1000 && report.lost() == 0 && report.duplicated == 0, "{report:?}");
    }
    let _ = lab.assert_counters_match_after_xdp();
    lab.down();
    host.finish();
}

/// A filter that was removed, with or without its qdisc, is attached again without `up`, and that is reported. A
/// filter of another program stays, and is reported.
#[test]
fn changed_filters_are_reported_and_repaired() {
    let host = Host::new();
    let lab = host.lab("empty").named("changing").and(&hosts(0..3)).up_with("--hook clsact");
    lab.is_fast("h0:eth0", &address(1));
    let port = lab.port("h0:eth0");
    let put_back = || {
        let events = host.vethpath("events changing --json").ok().stdout;
        events.lines().filter(|event| event.contains("programs-put-back") && event.contains(&port)).count()
    };
    for (times, what) in [(1, "filter del dev PORT ingress"), (2, "qdisc del dev PORT clsact")] {
        let _ = host.run(format!("tc {}", what.replace("PORT", &port))).ok();
        wait_for(SLACK, "the program is not put back", || put_back() == times);
        lab.is_fast("h0:eth0", &address(1));
        assert_eq!(change_to(&host, &hosts(0..3)), [""; 0], "{what}");
    }
    let other = "protocol ip u32 match ip dst 10.9.0.99/32 flowid 1:1";
    let _ = host.run(format!("tc filter add dev {port} ingress prio 77 {other}")).ok();
    lab.wait_for_state("h0:eth0", "a foreign tc program on the port");
    let changes = change_to(&host, &hosts(0..4));
    assert!(!changes.iter().any(|change| change.contains(&port)), "{changes:#?}");
    assert!(filters(&host, &port).contains("pref 77"));
    let _ = host.run(format!("tc filter del dev {port} ingress prio 77")).ok();
    lab.wait_for_state("h0:eth0", "armed");
    lab.is_fast("h0:eth0", &address(3));
    assert_eq!(put_back(), 2);
    lab.down();
    host.finish();
}

/// The qdisc is removed with the filter if it was created with it and has no other user.
#[test]
fn a_port_that_leaves_the_fast_path_has_the_qdisc_that_it_had_before() {
    let host = Host::new();
    let plain = hosts(0..2).replace("[bridge.br0]\n", "[bridge.br0]\ndatapath = \"bridge\"\n");
    let lab = host.lab("empty").named("changing").and(&hosts(0..2)).up_with("--hook clsact");
    let [theirs, ours] = ["h0:eth0", "h1:eth0"].map(|pair| lab.port(pair));
    let clsact = |port: &str| host.run(format!("tc qdisc show dev {port}")).ok().stdout.contains("clsact");
    assert!(clsact(&ours));
    let _ = change_to(&host, &plain);
    assert!(!clsact(&ours) && !clsact(&theirs));
    let _ = host.run(format!("tc qdisc add dev {theirs} clsact")).ok();
    let _ = change_to(&host, &hosts(0..2));
    lab.is_fast("h0:eth0", &address(1));
    let _ = change_to(&host, &plain);
    assert!(!clsact(&ours) && clsact(&theirs), "it was somebody's");
    lab.down();
    host.finish();
}

/// Ports get the programs of larger maps one after the other, and no count is lost.
#[test]
fn a_lab_outgrows_its_maps() {
    let host = Host::new();
    let hosts = |numbers| without_ipv6(&hosts(numbers));
    let lab = host.lab("empty").named("changing").and(&hosts(0..3)).up_with("--hook clsact");
    lab.is_fast("h0:eth0", &address(1));
    let before = lab.assert_counters_match();
    let stream = Stream::start(&lab, ("h0", &address(0)), ("h1", &address(1)), Duration::from_millis(1));
    let _ = change_to(&host, &hosts(0..150));
    for report in stream.end() {
        assert!(report.sent > 100 && report.lost() == 0 && report.duplicated == 0, "{report:?}");
    }
    lab.assert_counters_match().not_less_than(&before);
    lab.is_fast("h0:eth0", &address(149));
    assert_datapath(&lab, &host, 149, "tc");
    lab.down();
    host.finish();
}
