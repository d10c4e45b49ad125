//! What a bridge's ports can be told, on a fast lab and on a plain one: no difference.

use std::time::Duration;

use crate::harness::{Host, Lab, Process, SLACK, wait_for, wait_until};

const A: &str = "172.17.0.101";
const B: &str = "172.17.0.102";
const C: &str = "172.17.0.103";

/// The agent follows events; a second is plenty, and a loaded machine may add its slack.
const SOON: Duration = Duration::from_secs(1).saturating_add(SLACK);

/// Runs a scenario on the fast path and on a plain bridge.
fn on_both(scenario: impl Fn(&Host, &Lab<'_>)) {
    for datapath in ["\"bridge\"", "\"tc\""] {
        let host = Host::new();
        let lab = host.lab("three-hosts").with("\"tc\"", datapath).up();
        if datapath == "\"tc\"" {
            lab.is_fast("ns0:eth0", B);
            lab.is_fast("ns2:eth0", B);
        }
        lab.reaches("ns0", B);
        lab.reaches("ns0", C);
        scenario(&host, &lab);
        if datapath == "\"tc\"" {
            lab.is_fast("ns0:eth0", B);
            let _ = lab.accounts_balance();
        }
        lab.down();
        host.finish();
    }
}

fn set(host: &Host, port: &str, what: &str) {
    let _ = host.run(format!("bridge link set dev {port} {what}")).ok();
}

#[test]
fn isolated() {
    on_both(|host, lab| {
        let (a, b) = (lab.port("ns0:eth0"), lab.port("ns1:eth0"));
        set(host, &a, "isolated on");
        lab.reaches("ns0", B);
        set(host, &b, "isolated on");
        lab.loses_within(SOON, "ns0", B);
        assert!(!lab.pings("ns1", A));
        lab.reaches("ns0", C);
        lab.reaches("ns2", B);
        lab.reaches("ns0", "172.17.0.1");
        set(host, &b, "isolated off");
        lab.reaches_within(SOON, "ns0", B);
        set(host, &a, "isolated off");
    });
}

#[test]
fn learning_off() {
    on_both(|host, lab| {
        let (port, mac) = (lab.port("ns1:eth0"), mac(lab, "ns1"));
        set(host, &port, "learning off");
        let _ = host.run(format!("bridge fdb del {mac} dev {port} master"));
        lab.reaches("ns0", B);
        lab.reaches("ns1", C);
        // A bridge that may not learn does not know, and floods.
        assert!(!knows(host, &port, &mac));
        set(host, &port, "learning on");
        lab.reaches("ns1", A);
        wait_for(SOON, "the bridge does not learn again", || lab.pings("ns1", A) && knows(host, &port, &mac));
    });
}

#[test]
fn hairpin_on() {
    on_both(|host, lab| {
        let port = lab.port("ns0:eth0");
        set(host, &port, "hairpin on");
        // What ns0 broadcasts comes back to it.
        let own = format!("inbound and arp and ether src {}", mac(lab, "ns0"));
        let capture = capture(lab, "ns0", "eth0", &own);
        wait_until(SOON, || {
            let _ = lab.run("ns0", "ping -n -q -c 1 -W 1 172.17.0.250");
            let seen = capture.output();
            if seen.contains("172.17.0.250") { Ok(()) } else { Err(format!("nothing came back: {seen}")) }
        });
        lab.reaches("ns0", B);
        lab.reaches("ns2", A);
        set(host, &port, "hairpin off");
    });
}

#[test]
fn locked_on() {
    on_both(|host, lab| {
        let (port, mac) = (lab.port("ns1:eth0"), mac(lab, "ns1"));
        set(host, &port, "locked on");
        let _ = host.run(format!("bridge fdb del {mac} dev {port} master"));
        lab.loses_within(SOON, "ns1", A);
        assert!(!lab.pings("ns0", B));
        // Whom an administrator lets in is in.
        let _ = host.run(format!("bridge fdb replace {mac} dev {port} master static")).ok();
        lab.reaches_within(SOON, "ns1", A);
        set(host, &port, "locked off");
        let _ = host.run(format!("bridge fdb replace {mac} dev {port} master dynamic")).ok();
    });
}

#[test]
fn not_forwarding() {
    on_both(|host, lab| {
        let port = lab.port("ns1:eth0");
        // Without spanning tree, a bridge makes a blocking port forwarding at once.
        for state in ["disabled", "listening", "learning"] {
            set(host, &port, &format!("state {state}"));
            lab.loses_within(SOON, "ns0", B);
            assert!(!lab.pings("ns1", A), "{state}");
            lab.reaches("ns0", C);
            set(host, &port, "state forwarding");
            lab.reaches_within(SOON, "ns0", B);
        }
    });
}

#[test]
fn spanning_tree_decides_when_a_port_forwards() {
    let host = Host::new();
    let lab = host.lab("three-hosts").with("datapath = \"tc\"", "stp = true").up();
    // After a change of topology, entries live for twice this: 8 s, which is long enough to be fast.
    let _ = host.run("ip link set docker0 type bridge forward_delay 400").ok();
    let port = lab.port("ns0:eth0");
    let forwards = || host.json(format!("bridge -j link show dev {port}"))[0]["state"] == "forwarding";
    wait_until(Duration::from_secs(90), || {
        let (stats, forwards) = (lab.stats(), forwards());
        assert!(forwards || stats.pair("ns0:eth0").state != "armed", "armed, and not forwarding: {stats:#?}");
        if forwards { Ok(()) } else { Err("spanning tree does not come to an end".to_owned()) }
    });
    lab.reaches_within(Duration::from_secs(30), "ns0", B);
    lab.is_fast("ns0:eth0", B);
    lab.down();
    host.finish();
}

#[test]
fn down_and_up_again() {
    on_both(|host, lab| {
        let port = lab.port("ns1:eth0");
        let _ = host.run(format!("ip link set {port} down")).ok();
        lab.loses_within(SOON, "ns0", B);
        lab.reaches("ns0", C);
        let _ = host.run(format!("ip link set {port} up")).ok();
        lab.reaches_within(SOON, "ns0", B);
    });
}

#[test]
fn flushed_and_deleted_entries() {
    on_both(|host, lab| {
        for pair in ["ns0:eth0", "ns1:eth0", "ns2:eth0"] {
            let _ = host.run(format!("ip link set dev {} type bridge_slave fdb_flush", lab.port(pair))).ok();
        }
        lab.reaches("ns0", B);
        lab.reaches("ns1", C);
        let (port, mac) = (lab.port("ns1:eth0"), mac(lab, "ns1"));
        wait_for(SOON, "the bridge does not learn", || lab.pings("ns1", A) && knows(host, &port, &mac));
        let _ = host.run(format!("bridge fdb del {mac} dev {port} master")).ok();
        lab.reaches("ns0", B);
    });
}

#[test]
fn a_sticky_entry_elsewhere_is_obeyed() {
    on_both(|host, lab| {
        let (a, c) = (mac(lab, "ns1"), lab.port("ns2:eth0"));
        let home = lab.port("ns1:eth0");
        // Somebody pins ns1 behind ns2's port: what is sent to it goes there, and is lost. (An entry
        // that is not sticky would move home with the first frame from there.)
        let _ = host.run(format!("bridge fdb replace {a} dev {c} master static sticky")).ok();
        lab.loses_within(SOON, "ns0", B);
        let _ = host.run(format!("bridge fdb del {a} dev {c} master")).ok();
        lab.reaches_within(SOON, "ns0", B);
        wait_for(SOON, "ns1 is not learned at home", || lab.pings("ns1", A) && knows(host, &home, &a));
    });
}

#[test]
fn no_longer_a_port() {
    on_both(|host, lab| {
        let port = lab.port("ns1:eth0");
        let _ = host.run(format!("ip link set {port} nomaster")).ok();
        lab.loses_within(SOON, "ns0", B);
        lab.reaches("ns0", C);
        let _ = host.run(format!("ip link set {port} master docker0")).ok();
        lab.reaches_within(SOON, "ns0", B);
    });
}

/// The MAC of a namespace's eth0.
pub(crate) fn mac(lab: &Lab<'_>, namespace: &str) -> String {
    lab.run(namespace, "cat /sys/class/net/eth0/address").ok().stdout.trim().to_owned()
}

/// Whether the bridge has a MAC behind a port.
pub(crate) fn knows(host: &Host, port: &str, mac: &str) -> bool {
    host.run(format!("bridge fdb show brport {port}")).ok().stdout.lines().any(|l| l.starts_with(mac))
}

/// A tcpdump in a namespace that has begun to listen.
#[track_caller]
fn capture(lab: &Lab<'_>, namespace: &str, interface: &str, filter: &str) -> Process {
    let capture = lab.spawn(namespace, format!("tcpdump -l -n -e --immediate-mode -i {interface} {filter}"));
    wait_for(SLACK, "tcpdump does not start", || capture.output().contains("listening on"));
    capture
}
