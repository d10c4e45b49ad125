//! `plan` reports what was changed by hand, and `up` restores it.

use super::labs::{address, becomes, hosts, up};
use crate::harness::{Host, SLACK, TIMEOUT, wait_for, wait_until, when_still};

#[test]
fn drift_is_told_and_mended() {
    let host = Host::new();
    let text = hosts(0..3)
        .replace("[namespace.h0]\n", "[namespace.h0]\nsysctls = { \"net.ipv4.ip_forward\" = 1 }\n");
    let lab = up(&host, &text);
    let port = lab.port("h0:eth0");
    let mac = |device: &str| host.json(format!("ip -n h0 -j link show {device}"))[0]["address"].clone();
    let before = mac("eth0").as_str().expect("a MAC").to_owned();
    let before_routes = routes(&host, "-4");
    for (command, expected) in [
        ("ip -n h0 route del default", "+ create route 0.0.0.0/0 via 10.9.0.1 in h0".to_owned()),
        (
            "ip -n h0 route replace default via 10.9.0.77",
            "~ change route 0.0.0.0/0 in h0: via 10.9.0.77 -> 10.9.0.1".to_owned(),
        ),
        (
            "ip -n h0 route replace default dev eth0",
            "~ change route 0.0.0.0/0 in h0: dev eth0 -> via 10.9.0.1".to_owned(),
        ),
        (
            "ip -n h0 route replace blackhole default",
            "~ change route 0.0.0.0/0 in h0: blackhole -> via 10.9.0.1".to_owned(),
        ),
        ("ip -n h0 route del 10.9.0.0/16", "+ create route 10.9.0.0/16 dev eth0 in h0".to_owned()),
        ("ip route del 10.9.0.0/16", "+ create route 10.9.0.0/16 dev br0 in host".to_owned()),
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
        assert_eq!(routes(&host, "-4"), before_routes, "{command}");
        lab.is_fast("h0:eth0", &address(1));
        lab.reaches("h0", "10.9.0.1");
    }
    lab.down();
    host.finish();
}

/// All routes of `h0` and of the host, as `ip` prints them.
fn routes(host: &Host, family: &str) -> String {
    ["-n h0", ""].map(|place| host.run(format!("ip {family} {place} route")).ok().stdout).concat()
}

/// The kernel refuses a gateway to whose subnet there is no route.
#[test]
fn all_routes_that_were_flushed_come_again() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..2));
    let before = routes(&host, "-4");
    let _ = host.run("ip -n h0 route flush all").ok();
    let expected =
        ["+ create route 10.9.0.0/16 dev eth0 in h0", "+ create route 0.0.0.0/0 via 10.9.0.1 in h0"];
    assert_eq!(becomes(&host, &hosts(0..2)), expected);
    assert_eq!(routes(&host, "-4"), before);
    lab.reaches("h0", &address(1));
    lab.down();
    host.finish();
}

#[test]
fn drift_of_ipv6_is_told_and_mended() {
    let host = Host::new();
    let text = hosts(0..2)
        .replace("\"10.9.0.1/16\"", "\"10.9.0.1/16\", \"fd09::1/64\"")
        .replace("gateway = \"10.9.0.1\"", "gateway = [\"10.9.0.1\", \"fd09::1\"]")
        .replace("\"10.9.1.0/16\"", "\"10.9.1.0/16\", \"fd09::2/64\"")
        .replace("\"10.9.1.1/16\"", "\"10.9.1.1/16\", \"fd09::3/64\"");
    let lab = up(&host, &text);
    // Routes of link-local addresses appear once the kernel has processed that the link is up.
    let before = when_still(|| routes(&host, "-6"));
    let (subnet, default) =
        ("+ create route fd09::/64 dev eth0 in h0", "+ create route ::/0 via fd09::1 in h0");
    for (command, expected) in [
        ("ip -n h0 -6 route del fd09::/64", vec![subnet]),
        ("ip -6 route del fd09::/64", vec!["+ create route fd09::/64 dev br0 in host"]),
        ("ip -n h0 -6 route del default", vec![default]),
        ("ip -n h0 -6 route flush fd09::/64 && ip -n h0 -6 route flush default", vec![subnet, default]),
        (
            "ip -n h0 -6 route replace blackhole default",
            vec!["~ change route ::/0 in h0: blackhole -> via fd09::1"],
        ),
        (
            "ip -n h0 -6 route replace default dev eth0",
            vec!["~ change route ::/0 in h0: dev eth0 -> via fd09::1"],
        ),
        ("ip -n h0 addr del fd09::2/64 dev eth0", vec!["+ create address fd09::2/64 on h0:eth0"]),
        ("ip -n h0 -6 addr flush dev eth0 scope global", vec!["+ create address fd09::2/64 on h0:eth0"]),
    ] {
        let _ = host.run(["bash", "-c", command]).ok();
        assert_eq!(becomes(&host, &text), expected, "{command}");
        wait_until(SLACK, || {
            let now = routes(&host, "-6");
            if now == before { Ok(()) } else { Err(format!("{command}: {now}, and before {before}")) }
        });
        lab.reaches("h0", "fd09::3");
        lab.reaches("h0", "fd09::1");
    }
    lab.down();
    host.finish();
}

/// What a lab has besides pairs: a bridge, its masquerading, a cable, a trunk.
#[test]
fn all_that_was_removed_is_made_again() {
    let host = Host::new();
    let text = hosts(0..2).replace("[bridge.br0]\n", "[bridge.br0]\nnat = true\ntrunks = [\"br1\"]\n")
        + "[bridge.br1]\n"
        + &super::labs::host(2, "br1")
        + "[namespace.h0.interface.c0]\nlink = \"h1:c0\"\naddresses = [\"10.8.0.1/30\"]\n\
           [namespace.h1.interface.c0]\nlink = \"h0:c0\"\naddresses = [\"10.8.0.2/30\"]\n";
    let lab = up(&host, &text);
    let links = host.json("ip -j -d link");
    let trunk = links.as_array().into_iter().flatten().find(|link| {
        link["ifalias"].as_str().is_some_and(|alias| alias.starts_with("vethpath:changing trunk"))
    });
    let trunk = trunk.expect("a port of the trunk")["ifname"].as_str().expect("a name").to_owned();
    for (command, expected) in [
        ("ip link del br0".to_owned(), "+ create bridge br0"),
        ("nft delete table inet vethpath-changing".to_owned(), "+ create nat vethpath-changing"),
        ("ip -n h1 link del c0".to_owned(), "+ create cable h0:c0 - h1:c0"),
        (format!("ip link del {trunk}"), "+ create trunk br0 - br1"),
    ] {
        let _ = host.run(&*command).ok();
        let changes = becomes(&host, &text);
        assert!(changes.contains(&expected.to_owned()), "{command}: {changes:#?}");
        // The kernel sends nothing on a link until it has processed that the link is up.
        wait_until(SLACK, || {
            let links =
                ["", "-n h0 ", "-n h1 "].map(|at| host.run(format!("ip {at}-br link")).ok().stdout).concat();
            if links.contains("DOWN") { Err(links) } else { Ok(()) }
        });
        for to in ["10.9.0.1", "10.8.0.2", &address(1), &address(2)] {
            lab.reaches("h0", to);
        }
        let _ = host.run("nft list ruleset").ok().prints("vethpath-changing").prints("masquerade");
    }
    lab.down();
    host.finish();
}

/// Pairs and namespaces that were removed are created again. A port whose peer is not the pair's inner end does not
/// count as the pair.
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
        if command.starts_with("ip netns") {
            // The kernel removes the namespace, and its end of the pair, asynchronously.
            wait_for(TIMEOUT, "the port stays", || !host.run(format!("ip link show {port}")).succeeded());
        }
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
