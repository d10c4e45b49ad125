//! `peer`: the other end of a veth, whoever made it. `ip` and `ethtool` judge.

use serde_json::Value;

use crate::harness::{Host, Process, SLACK, wait_until};

/// `vethpath peer ARGUMENTS --json`.
#[track_caller]
fn peer(host: &Host, arguments: &str) -> Value {
    host.vethpath(format!("peer {arguments} --json")).ok().json()
}

/// The line of `vethpath peer ARGUMENTS`.
#[track_caller]
fn line(host: &Host, arguments: &str) -> String {
    host.vethpath(format!("peer {arguments}")).ok().stdout
}

/// Checks what is said about `interface` with what the kernel says there. `at` is `-n NAMESPACE`, or empty.
#[track_caller]
fn assert_as_ip_says(host: &Host, end: &Value, interface: &str, at: &str) {
    let link = &host.json(format!("ip {at} -j link show dev {interface}"))[0];
    assert_eq!(end["interface"], interface, "{end:#}");
    assert_eq!(end["ifindex"], link["ifindex"], "{end:#} {link:#}");
    assert_eq!(end["bridge"], link["master"], "{end:#} {link:#}");
}

/// The ifindex of the other end, as the driver says.
#[track_caller]
fn of_driver(host: &Host, command: String) -> u64 {
    let output = host.run(command).ok();
    let line = output.stdout.lines().find_map(|line| line.trim().strip_prefix("peer_ifindex: "));
    line.and_then(|index| index.parse().ok()).unwrap_or_else(|| panic!("no peer: {output}"))
}

/// A process in a network namespace of its own, which has no name, and its pid.
#[track_caller]
fn nameless(host: &Host) -> (Process, i32) {
    let process = host.spawn("unshare -n sleep infinity");
    let pid = wait_until(SLACK, || {
        let found = host.run("pgrep -x sleep").stdout;
        let own = |pid: &&str| {
            let netns = |pid: &str| host.run(format!("readlink /proc/{pid}/ns/net")).stdout;
            netns(pid) != netns("1")
        };
        found.lines().find(own).map(|pid| pid.parse().expect("a number")).ok_or(found.clone())
    });
    (process, pid)
}

#[test]
fn both_ends_of_a_pair_are_found_from_either_side() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let port = lab.port("ns0:eth0");
    let inside = peer(&host, "eth0 --in ns0");
    assert_as_ip_says(&host, &inside, "eth0", "-n ns0");
    assert_as_ip_says(&host, &inside["peer"], &port, "");
    assert_eq!(inside["namespace"], "ns0");
    assert_eq!(inside["peer"]["namespace"], "host");
    assert_eq!((&inside["lab"], &inside["peer"]["lab"]), (&"three-hosts".into(), &"three-hosts".into()));
    let outside = peer(&host, &port);
    assert_eq!(outside["peer"]["interface"], "eth0");
    assert_eq!(outside["peer"]["ifindex"], inside["ifindex"]);
    assert_eq!(outside["peer"]["namespace"], "ns0");
    assert_eq!(
        of_driver(&host, format!("ethtool -S {port}")),
        outside["peer"]["ifindex"].as_u64().expect("a number")
    );
    let index = |end: &Value| end["ifindex"].clone();
    let (one, other) = (index(&inside), index(&inside["peer"]));
    assert_eq!(
        line(&host, "eth0 --in ns0"),
        format!(
            "ns0:eth0 (ifindex {one}, lab three-hosts) <-> \
             host:{port} (ifindex {other}, port of docker0, lab three-hosts)\n"
        )
    );
    // A process in the namespace stands for it.
    let mut sleep = lab.spawn("ns0", "sleep infinity");
    let pid = wait_until(SLACK, || {
        assert!(!sleep.has_ended(), "{}", sleep.output());
        let found = host.run("ip netns pids ns0").stdout;
        found.lines().next().map(str::to_owned).ok_or("no process yet".to_owned())
    });
    assert_eq!(peer(&host, &format!("eth0 --in {pid}")), inside);
    drop(sleep);
    lab.down();
    host.finish();
}

#[test]
fn veths_that_no_lab_made_are_found_as_well() {
    let host = Host::new();
    let (process, pid) = nameless(&host);
    for command in [
        "ip netns add a",
        "ip netns add b",
        "ip link add br0 type bridge",
        // A cable between two namespaces, a port, one into a namespace without a name, and one that leads nowhere else.
        "ip -n a link add va type veth peer name vb netns b",
        "ip link add vethd9f880 type veth peer name eth0 netns a",
        "ip link set vethd9f880 master br0",
        "ip link add v0 type veth peer name v1",
    ] {
        let _ = host.run(command).ok();
    }
    let _ = host.run(format!("ip link add vp0 type veth peer name eth0 netns {pid}")).ok();

    let cable = peer(&host, "va --in a");
    assert_as_ip_says(&host, &cable["peer"], "vb", "-n b");
    assert_eq!(cable["peer"]["namespace"], "b");
    assert_eq!(cable["lab"], Value::Null);
    assert_eq!(
        of_driver(&host, "ip netns exec a ethtool -S va".to_owned()),
        cable["peer"]["ifindex"].as_u64().expect("a number")
    );
    assert_eq!(peer(&host, "vb --in b")["peer"]["interface"], "va");

    let port = peer(&host, "eth0 --in a");
    assert_as_ip_says(&host, &port["peer"], "vethd9f880", "");
    assert_eq!((&port["peer"]["namespace"], &port["peer"]["bridge"]), (&"host".into(), &"br0".into()));
    assert!(line(&host, "vethd9f880").contains("port of br0) <-> a:eth0 (ifindex"), "{port:#}");

    let nameless = peer(&host, "vp0");
    assert_eq!(nameless["peer"]["pid"], pid);
    assert_eq!(nameless["peer"]["command"], "sleep");
    assert_eq!(nameless["peer"]["namespace"], Value::Null);
    assert!(line(&host, "vp0").contains(&format!("<-> eth0 in pid {pid} (sleep) (ifindex ")));
    let back = peer(&host, &format!("eth0 --in {pid}"));
    assert_eq!((&back["pid"], &back["peer"]["namespace"]), (&pid.into(), &"host".into()));

    let same = peer(&host, "v0 --in host");
    assert_as_ip_says(&host, &same["peer"], "v1", "");
    assert_eq!(same["peer"]["namespace"], "host");
    for command in
        ["ip link del v0", "ip link del vp0", "ip link del br0", "ip netns del a", "ip netns del b"]
    {
        let _ = host.run(command).ok();
    }
    drop(process);
    host.finish();
}

#[test]
fn what_has_no_other_end_is_named() {
    let host = Host::new();
    for command in [
        "ip netns add blue",
        "ip -n blue link add eth0 type bridge",
        "ip link add br0 type bridge",
        "ip link add veth0 type veth peer name veth1",
    ] {
        let _ = host.run(command).ok();
    }
    let refused = |arguments: &str, message: &str, hint: &str| {
        let output = host.vethpath(format!("peer {arguments}")).fails(1);
        let _ = output.stderr_has(message).stderr_has(hint);
    };
    refused(
        "veth00",
        "error: there is no interface `veth00` in host",
        "hint: did you mean `veth0`? there are: lo, br0, veth1, veth0",
    );
    refused("br0", "error: `br0` in host is a bridge: it is no end of a veth", "hint: name a veth");
    refused("lo", "`lo` in host is the loopback", "ip link show type veth");
    refused("eth0 --in blue", "`eth0` in blue is a bridge", "hint:");
    refused(
        "eth0 --in bleu",
        "error: there is no namespace, process or running container `bleu`",
        "hint: did you mean `blue`? give a host of a lab",
    );
    refused(
        "a-name-of-more-than-15-bytes",
        "there is no interface `a-name-of-more-than-15-bytes`",
        "there are: lo",
    );
    refused("eth0 --in 4194303", "container `4194303`", "hint: give a host of a lab");
    refused("eth0 --in a/b", "container `a/b`", "hint:");
    for command in ["ip netns del blue", "ip link del veth0", "ip link del br0"] {
        let _ = host.run(command).ok();
    }
    host.finish();
}
