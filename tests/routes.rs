//! Routes of namespaces: each kind as ip-route(8) shows it, what is put back, and what is removed.

use serde_json::json;

use crate::harness::{Host, LabFile};

/// A host with a route of each kind, and a router.
const LAB: &str = r#"
[bridge.br0]

[namespace.h]
routes = [
    { to = "default", via = "fe80::9", dev = "eth0" },
    { to = "10.1.0.0/16", via = "10.0.0.9", metric = 100, mtu = 1400 },
    { to = "10.1.0.0/16", via = "10.0.0.8", metric = 200 },
    { to = "10.2.0.0/16", nexthops = [{ via = "10.0.0.8" }, { via = "10.0.0.9", dev = "eth0", weight = 3 }] },
    { to = "10.3.0.0/16", dev = "eth0", src = "10.0.0.3" },
    { to = "10.4.0.0/16", via = "192.0.2.1", dev = "eth0", onlink = true },
    { to = "10.5.0.0/16", via = "fe80::9", dev = "eth0" },
    { to = "10.6.0.0/16", blackhole = true },
    { to = "10.7.0.0/16", via = "10.3.0.1" },
    { to = "10.8.0.0/16", via = "10.0.0.9", table = 100 },
    { to = "0.0.0.0/0", via = "10.0.0.9", table = 1000 },
    { to = "fd00:1::/64", via = "fd00::9", metric = 100, src = "fd00::2" },
    { to = "fd00:2::/64", nexthops = [{ via = "fd00::8" }, { via = "fd00::9" }] },
    { to = "fd00:6::/64", unreachable = true, table = 100 },
]

[namespace.h.interface.eth0]
link = "br0"
addresses = ["10.0.0.2/24", "10.0.0.3/24", "fd00::2/64"]

[namespace.r]
sysctls = { "net.ipv4.ip_forward" = 1 }
routes = [{ to = "10.0.0.0/24", dev = "eth0" }]

[namespace.r.interface.eth0]
link = "br0"
addresses = ["fe80::9/64"]

[namespace.r.interface.out]
link = "far:eth0"
addresses = ["10.5.0.1/24"]

[namespace.far]
gateway = "10.5.0.1"

[namespace.far.interface.eth0]
link = "r:out"
addresses = ["10.5.0.2/24"]
"#;

fn lab(host: &Host) -> LabFile<'_> {
    host.lab("empty").named("routes").and(LAB)
}

/// The routes of a namespace in all tables but those that the kernel has added, one a line with single spaces.
fn routes(host: &Host, namespace: &str) -> Vec<String> {
    let show =
        |family: &str| host.run(format!("ip -n {namespace} {family} route show table all")).ok().stdout;
    let text = show("-4") + &show("-6");
    // The ways of a route follow it in lines of their own.
    let text = text.replace("\n\tnexthop", " nexthop");
    let is_its = |line: &&str| {
        !["local", "broadcast", "anycast", "multicast"].iter().any(|kind| line.starts_with(kind))
            && !line.contains("proto kernel")
    };
    // The kernel may not have processed the carrier of an interface that is new.
    let tidy = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().filter(|word| *word != "linkdown").collect();
        words.join(" ")
    };
    text.lines().filter(is_its).map(tidy).collect()
}

#[track_caller]
fn assert_routes(host: &Host, expected: &[&str]) {
    let there = routes(host, "h");
    for route in expected {
        assert!(there.iter().any(|there| there.starts_with(route)), "no `{route}` in {there:#?}");
    }
}

const EXPECTED: [&str; 14] = [
    "default via fe80::9 dev eth0",
    "10.1.0.0/16 via 10.0.0.9 dev eth0 proto static metric 100 mtu 1400",
    "10.1.0.0/16 via 10.0.0.8 dev eth0 proto static metric 200",
    "10.2.0.0/16 proto static nexthop via 10.0.0.8 dev eth0 weight 1 nexthop via 10.0.0.9 dev eth0 weight 3",
    "10.3.0.0/16 dev eth0 proto static scope link src 10.0.0.3",
    "10.4.0.0/16 via 192.0.2.1 dev eth0 proto static onlink",
    "10.5.0.0/16 via inet6 fe80::9 dev eth0 proto static",
    "blackhole 10.6.0.0/16 proto static",
    "10.7.0.0/16 via 10.3.0.1 dev eth0 proto static",
    "10.8.0.0/16 via 10.0.0.9 dev eth0 table 100 proto static",
    "default via 10.0.0.9 dev eth0 table 1000 proto static",
    "fd00:1::/64 via fd00::9 dev eth0 proto static src fd00::2 metric 100",
    "fd00:2::/64 proto static metric 1024 pref medium nexthop via fd00::8 dev eth0 weight 1 \
     nexthop via fd00::9 dev eth0 weight 1",
    "unreachable fd00:6::/64 dev lo table 100 proto static metric 1024",
];

#[test]
fn a_route_of_each_kind_is_made_and_put_back() {
    let host = Host::new();
    let lab = lab(&host).up();
    let made = routes(&host, "h");
    assert_routes(&host, &EXPECTED);
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
    // An IPv4 packet by an IPv6 gateway.
    lab.reaches("h", "10.5.0.2");
    let _ =
        host.vethpath("show").ok().stdout_has("blackhole 10.6.0.0/16").stdout_has("10.1.0.0/16 via 10.0.0.9");
    let shown = host.vethpath("show --json").ok().json();
    let shown = shown["namespaces"][0]["routes"].as_array().expect("routes of h").clone();
    for route in [
        json!({"to": "10.1.0.0/16", "via": "10.0.0.9", "device": "eth0", "metric": 100, "mtu": 1400}),
        json!({"to": "10.2.0.0/16", "device": null, "nexthops": [
            {"via": "10.0.0.8", "device": "eth0", "weight": 1}, {"via": "10.0.0.9", "device": "eth0", "weight": 3},
        ]}),
        json!({"to": "10.3.0.0/16", "device": "eth0", "src": "10.0.0.3"}),
        json!({"to": "fd00:6::/64", "device": null, "fate": "unreachable", "table": 100}),
    ] {
        assert!(shown.contains(&route), "no {route} in {shown:#?}");
    }

    for (by_hand, planned) in [
        (
            "route change 10.1.0.0/16 via 10.0.0.9 metric 100",
            "~ change route 10.1.0.0/16 in h: via 10.0.0.9 -> via 10.0.0.9 metric 100 mtu 1400",
        ),
        (
            "route change 10.2.0.0/16 nexthop via 10.0.0.8 nexthop via 10.0.0.9",
            "~ change route 10.2.0.0/16 in h: nexthop via 10.0.0.8",
        ),
        ("route del 10.3.0.0/16", "+ create route 10.3.0.0/16 dev eth0 src 10.0.0.3 in h"),
        (
            "route change 10.5.0.0/16 via 10.0.0.8",
            "~ change route 10.5.0.0/16 in h: via 10.0.0.8 dev eth0 -> via fe80::9 dev eth0",
        ),
        ("route del blackhole 10.6.0.0/16", "+ create route 10.6.0.0/16 blackhole in h"),
        ("route del 10.8.0.0/16 table 100", "+ create route 10.8.0.0/16 via 10.0.0.9 table 100 in h"),
        ("route del default table 1000", "+ create route 0.0.0.0/0 via 10.0.0.9 table 1000 in h"),
        (
            "-6 route del fd00:2::/64 via fd00::8",
            "~ change route fd00:2::/64 in h: via fd00::9 -> nexthop via fd00::8",
        ),
        (
            "-6 route del unreachable fd00:6::/64 table 100",
            "+ create route fd00:6::/64 unreachable table 100 in h",
        ),
        ("-6 route del default", "+ create route ::/0 via fe80::9 dev eth0 in h"),
    ] {
        let _ = host.run(format!("ip -n h {by_hand}")).ok();
        let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has(planned);
    }
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
    assert_eq!(sorted(routes(&host, "h")), sorted(made));
    lab.down();
    host.finish();
}

fn sorted(mut routes: Vec<String>) -> Vec<String> {
    routes.sort();
    routes
}

#[test]
fn routes_come_back_with_their_interface_and_go_with_the_file() {
    let host = Host::new();
    let lab = lab(&host).up();
    let made = sorted(routes(&host, "h"));
    // The kernel removes the routes of an interface that goes down, and of an address that is removed.
    for by_hand in ["link set eth0 down", "address del 10.0.0.3/24 dev eth0"] {
        let _ = host.run(format!("ip -n h {by_hand}")).ok();
        let _ = host.vethpath(format!("up {}", lab.file)).ok();
        let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
        assert_eq!(sorted(routes(&host, "h")), made, "{by_hand}");
    }
    // What others add stays, also beside a route of the lab.
    let others =
        ["route add 10.1.0.0/16 via 10.0.0.7 metric 50", "route add 10.8.0.0/16 via 10.0.0.7 table 101"];
    for by_hand in others {
        let _ = host.run(format!("ip -n h {by_hand}")).ok();
    }
    let less = lab_without_routes(&host);
    let _ =
        host.vethpath(format!("plan {less}")).ok().stdout_has("- delete route 10.6.0.0/16 blackhole in h");
    let _ = host.vethpath(format!("up {less}")).ok();
    assert_eq!(
        routes(&host, "h"),
        ["10.8.0.0/16 via 10.0.0.7 dev eth0 table 101", "10.1.0.0/16 via 10.0.0.7 dev eth0 metric 50"],
    );
    lab.down();
    host.finish();
}

fn lab_without_routes(host: &Host) -> String {
    let (before, rest) = LAB.split_once("routes = [\n").expect("the routes of h");
    let (_, after) = rest.split_once("]\n\n").expect("their end");
    host.lab("empty").named("routes").and(&format!("{before}\n{after}")).write()
}

/// The routes of an adopted namespace that the lab's replace have a metric and a table too.
#[test]
fn an_adopted_namespace_gets_back_the_routes_of_each_table_and_metric() {
    let mut host = Host::new();
    for command in [
        "ip netns add theirs",
        "ip -n theirs link add own type veth peer name peer",
        "ip -n theirs address add 192.0.2.1/24 dev own",
        "ip -n theirs link set own up",
        "ip -n theirs link set peer up",
        "ip -n theirs route add 10.1.0.0/16 via 192.0.2.2 metric 100",
        "ip -n theirs route add 10.1.0.0/16 via 192.0.2.3",
        "ip -n theirs route add 10.1.0.0/16 via 192.0.2.4 table 100",
    ] {
        let _ = host.run(command).ok();
    }
    host.set_baseline();
    let before = sorted(routes(&host, "theirs"));
    let lab = host.lab("empty").named("adopted").and(
        "[bridge.br0]\n[namespace.theirs]\nadopt = { path = \"/run/netns/theirs\" }\n\
         routes = [{ to = \"10.1.0.0/16\", via = \"10.0.0.9\", metric = 100 }, \
         { to = \"10.1.0.0/16\", via = \"10.0.0.9\", table = 100 }]\n\
         [namespace.theirs.interface.eth0]\nlink = \"br0\"\naddresses = [\"10.0.0.2/24\"]\n",
    );
    let lab = lab.up();
    let there = routes(&host, "theirs");
    for wanted in [
        "10.1.0.0/16 via 10.0.0.9 dev eth0 table 100",
        "10.1.0.0/16 via 10.0.0.9 dev eth0 proto static metric 100",
    ] {
        assert!(there.iter().any(|route| route.starts_with(wanted)), "{wanted}: {there:#?}");
    }
    assert!(there.iter().any(|route| route.starts_with("10.1.0.0/16 via 192.0.2.3")), "{there:#?}");
    lab.down();
    assert_eq!(sorted(routes(&host, "theirs")), before);
    host.finish();
}

/// IPv6 routes to one destination: the kernel would remove any of them by the destination alone.
#[test]
fn a_route_beside_another_to_its_destination_goes_alone() {
    let host = Host::new();
    let kept = "{ to = \"fd06::/64\", via = \"fd00::9\", metric = 10 }";
    let with = |routes: &str| {
        let text = format!(
            "[bridge.br0]\n[namespace.h]\nroutes = [{routes}]\n[namespace.h.interface.eth0]\nlink = \"br0\"\n\
             addresses = [\"fd00::2/64\"]\n"
        );
        host.lab("empty").named("beside").and(&text)
    };
    let lab = with(&format!("{kept}, {{ to = \"fd06::/64\", unreachable = true }}")).up();
    assert_eq!(routes(&host, "h").len(), 2);
    let file = with(kept).write();
    let _ = host.vethpath(format!("up {file}")).ok();
    let left = routes(&host, "h");
    assert!(left.len() == 1 && left[0].starts_with("fd06::/64 via fd00::9"), "{left:?}");
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
    lab.down();
    host.finish();
}

#[test]
fn the_connected_route_comes_back_when_one_in_its_place_goes() {
    let host = Host::new();
    let with = |routes: &str| {
        let text = format!(
            "[bridge.br0]\n[namespace.h]\nroutes = [{routes}]\n[namespace.h.interface.eth0]\nlink = \"br0\"\n\
             addresses = [\"10.0.0.2/24\"]\n"
        );
        host.lab("empty").named("connected").and(&text)
    };
    let lab = with("{ to = \"10.0.0.0/24\", dev = \"eth0\", mtu = 1400 }").up();
    let shown = || host.run("ip -n h route show 10.0.0.0/24").ok().stdout;
    assert!(shown().contains("mtu 1400"), "{}", shown());
    let file = with("").write();
    let _ = host.vethpath(format!("up {file}")).ok();
    assert!(shown().starts_with("10.0.0.0/24 dev eth0") && !shown().contains("mtu"), "{}", shown());
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
    lab.down();
    host.finish();
}
