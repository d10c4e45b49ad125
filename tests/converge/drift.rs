//! What somebody changed by hand, `plan` tells and `up` mends.

use super::labs::{address, becomes, hosts, up};
use crate::harness::Host;

#[test]
fn drift_is_told_and_mended() {
    let host = Host::new();
    let text = hosts(0..3)
        .replace("[namespace.h0]\n", "[namespace.h0]\nsysctls = { \"net.ipv4.ip_forward\" = 1 }\n");
    let lab = up(&host, &text);
    let port = lab.port("h0:eth0");
    let mac = |device: &str| host.json(format!("ip -n h0 -j link show {device}"))[0]["address"].clone();
    let before = mac("eth0").as_str().expect("a MAC").to_owned();
    for (command, expected) in [
        ("ip -n h0 route del default", "+ create route 0.0.0.0/0 via 10.9.0.1 in h0".to_owned()),
        (
            "ip -n h0 route replace default via 10.9.0.77",
            "~ change route 0.0.0.0/0 in h0: via 10.9.0.77 -> 10.9.0.1".to_owned(),
        ),
        (&format!("ip link set {port} down"), format!("~ change interface host:{port}: down -> up")),
        (&format!("ip link set {port} nomaster"), format!("~ change port host:{port}: bridge none -> br0")),
        (
            "ip -n h0 link set eth0 address 02:00:00:00:00:05",
            format!("~ change mac h0:eth0: 02:00:00:00:00:05 -> {before}"),
        ),
        ("ip -n h0 link set eth0 mtu 1400", "~ change mtu h0:eth0: 1400 -> 1500".to_owned()),
        (
            "ip netns exec h0 sysctl -q net.ipv4.ip_forward=0",
            "~ change sysctl h0: net.ipv4.ip_forward 0 -> 1".to_owned(),
        ),
        (
            "ip link set br0 type bridge ageing_time 1000",
            "~ change bridge br0: ageing_time 10 s -> 300 s".to_owned(),
        ),
        ("ip link set br0 type bridge stp_state 1", "~ change bridge br0: stp true -> false".to_owned()),
        (&format!("rm /sys/fs/bpf/vethpath/changing/link_{port}"), format!("+ create program host:{port}")),
        (
            &format!("ip link set {port} alias \"\""),
            format!("~ change mark host:{port}: -> vethpath:changing h0:eth0"),
        ),
    ] {
        let words = command.replace("\"\"", "''");
        let _ = host.run(["bash", "-c", &words]).ok();
        assert_eq!(becomes(&host, &text), [expected], "{command}");
        lab.is_fast("h0:eth0", &address(1));
    }
    lab.down();
    host.finish();
}

/// Pairs and namespaces that somebody removed are made again, and what has another end than ours is not taken
/// for it.
#[test]
fn what_was_removed_is_made_again() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..3));
    let port = lab.port("h1:eth0");
    for command in [
        "ip netns del h1".to_owned(),
        format!("ip link del {port}"),
        "ip -n h1 link set eth0 netns h2 name other0".to_owned(),
    ] {
        let _ = host.run(&*command).ok();
        let changes = becomes(&host, &hosts(0..3));
        assert!(changes.contains(&"+ create pair h1:eth0".to_owned()), "{command}: {changes:#?}");
        lab.is_fast("h1:eth0", &address(2));
        assert_eq!(host.run("ip -n h2 -o link").ok().stdout.lines().count(), 2, "{command}");
    }
    lab.down();
    host.finish();
}

/// A user's own addresses, routes and devices stay, whatever the lab becomes.
#[test]
fn what_a_user_has_added_stays() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..2));
    for command in [
        "ip -n h0 addr add 192.0.2.1/24 dev eth0",
        "ip -n h0 route add 198.51.100.0/24 via 10.9.0.7",
        "ip -n h0 link add dummy0 type bridge",
        "ip link add tap9 type veth peer name tap8",
        "ip link set tap9 master br0",
    ] {
        let _ = host.run(command).ok();
    }
    let say = || {
        host.run("ip -n h0 -o -4 addr show dev eth0 to 192.0.2.0/24").ok().stdout
            + &host.run("ip -n h0 route show 198.51.100.0/24").ok().stdout
            + &host.run("ip -n h0 -o link show dummy0").ok().stdout
            + &host.run("ip -o link show tap9").ok().stdout
    };
    let before = say();
    assert_eq!(before.lines().count(), 4, "{before}");
    assert_eq!(becomes(&host, &hosts(0..2)), [""; 0]);
    let _ = becomes(&host, &hosts(0..4));
    let _ = becomes(&host, &hosts(0..2));
    assert_eq!(say(), before);
    let _ = host.run("ip link del tap9").ok();
    lab.down();
    host.finish();
}
