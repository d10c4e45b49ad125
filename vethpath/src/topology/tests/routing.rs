//! Routes, rules, loopbacks, permanent neighbours and offload sizes.

use super::{bad, faults::check, good, show};
use crate::topology::{Fate, OffloadSizes, expand};

/// A lab with something under the namespace `ns0`, whose table is in line 2.
fn with(more: &str) -> String {
    format!(
        "[bridge.br0]\n[namespace.ns0]\n{more}\n[namespace.ns0.interface.eth0]\nlink = 'br0'\n\
         addresses = ['10.0.0.2/24', 'fd00::2/64']\n[namespace.ns0.interface.down]\nlink = 'br0'\nup = false\n"
    )
}

#[test]
fn faults_of_routes() {
    for (route, fault, hint) in [
        (
            "via = 'fe80::1'",
            "3:39 `fe80::1` is link-local, the same on every link, and the route has no `dev`",
            "dev = ",
        ),
        ("via = '10.0.0.9', dev = 'eth1'", "3:57 `ns0` has no interface `eth1`", "did you mean `eth0`?"),
        ("dev = 'down'", "3:39 a route by `down`, which is down", "up = false"),
        (
            "via = '10.9.9.9', dev = 'eth0'",
            "3:39 `eth0` of `ns0` is not in the subnet of its gateway 10.9.9.9",
            "onlink = true",
        ),
        (
            "via = '10.0.0.9', onlink = true",
            "3:60 `onlink` says that a gateway is on the link of an interface",
            "both",
        ),
        ("onlink = true", "3:11 a route with `onlink`, and without `via`", "`dev`"),
        ("via = '10.0.0.9', blackhole = true", "3:11 a route with both `via` and `blackhole`", "keep one"),
        (
            "blackhole = true, unreachable = true",
            "3:11 a route with both `blackhole` and `unreachable`",
            "keep one",
        ),
        ("blackhole = true, mtu = 1400", "3:11 `mtu` of a route that is `blackhole`", "leave it out"),
        (
            "nexthops = [{ via = '10.0.0.9' }]",
            "3:44 `nexthops` are the several ways of a route",
            "at least two",
        ),
        ("nexthops = [{ dev = 'eth0' }, { via = '10.0.0.9' }]", "3:45 a next hop without `via`", "gateway"),
        (
            "nexthops = [{ via = '10.0.0.9' }, { via = '10.0.0.9' }]",
            "3:67 the same next hop twice",
            "a `weight`",
        ),
        (
            "via = '10.0.0.9', src = '10.0.0.3'",
            "3:57 `ns0` does not have the address 10.0.0.3",
            "one of its addresses",
        ),
        (
            "via = '10.0.0.9', src = 'fd00::2'",
            "3:57 packets to 10.8.0.0/16 cannot have the source address fd00::2",
            "family",
        ),
        ("via = '10.0.0.9', metrik = 3", "3:51 `metrik` is not a key of a route", "did you mean `metric`?"),
        ("via = '10.0.0.9', table = 0", "3:59 `table` cannot be 0", "from 1"),
    ] {
        let text = with(&format!("routes = [{{ to = '10.8.0.0/16', {route} }}]"));
        check(&[(&text, fault, hint)]);
    }
    let default = with("routes = [{ to = 'default', blackhole = true }]");
    check(&[(&default, "3:18 a default route without a gateway is of either family", "0.0.0.0/0")]);
    let twice = with(
        "routes = [{ to = '10.8.0.0/16', via = '10.0.0.9', metric = 5 }, { to = '10.8.0.0/16', dev = 'eth0', metric = 5 }]",
    );
    check(&[(&twice, "3:72 a second route to 10.8.0.0/16", "`metric`s")]);
    let adopted = with("adopt = { pid = 1 }\nroutes = [{ to = '10.8.0.0/16', unreachable = true }]");
    check(&[(
        &adopted,
        "4:18 a route that is `unreachable` would stay in an adopted namespace after `down`",
        "where",
    )]);
    let dad = with("routes = [{ to = 'fd08::/64', dev = 'eth0', src = 'fd00::2' }]")
        .replace("link = 'br0'\naddresses", "link = 'br0'\ndad = true\naddresses");
    check(&[(&dad, "3:51 fd00::2 is checked for duplicates when the route is added", "dad = false")]);
}

#[test]
fn routes_without_a_gateway_come_first_and_the_kernels_values_are_no_others() {
    let lab = good(&with(
        "routes = [{ to = 'default', via = '10.7.0.1' }, { to = 'fd09::/64', via = 'fd00::9', metric = 1024, table = 254 }, \
         { to = '10.7.0.0/24', dev = 'eth0' }, { to = '10.6.0.0/16', blackhole = true, unreachable = false }]",
    ));
    let routes: Vec<String> = lab.namespaces[0].routes.iter().map(ToString::to_string).collect();
    assert_eq!(
        routes,
        [
            "10.7.0.0/24 dev eth0",
            "10.6.0.0/16 blackhole",
            // Its gateway is reached by the first one.
            "0.0.0.0/0 via 10.7.0.1",
            "fd09::/64 via fd00::9",
        ]
    );
    assert_eq!(lab.namespaces[0].routes[1].fate, Fate::Blackhole);
}

#[test]
fn faults_of_rules_neighbours_and_loopbacks() {
    let rule = |keys: &str| with(&format!("[[namespace.ns0.rule]]\n{keys}"));
    let eth0 = |keys: &str| with("").replace("'fd00::2/64']\n", &format!("'fd00::2/64']\n{keys}\n"));
    for (text, fault, hint) in [
        (rule("table = 7"), "3:1 a rule without `priority`", "priority = 100"),
        (rule("priority = 32766\ntable = 7"), "4:12 `priority` cannot be 32766", "to 32765"),
        (
            rule("priority = 1\ntable = 7\niif = 'eth1'"),
            "6:7 `ns0` has no interface `eth1`",
            "did you mean `eth0`?",
        ),
        (
            rule("priority = 1\ntable = 7\nfrom = '10.0.0.0/8'\nto = 'fd00::/8'"),
            "7:6 no packet is from 10.0.0.0/8 and to fd00::/8",
            "both in IPv4",
        ),
        (rule("priority = 1\ntable = 7\nfwmask = 1"), "6:10 `fwmask` is about a `fwmark`", "write both"),
        (
            rule("priority = 1\ntable = 7\n[[namespace.ns0.rule]]\npriority = 1\ntable = 7"),
            "6:1 a second rule 1: from all lookup 7",
            "keep one",
        ),
        (
            with("adopt = { pid = 1 }\n[[namespace.ns0.rule]]\npriority = 1\ntable = 7"),
            "2:12 rules of an adopted namespace would stay after `down`",
            "leave `rule` out",
        ),
        (eth0("neighbours = [{ address = '10.0.0.9' }]"), "7:15 a neighbour without `mac`", "both"),
        (
            eth0("neighbours = [{ address = '10.0.0.9', mac = '01:00:00:00:00:01' }]"),
            "7:45 `01:00:00:00:00:01` cannot be the address of an interface: it is a group address",
            "unicast",
        ),
        (
            with("[namespace.ns0.interface.lo]\naddresses = ['10.0.0.2/32']"),
            "7:14 address 10.0.0.2 is used twice",
            "of its own",
        ),
        (
            with("[namespace.ns0.interface.lo]\nmtu = 1500"),
            "4:1 `mtu` is not a key of the loopback",
            "addresses",
        ),
        (eth0("gso_max_size = 1"), "7:16 `gso_max_size` cannot be 1 bytes", "from 1024 to 524280"),
    ] {
        check(&[(&text, fault, hint)]);
    }
    let other = "[namespace.host.interface.lo]\naddresses = ['10.0.0.2/32']\n";
    let faults = bad(other);
    assert!(show(&faults, other).contains("the loopback of the host is left as it is"));
}

#[test]
fn offload_sizes_of_a_bridge_are_those_of_its_interfaces_and_the_lesser_those_of_a_trunk() {
    let lab = good(
        "[bridge.br0]\ngso_max_size = 100000\ngro_max_size = 70000\ntrunks = ['br1']\n[bridge.br1]\ngso_max_size = 90000\n\
         [namespace.a.interface.e]\nlink = 'br0'\ngso_max_size = 80000\n\
         [namespace.b.interface.e]\nlink = 'c:e'\ngso_ipv4_max_size = 80000\n[namespace.c]\n",
    );
    let sizes = |gso, gso_ipv4, gro| OffloadSizes { gso, gso_ipv4, gro };
    assert_eq!(lab.pairs[0].inner.sizes, sizes(Some(80_000), None, Some(70_000)));
    assert_eq!(lab.cables[0].b.interface.sizes, sizes(None, Some(80_000), None));
    assert_eq!(lab.trunks[0].sizes(&lab), sizes(Some(90_000), None, None));
}

#[test]
fn an_expanded_lab_has_all_of_it() {
    let lab = good(
        "[bridge.br0]\ngro_max_size = 70000\n[namespace.ns0]\n\
         routes = [{ to = '10.1.0.0/16', nexthops = [{ via = '10.0.0.8' }, { via = 'fe80::9', dev = 'eth0', weight = 2 }] }, \
         { to = '10.4.0.0/16', via = '192.0.2.1', dev = 'eth0', onlink = true, metric = 7, table = 100, mtu = 1400, src = '10.255.0.1' }, \
         { to = 'fd06::/64', unreachable = true }]\n\
         [[namespace.ns0.rule]]\npriority = 1\ntable = 7\niif = 'lo'\nfwmark = 0x10\nfwmask = 0xf0\nto = '10.1.0.0/16'\n\
         [namespace.ns0.interface.lo]\naddresses = ['10.255.0.1/32']\n\
         [namespace.ns0.interface.eth0]\nlink = 'br0'\naddresses = ['10.0.0.2/24']\nautoconf = false\ngso_max_size = 66000\n\
         neighbours = [{ address = '10.0.0.8', mac = '02:00:00:00:00:08' }]\n",
    );
    let written = expand(&lab).to_string();
    assert_eq!(good(&written), lab, "{written}");
}
