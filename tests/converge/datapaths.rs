//! The datapath of a running lab changes, and other hosts are not affected.

use std::{collections::BTreeMap, time::Duration};

use super::{address, assert_up_to_date, change_to, host_on, hosts, lab_file, up, without_ipv6};
use crate::{
    harness::{At, Host, Lab, Stream, VerdictProgram, XDP_PASS},
    hazards::{mac_bytes, numbered, wait_for_frame},
    raw_frames::driver_count,
};

/// `ethtool -k` of a host's inner end, without fixed features.
pub(super) fn offloads(host: &Host, number: usize) -> BTreeMap<String, String> {
    let text = host.run(format!("ip netns exec h{number} ethtool -k eth0")).ok().stdout;
    let switchable = text.lines().filter(|line| !line.contains("[fixed]"));
    switchable.filter_map(|line| line.trim().split_once(": ")).map(|(a, b)| (a.into(), b.into())).collect()
}

/// A host with its own datapath.
fn with(number: usize, datapath: &str) -> String {
    host_on(number, "br0") + &format!("datapath = \"{datapath}\"\n")
}

/// A lab of these hosts, whose bridge has this datapath.
fn lab_text(numbers: impl IntoIterator<Item = usize>, datapath: &str) -> String {
    hosts(numbers).replace("[bridge.br0]\n", &format!("[bridge.br0]\ndatapath = \"{datapath}\"\n"))
}

/// Checks that a host's port runs the programs of its datapath and no others. Its inner end has the offloads that XDP
/// needs, or else those that it had before.
#[track_caller]
fn assert_datapath(
    lab: &Lab<'_>,
    host: &Host,
    number: usize,
    datapath: &str,
    before: &BTreeMap<String, String>,
) {
    let port = lab.port(&format!("h{number}:eth0"));
    let link = host.json(format!("ip -j -d link show {port}"))[0].clone();
    assert_eq!(link["xdp"].is_object(), datapath == "xdp", "{port} on {datapath}: {link:#}");
    let pinned =
        |kind: &str| host.run(format!("test -e /sys/fs/bpf/vethpath/changing/{kind}_{port}")).succeeded();
    assert_eq!((pinned("link"), pinned("xdp")), (datapath != "bridge", datapath == "xdp"), "{port}");
    let now = offloads(host, number);
    if datapath == "xdp" {
        assert_eq!(now["generic-receive-offload"], "on");
        assert_eq!((now["tx-checksum-ip-generic"].as_str(), now["tx-vlan-offload"].as_str()), ("off", "off"));
    } else {
        assert_eq!(&now, before, "{port} on {datapath}");
    }
    let kept = host.run("cat /run/vethpath/changing/journal").ok().stdout;
    let kept = kept.lines().any(|line| line.starts_with(&format!("found h{number} eth0 ")));
    assert_eq!(kept, datapath == "xdp", "{port} on {datapath}");
}

/// Two hosts of this datapath exchange a stream while two others change theirs and send raw frames.
fn change_beside(theirs: &str) {
    let host = Host::new();
    let text = |datapath: &str| {
        hosts([]) + &with(0, theirs) + &with(1, theirs) + &with(2, datapath) + &with(3, datapath)
    };
    let lab = up(&host, &text("tc"));
    lab.is_fast("h0:eth0", &address(1));
    let before = [2, 3].map(|number| offloads(&host, number));
    let stream = Stream::start(&lab, ("h0", &address(0)), ("h1", &address(1)), Duration::from_millis(1));
    for datapath in ["xdp", "tc", "bridge", "xdp", "bridge", "tc", "xdp"] {
        let changes = change_to(&host, &text(datapath));
        assert!(!changes.is_empty());
        for (number, before) in [2, 3].into_iter().zip(&before) {
            assert_datapath(&lab, &host, number, datapath, before);
        }
        lab.reaches("h2", &address(3));
        lab.reaches("h2", &address(0));
        lab.reaches("h1", &address(3));
        if datapath == "bridge" {
            assert_eq!(lab.state("h2:eth0"), "datapath is \"bridge\"");
            continue;
        }
        lab.is_fast("h2:eth0", &address(3));
        lab.is_fast("h3:eth0", &address(2));
        let wires = [lab.wire("h2:eth0"), lab.wire("h3:eth0")];
        let macs = ["h2", "h3"].map(|namespace| mac_bytes(&lab, namespace));
        let redirected = lab.with_a_lease(|| {
            let redirected = || driver_count(&host, &lab.port("h3:eth0"), "_xdp_xmit");
            let before = redirected();
            for number in 1..50 {
                wires[0].send(&numbered(macs[1], macs[0], number));
                let _ = wait_for_frame(&wires[1], number);
            }
            redirected() - before
        });
        assert_eq!(redirected >= 49, datapath == "xdp", "{datapath}: {redirected}");
    }
    for report in stream.end() {
        assert!(report.sent > 1000 && report.lost() == 0 && report.duplicated == 0, "{theirs}: {report:?}");
    }
    let _ = lab.assert_counters_match_after_xdp();
    lab.down();
    host.finish();
}

#[test]
fn hosts_change_their_datapath_and_a_stream_by_tc_loses_nothing() {
    change_beside("tc");
}

#[test]
fn hosts_change_their_datapath_and_a_stream_by_xdp_loses_nothing() {
    change_beside("xdp");
}

/// From each datapath to the next, also while hosts are added and removed.
#[test]
fn a_bridge_changes_its_datapath() {
    let host = Host::new();
    let lab = up(&host, &lab_text(0..3, "tc"));
    let before: Vec<_> = (0..3).map(|number| offloads(&host, number)).collect();
    for (datapath, hosts) in [("xdp", 0..3), ("tc", 0..3), ("bridge", 0..4), ("xdp", 0..5), ("tc", 0..3)] {
        let _ = change_to(&host, &lab_text(hosts.clone(), datapath));
        for number in hosts {
            assert_datapath(&lab, &host, number, datapath, &before[number.min(2)]);
            lab.reaches(&format!("h{number}"), &address((number + 1) % 3));
        }
        if datapath != "bridge" {
            lab.is_fast("h0:eth0", &address(2));
        }
    }
    lab.assert_counters_match_after_xdp();
    let changes = change_to(&host, &lab_text(0..1, "xdp"));
    assert!(changes.contains(&format!("+ create xdp-program host:{}", lab.port("h0:eth0"))), "{changes:#?}");
    let ready = "~ change offloads h0:eth0: -> rx-gro on, tx-checksum-ip-generic off, tx-checksum-sctp off, \
                 tx-vlan-hw-insert off, tx-vlan-stag-hw-insert off";
    assert!(changes.contains(&ready.to_owned()), "{changes:#?}");
    lab.down();
    host.finish();
}

/// `plan` reports programs and offloads that were changed by hand, and `up` restores them.
#[test]
fn drift_of_xdp_is_reported_and_repaired() {
    let host = Host::new();
    let text = lab_text(0..3, "xdp");
    let lab = up(&host, &text);
    lab.is_fast("h0:eth0", &address(1));
    let port = lab.port("h0:eth0");
    let offloads = |now: &str| format!("~ change offloads h0:eth0: -> {now}");
    for (command, expected) in [
        (format!("rm /sys/fs/bpf/vethpath/changing/xdp_{port}"), format!("+ create xdp-program host:{port}")),
        ("ip netns exec h0 ethtool -K eth0 gro off".to_owned(), offloads("rx-gro on")),
        (
            "ip netns exec h0 ethtool -K eth0 tx-checksum-ip-generic on".to_owned(),
            offloads("tx-checksum-ip-generic off"),
        ),
    ] {
        let _ = host.run(&*command).ok();
        assert_eq!(change_to(&host, &text), [expected], "{command}");
        lab.wait_for_state("h0:eth0", "armed");
        lab.is_fast("h0:eth0", &address(1));
    }
    lab.down();
    host.finish();
}

/// Another program is attached to the last port: the ports before it are restored.
#[test]
fn a_change_to_xdp_that_fails_goes_back() {
    let host = Host::new();
    let lab = up(&host, &lab_text(0..3, "tc"));
    lab.is_fast("h0:eth0", &address(1));
    let before: Vec<_> = (0..3).map(|number| offloads(&host, number)).collect();
    let port = lab.port("h2:eth0");
    let others = VerdictProgram::attach(&host.netns(), &port, At::NativeXdp, XDP_PASS);
    let file = lab_file(&host, &lab_text(0..3, "xdp"));
    let _ = host.vethpath(format!("up {file}")).fails(2).stderr_has(&format!("attach XDP to {port}"));
    drop(others);
    let file = lab_file(&host, &lab_text(0..3, "tc"));
    assert_up_to_date(&host, &file);
    for (number, before) in before.iter().enumerate() {
        assert_datapath(&lab, &host, number, "tc", before);
    }
    lab.is_fast("h2:eth0", &address(0));
    lab.down();
    host.finish();
}

/// Larger maps need another XDP program, which replaces the first.
#[test]
fn a_lab_on_xdp_outgrows_its_maps() {
    let host = Host::new();
    let text = |hosts: std::ops::Range<usize>, datapath: &str| without_ipv6(&lab_text(hosts, datapath));
    let lab = up(&host, &text(0..3, "xdp"));
    lab.is_fast("h0:eth0", &address(1));
    let before = lab.assert_counters_match();
    let program = || {
        let link = host.json(format!("ip -j -d link show {}", lab.port("h0:eth0")))[0].clone();
        link["xdp"]["prog"]["id"].as_u64().unwrap_or_else(|| panic!("{link:#}"))
    };
    let first = program();
    let ping = lab.spawn("h0", format!("ping -n -q -i 0.002 {}", address(2)));
    let _ = change_to(&host, &text(0..70, "xdp"));
    drop(ping);
    assert_ne!(program(), first);
    let now = lab.assert_counters_match();
    assert!(now.pair("h0:eth0").fast.tx.packets >= before.pair("h0:eth0").fast.tx.packets);
    lab.is_fast("h0:eth0", &address(69));
    let redirected = || {
        lab.with_a_lease(|| {
            let redirected = || driver_count(&host, &lab.port("h2:eth0"), "_xdp_xmit");
            let before = redirected();
            lab.is_fast("h0:eth0", &address(2));
            redirected() - before
        })
    };
    assert!(redirected() >= 3);
    lab.assert_counters_match().not_less_than(&now);
    // No host uses XDP while the maps grow once more. Then some use it again.
    let _ = change_to(&host, &text(0..150, "tc"));
    let _ = change_to(&host, &text(0..3, "xdp"));
    lab.wait_for_state("h0:eth0", "armed");
    assert!(redirected() >= 3);
    lab.assert_counters_match().not_less_than(&before);
    lab.down();
    host.finish();
}
