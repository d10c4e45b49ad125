//! Loopbacks, routes of each kind, rules, permanent neighbours and offload sizes.

use super::*;
use crate::topology::{Neighbour, OffloadSizes};

const LAB: &str = "[bridge.br0]\ngso_max_size = 100000\n[namespace.h]\n\
    routes = [{ to = \"10.1.0.0/16\", via = \"10.0.0.9\", metric = 5 }, { to = \"10.1.0.0/16\", via = \"10.0.0.8\" }, \
    { to = \"10.2.0.0/16\", nexthops = [{ via = \"10.0.0.8\" }, { via = \"10.0.0.9\", weight = 2 }] }, \
    { to = \"10.3.0.0/16\", via = \"10.0.0.9\", src = \"10.255.0.1\" }]\n\
    [[namespace.h.rule]]\npriority = 1\ntable = 7\n\
    [namespace.h.interface.lo]\naddresses = [\"10.255.0.1/32\"]\n\
    [namespace.h.interface.eth0]\nlink = \"br0\"\naddresses = [\"10.0.0.2/24\"]\n\
    neighbours = [{ address = \"10.0.0.9\", mac = \"02:00:00:00:00:09\" }]\n";

#[test]
fn a_lab_with_all_of_it_needs_nothing_and_loses_it_with_the_file() {
    assert_eq!(between(LAB, LAB), [""; 0]);
    let without = "[bridge.br0]\n[namespace.h.interface.eth0]\nlink = \"br0\"\naddresses = [\"10.0.0.2/24\"]\n[namespace.h]\n";
    let port = &lab(LAB).pairs[0].port;
    let usual = "gso_max_size 100000 -> gso_max_size 65536";
    assert_eq!(
        between(LAB, without),
        [
            "- delete address 10.255.0.1/32 on h:lo",
            &format!("~ change offload-sizes host:br0: {usual}"),
            &format!("~ change offload-sizes host:{port}: {usual}"),
            &format!("~ change offload-sizes h:eth0: {usual}"),
            "- delete neighbour 10.0.0.9 lladdr 02:00:00:00:00:09 on h:eth0",
            "- delete route 10.1.0.0/16 via 10.0.0.9 metric 5 in h",
            "- delete route 10.1.0.0/16 via 10.0.0.8 in h",
            "- delete route 10.2.0.0/16 nexthop via 10.0.0.8 weight 1 nexthop via 10.0.0.9 weight 2 in h",
            "- delete route 10.3.0.0/16 via 10.0.0.9 src 10.255.0.1 in h",
            "- delete rule IPv4 1: from all lookup 7 in h",
            "- delete rule IPv6 1: from all lookup 7 in h",
        ]
    );
}

#[test]
fn each_is_put_back() {
    let lab = lab(LAB);
    let name: NsName = "h".parse().expect("a name");
    let after = |change: &dyn Fn(&mut Observed)| {
        let mut observed = Machine::with(&lab);
        change(&mut observed);
        changes_of(&lab, std::slice::from_ref(&lab), &observed)
    };
    let eth0 = (inside("h"), "eth0".to_owned());
    assert_eq!(
        after(&|observed| observed
            .routes
            .get_mut(&name)
            .expect("there")
            .retain(|route| route.key.metric != 5)),
        ["+ create route 10.1.0.0/16 via 10.0.0.9 metric 5 in h"]
    );
    assert_eq!(
        after(&|observed| {
            let routes = observed.routes.get_mut(&name).expect("there");
            routes.iter_mut().for_each(|route| route.mtu = (route.hops.len() == 2).then_some(1400));
        }),
        [
            "~ change route 10.2.0.0/16 in h: nexthop via 10.0.0.8 weight 1 nexthop via 10.0.0.9 weight 2 mtu 1400 -> \
          nexthop via 10.0.0.8 weight 1 nexthop via 10.0.0.9 weight 2"
        ]
    );
    assert_eq!(
        after(&|observed| observed.rules.clear()),
        ["+ create rule IPv4 1: from all lookup 7 in h", "+ create rule IPv6 1: from all lookup 7 in h"]
    );
    // The address on the loopback comes before the route that needs it. The kernel has removed that one.
    assert_eq!(
        after(&|observed| {
            let lo = observed.links.get_mut(&(inside("h"), "lo".to_owned())).expect("there");
            lo.addresses.clear();
            observed.routes.get_mut(&name).expect("there").retain(|route| route.src.is_none());
        }),
        [
            "+ create address 10.255.0.1/32 on h:lo",
            "+ create route 10.3.0.0/16 via 10.0.0.9 src 10.255.0.1 in h"
        ]
    );
    let other =
        Neighbour { mac: "02:00:00:00:00:08".parse().expect("a MAC"), ..lab.pairs[0].inner.neighbours[0] };
    assert_eq!(
        after(&|observed| observed.links.get_mut(&eth0).expect("there").neighbours = vec![other]),
        ["~ change neighbour 10.0.0.9 on h:eth0: 02:00:00:00:00:08 -> 02:00:00:00:00:09"]
    );
    // The kernel removes the neighbours of an interface whose MAC changes.
    let mac = after(&|observed| observed.links.get_mut(&eth0).expect("there").mac = Some([2, 0, 0, 0, 0, 7]));
    assert!(mac.iter().any(|change| change.starts_with("+ create neighbour 10.0.0.9")), "{mac:?}");
    assert_eq!(
        after(&|observed| {
            observed.links.get_mut(&eth0).expect("there").sizes =
                OffloadSizes { gso: Some(65_536), gso_ipv4: Some(65_536), gro: Some(65_536) };
        }),
        ["~ change offload-sizes h:eth0: gso_max_size 65536 -> gso_max_size 100000"]
    );
}

#[test]
fn a_size_of_ipv4_is_set_again_with_that_of_ipv6() {
    let both = LAB.replace("gso_max_size = 100000\n", "gso_max_size = 60000\ngso_ipv4_max_size = 50000\n");
    let lab = lab(&both);
    assert_eq!(changes_of(&lab, std::slice::from_ref(&lab), &Machine::with(&lab)), [""; 0]);
    let mut observed = Machine::with(&lab);
    let key = (Place::Host, "br0".to_owned());
    observed.links.get_mut(&key).expect("there").sizes.gso = Some(65_536);
    assert_eq!(
        changes_of(&lab, std::slice::from_ref(&lab), &observed),
        [
            "~ change offload-sizes host:br0: gso_max_size 65536, gso_ipv4_max_size 50000 -> gso_max_size 60000, \
          gso_ipv4_max_size 50000"
        ]
    );
}
