//! Inner ends are ready while a port is armed for XDP. The agent detects and reports what makes them unready.

use super::xdp_lab;
use crate::{
    harness::{At, Host, Lab, SLACK, VerdictProgram, XDP_PASS, wait_until},
    hazards::{A, B, transfer},
};

/// `ethtool -k` of an inner end, without fixed features.
fn features(lab: &Lab<'_>, namespace: &str) -> Vec<String> {
    let text = lab.run(namespace, "ethtool -k eth0").ok().stdout;
    text.lines().map(str::trim).filter(|line| !line.contains("[fixed]")).map(str::to_owned).collect()
}

fn has_feature(lab: &Lab<'_>, namespace: &str, feature: &str) -> bool {
    features(lab, namespace).iter().any(|line| line == feature)
}

#[test]
fn former_offloads_of_an_inner_end_are_in_the_journal() {
    let host = Host::new();
    let lab = xdp_lab(&host);
    for namespace in ["ns0", "ns1", "ns2"] {
        for feature in ["generic-receive-offload: on", "tx-checksum-ip-generic: off", "tx-vlan-offload: off"]
        {
            assert!(has_feature(&lab, namespace, feature), "{namespace} {feature}");
        }
    }
    let journal = || host.run("cat /run/vethpath/three-hosts/journal").ok().stdout;
    let line = |namespace: &str| {
        let found = format!("found {namespace} eth0 ");
        journal().lines().find(|line| line.starts_with(&found)).map(str::to_owned)
    };
    let all = "rx-gro=off tx-checksum-ip-generic=on tx-checksum-sctp=on tx-vlan-hw-insert=on tx-vlan-stag-hw-insert=on";
    assert!(line("ns1").is_some_and(|line| line.ends_with(all)), "{}", journal());
    // Settings that are correct are not made again.
    let before = journal();
    let again = host.vethpath(format!("up {} --json", lab.file)).ok().json();
    assert_eq!(again["changes"].as_array().map(Vec::len), Some(0), "{again:#}");
    assert_eq!(journal(), before);
    lab.down();
    host.finish();
}

#[test]
fn an_inner_end_that_cannot_receive_is_no_receiver_any_more() {
    let host = Host::new();
    let lab = xdp_lab(&host);
    lab.is_fast("ns0:eth0", B);
    let _ = lab.run("ns1", "ethtool -K eth0 gro off").ok();
    lab.wait_for_state(
        "ns1:eth0",
        "the port takes no XDP frames: generic-receive-offload of the inner end is off",
    );
    lab.reaches("ns0", B);
    transfer(&lab);
    // A program at the inner end makes it ready as well.
    let program = VerdictProgram::attach(&lab.netns("ns1"), "eth0", At::NativeXdp, XDP_PASS);
    lab.wait_for_state("ns1:eth0", "armed");
    lab.is_fast("ns0:eth0", B);
    drop(program);
    lab.wait_for_state("ns1:eth0", "the port takes no XDP frames");
    lab.reaches("ns0", B);
    // `up` makes it ready again.
    let changes = host.vethpath(format!("up {} --json", lab.file)).ok().json()["changes"].clone();
    assert_eq!(changes[0]["kind"], "offloads", "{changes:#}");
    lab.wait_for_state("ns1:eth0", "armed");
    lab.is_fast("ns0:eth0", B);
    let _ = lab.assert_counters_match();
    lab.down();
    host.finish();
}

/// The driver's XDP feature flag of a port is stale after the inner end was down, in either direction.
#[test]
fn features_switched_while_an_inner_end_is_down_are_noticed() {
    let host = Host::new();
    let lab = xdp_lab(&host);
    lab.is_fast("ns0:eth0", B);
    let ns1 = |command: &str| drop(lab.run("ns1", command).ok());
    let while_down = |gro: &str| {
        for command in ["ip link set eth0 down", &format!("ethtool -K eth0 gro {gro}"), "ip link set eth0 up"]
        {
            ns1(command);
        }
    };
    while_down("off");
    lab.wait_for_state("ns1:eth0", "the port takes no XDP frames");
    lab.reaches_within(SLACK, "ns0", B);
    transfer(&lab);
    // A later switch is detected again.
    ns1("ethtool -K eth0 gro on");
    lab.wait_for_state("ns1:eth0", "armed");
    lab.is_fast("ns0:eth0", B);
    let up = || host.vethpath(format!("up {} --json", lab.file)).ok().json()["changes"].to_string();
    for by_hand in [true, false] {
        ns1("ethtool -K eth0 gro off");
        if by_hand {
            while_down("on");
            // With a kernel whose flag is right, there is nothing to repair.
            wait_until(SLACK, || match lab.state("ns1:eth0") {
                state if state == "armed" || state.contains("stale XDP") => Ok(()),
                state => Err(state),
            });
        } else {
            ns1("ip link set eth0 down");
        }
        let is_armed = lab.state("ns1:eth0") == "armed";
        let changes = up();
        assert!(is_armed || changes.contains("rx-gro on"), "{changes}");
        lab.wait_for_state("ns1:eth0", "armed");
        lab.is_fast("ns0:eth0", B);
        assert_eq!(up(), "[]");
    }
    let _ = lab.assert_counters_match();
    lab.down();
    host.finish();
}

#[test]
fn a_sender_that_leaves_checksums_to_its_device_takes_the_bridge() {
    let host = Host::new();
    let lab = xdp_lab(&host);
    lab.is_fast("ns0:eth0", B);
    for feature in ["tx", "txvlan"] {
        let _ = lab.run("ns0", format!("ethtool -K eth0 {feature} on")).ok();
        lab.wait_for_state("ns0:eth0", "transmit offloads of the inner end are on, which XDP cannot keep");
        lab.reaches("ns0", B);
        transfer(&lab);
        let _ = lab.run("ns0", format!("ethtool -K eth0 {feature} off")).ok();
        lab.wait_for_state("ns0:eth0", "armed");
        lab.is_fast("ns0:eth0", B);
        lab.is_fast("ns1:eth0", A);
    }
    let wrong = ["ns0", "ns1"].map(|n| lab.run(n, "nstat -asz TcpInCsumErrors").ok().stdout);
    assert!(wrong.iter().all(|text| text.contains("TcpInCsumErrors                 0 ")), "{wrong:?}");
    lab.down();
    host.finish();
}

/// XDP needs a receive queue at a port for each transmit queue of its inner end.
#[test]
fn queues_that_do_not_fit_are_reported() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", B);
    let _ = lab.run("ns1", "ethtool -L eth0 tx 2").ok();
    let file = host.lab("three-hosts").with("\"tc\"", "\"xdp\"").write();
    let failed = host.vethpath(format!("up {file}")).fails(2);
    let _ =
        failed.stderr_has("has more transmit queues than it has receive queues").stderr_has("`ethtool -L`");
    lab.wait_for_state("ns0:eth0", "armed");
    lab.is_fast("ns0:eth0", B);
    let _ = lab.run("ns1", "ethtool -L eth0 tx 1").ok();
    let _ = host.vethpath(format!("up {file}")).ok();
    lab.is_fast("ns0:eth0", B);
    // From then on the kernel refuses more transmit queues. Any number of receive queues is allowed.
    assert!(!lab.run("ns1", "ethtool -L eth0 tx 2").succeeded());
    let _ = lab.run("ns1", "ethtool -L eth0 rx 2").ok();
    lab.is_fast("ns0:eth0", B);
    transfer(&lab);
    assert_eq!(lab.stats().pair("ns1:eth0").state, "armed");
    let _ = lab.assert_counters_match();
    lab.down();
    host.finish();
}

/// A device has one XDP program: the first one stays, and the second one gets an error.
#[test]
fn a_port_has_one_xdp_program() {
    let host = Host::new();
    let lab = xdp_lab(&host);
    lab.is_fast("ns0:eth0", B);
    let port = lab.port("ns0:eth0");
    assert!(!host.run(format!("ip link set {port} xdp off")).succeeded(), "ours is not taken off");
    let _ = host.run(format!("rm /sys/fs/bpf/vethpath/three-hosts/xdp_{port}")).ok();
    lab.wait_for_state("ns0:eth0", "the XDP program is not attached");
    lab.reaches("ns0", B);
    for at in [At::NativeXdp, At::GenericXdp] {
        let others = VerdictProgram::attach(&host.netns(), &port, at, XDP_PASS);
        let failed = host.vethpath(format!("up {}", lab.file));
        assert!(!failed.succeeded() && failed.stderr.contains(&format!("attach XDP to {port}")), "{failed}");
        lab.wait_for_state("ns0:eth0", "the XDP program is not attached");
        lab.reaches("ns0", B);
        drop(others);
    }
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    lab.wait_for_state("ns0:eth0", "armed");
    lab.is_fast("ns0:eth0", B);
    let _ = lab.assert_counters_match();
    lab.down();
    host.finish();
}
