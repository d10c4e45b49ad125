//! `plan` reports what was changed by hand, and `up` restores it.

use super::{address, change_to, hosts, up};
use crate::harness::{Host, Lab, SLACK, TIMEOUT, wait_for, wait_until, wait_until_stable};

#[test]
fn drift_is_reported_and_repaired() {
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
        assert_eq!(change_to(&host, &text), [expected], "{command}");
        assert_eq!(routes(&host, "-4"), before_routes, "{command}");
        lab.is_fast("h0:eth0", &address(1));
        lab.reaches("h0", "10.9.0.1");
    }
    lab.down();
    host.finish();
}

/// All routes of `h0` and of the machine as `ip` prints them, once the kernel has processed that the links have a carrier. That takes
/// long on a busy machine (`linkwatch_event` in net/core/link_watch.c).
fn routes(host: &Host, family: &str) -> String {
    wait_until(SLACK, || {
        let all =
            ["-n h0", ""].map(|place| host.run(format!("ip {family} {place} route")).ok().stdout).concat();
        if all.contains("linkdown") { Err(all) } else { Ok(all) }
    })
}

/// The kernel refuses a gateway to whose subnet there is no route.
#[test]
fn flushed_routes_are_created_again() {
    let host = Host::new();
    let lab = up(&host, &hosts(0..2));
    let before = routes(&host, "-4");
    let _ = host.run("ip -n h0 route flush all").ok();
    let expected =
        ["+ create route 10.9.0.0/16 dev eth0 in h0", "+ create route 0.0.0.0/0 via 10.9.0.1 in h0"];
    assert_eq!(change_to(&host, &hosts(0..2)), expected);
    assert_eq!(routes(&host, "-4"), before);
    lab.reaches("h0", &address(1));
    lab.down();
    host.finish();
}

#[test]
fn drift_of_ipv6_is_reported_and_repaired() {
    let host = Host::new();
    let text = hosts(0..2)
        .replace("\"10.9.0.1/16\"", "\"10.9.0.1/16\", \"fd09::1/64\"")
        .replace("gateway = \"10.9.0.1\"", "gateway = [\"10.9.0.1\", \"fd09::1\"]")
        .replace("\"10.9.1.0/16\"", "\"10.9.1.0/16\", \"fd09::2/64\"")
        .replace("\"10.9.1.1/16\"", "\"10.9.1.1/16\", \"fd09::3/64\"");
    let lab = up(&host, &text);
    // Routes of link-local addresses appear once the kernel has processed that the link is up.
    let before = wait_until_stable(|| routes(&host, "-6"));
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
        assert_eq!(change_to(&host, &text), expected, "{command}");
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
fn removed_bridges_nat_cables_and_trunks_are_created_again() {
    let host = Host::new();
    let text = hosts(0..2).replace("[bridge.br0]\n", "[bridge.br0]\nnat = true\ntrunks = [\"br1\"]\n")
        + "[bridge.br1]\n"
        + &super::host_on(2, "br1")
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
        let changes = change_to(&host, &text);
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
        let _ = host.run("nft list ruleset").ok().stdout_has("vethpath-changing").stdout_has("masquerade");
    }
    lab.down();
    host.finish();
}

/// Pairs and namespaces that were removed are created again. A port whose peer is not the pair's inner end does not
/// count as the pair.
#[test]
fn removed_namespaces_and_pairs_are_created_again() {
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
        let changes = change_to(&host, &hosts(0..3));
        assert!(changes.contains(&"+ create pair h1:eth0".to_owned()), "{command}: {changes:#?}");
        lab.is_fast("h1:eth0", &address(2));
        assert_eq!(host.run("ip -n h2 -o link").ok().stdout.lines().count(), 2, "{command}");
    }
    lab.down();
    host.finish();
}

/// A user's own addresses, routes and devices stay, whatever the lab becomes.
#[test]
fn objects_that_a_user_has_added_stay() {
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
    let snapshot = || {
        host.run("ip -n h0 -o -4 addr show dev eth0 to 192.0.2.0/24").ok().stdout
            + &host.run("ip -n h0 route show 198.51.100.0/24").ok().stdout
            + &host.run("ip -n h0 -o link show dummy0").ok().stdout
            + &host.run("ip -o link show tap9").ok().stdout
    };
    let before = snapshot();
    assert_eq!(before.lines().count(), 4, "{before}");
    assert_eq!(change_to(&host, &hosts(0..2)), [""; 0]);
    let _ = change_to(&host, &hosts(0..4));
    let _ = change_to(&host, &hosts(0..2));
    assert_eq!(snapshot(), before);
    let _ = host.run("ip link del tap9").ok();
    lab.down();
    host.finish();
}

const NOTHING: &str = "lab three-hosts is up: nothing to change";

/// `plan` names exactly these changes, `up` makes them, and then there are none.
#[track_caller]
fn assert_repaired(host: &Host, lab: &Lab<'_>, changes: &[&str]) {
    let _ = lab.live_stats();
    let planned = host.vethpath(format!("plan {}", lab.file)).ok().stdout;
    assert_eq!(planned.lines().collect::<Vec<_>>(), changes);
    let _ = host.vethpath(format!("up {}", lab.file)).ok().stderr_has("lab three-hosts is up: ");
    assert_nothing_to_change(host, lab);
    let _ = lab.live_stats();
    let _ = host.vethpath(format!("up {}", lab.file)).ok().stderr_has(NOTHING);
}

/// Waits for the agent first: one that does not reply would have to be replaced.
#[track_caller]
fn assert_nothing_to_change(host: &Host, lab: &Lab<'_>) {
    let _ = lab.live_stats();
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has(NOTHING);
}

#[test]
fn a_port_that_was_taken_off_its_bridge() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let port = lab.port("ns0:eth0");
    let _ = host.run(format!("ip link set {port} nomaster")).ok();
    assert_repaired(&host, &lab, &[&format!("~ change port host:{port}: bridge none -> docker0")]);
    lab.is_fast("ns0:eth0", "172.17.0.102");
    lab.is_fast("ns1:eth0", "172.17.0.101");

    let _ = host.run("ip link add br9 type bridge").ok();
    let _ = host.run(format!("ip link set {port} master br9")).ok();
    assert_repaired(&host, &lab, &[&format!("~ change port host:{port}: bridge br9 -> docker0")]);
    let _ = host.run("ip link del br9").ok();
    lab.is_fast("ns0:eth0", "172.17.0.102");
    lab.down();
    host.finish();
}

#[test]
fn a_bridge_that_was_deleted() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    let ports = ["ns0:eth0", "ns1:eth0", "ns2:eth0"]
        .map(|pair| format!("~ change port host:{}: bridge none -> docker0", lab.port(pair)));
    let _ = host.run("ip link del docker0").ok();
    let mut changes = vec!["+ create bridge docker0"];
    changes.extend(ports.iter().map(String::as_str));
    changes.extend([
        "+ create address 172.17.0.1/16 on host:docker0",
        "~ change interface host:docker0: down -> up",
    ]);
    assert_repaired(&host, &lab, &changes);
    for to in ["172.17.0.1", "172.17.0.102", "172.17.0.103"] {
        lab.reaches("ns0", to);
    }
    lab.is_fast("ns0:eth0", "172.17.0.102");
    lab.down();
    host.finish();
}

#[test]
fn an_mtu_that_was_changed_and_a_loopback_that_is_down() {
    let host = Host::new();
    let text = "datapath = \"tc\"";
    let lab = host.lab("three-hosts").with(text, "datapath = \"tc\"\nmtu = 4000").up();
    let port = lab.port("ns0:eth0");
    assert_nothing_to_change(&host, &lab);
    for command in [
        "ip link set docker0 mtu 1400",
        &format!("ip link set {port} mtu 1400"),
        "ip -n ns0 link set eth0 mtu 1400",
        "ip -n ns0 link set lo down",
    ] {
        let _ = host.run(command).ok();
    }
    let changes = [
        &format!("~ change mtu host:{port}: 1400 -> 4000"),
        "~ change mtu ns0:eth0: 1400 -> 4000",
        "~ change mtu host:docker0: 1400 -> 4000",
        "~ change interface ns0:lo: down -> up",
    ];
    assert_repaired(&host, &lab, &changes);
    let _ = host.run("ip -o link show docker0").ok().stdout_has("mtu 4000");
    lab.reaches("ns0", "127.0.0.1");
    lab.down();
    host.finish();
}

/// The kernel lowers a bridge's MTU to the smallest of its ports: there is nothing to repair.
#[test]
fn a_bridge_with_a_larger_mtu_than_a_port() {
    let host = Host::new();
    let lab = host.lab("three-hosts").with("datapath = \"tc\"", "datapath = \"tc\"\nmtu = 4000");
    let lab = lab.with("172.17.0.103/16\"]", "172.17.0.103/16\"]\nmtu = 1500").up();
    assert_nothing_to_change(&host, &lab);
    lab.down();
    host.finish();
}

/// `up`, `list` and `show` report the state of the repaired lab, not the state while parts of it were missing.
#[test]
fn up_reports_the_state_after_the_repair() {
    let host = Host::new();
    for (name, namespaces, pairs) in [("fabric", "fabric ns0 ns1", 2), ("three-hosts", "ns0 ns1 ns2", 3)] {
        let lab = host.lab(name).up();
        let at = if name == "fabric" { "ip -n fabric" } else { "ip" };
        let first = namespaces.split(' ').next().expect("there are some");
        let port = lab.port("ns0:eth0");
        for (command, is_noticed) in [
            (format!("for n in {namespaces}; do ip netns del $n; done"), false),
            (format!("for n in {namespaces}; do ip netns del $n; done"), true),
            (format!("ip netns del {first}"), true),
            (format!("{at} link del {port}"), false),
            (format!("kill -KILL $(cat /run/vethpath/{name}/agent.lock)"), false),
        ] {
            let _ = host.run(["sh", "-c", &command]).ok();
            if is_noticed {
                lab.wait_for_state("ns0:eth0", "does not exist");
            }
            let armed = format!("{pairs} of {pairs} pairs armed");
            let _ = host.vethpath(format!("up {}", lab.file)).ok().stderr_has(&format!("fast path: {armed}"));
            let _ = host.vethpath("list").ok().stdout_has(&format!("{armed}, agent alive"));
            let shown = host.vethpath("show --json").ok().stdout;
            assert_eq!(shown.matches("\"armed\"").count(), pairs, "{command}: {shown}");
            lab.is_fast("ns0:eth0", if name == "fabric" { "10.2.0.11" } else { "172.17.0.102" });
        }
        lab.down();
    }
    host.finish();
}
