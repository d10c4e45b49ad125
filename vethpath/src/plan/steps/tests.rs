//! Plans for a bridge with one host.

use super::*;
use crate::{
    plan::ObservedLink,
    topology::{Datapath, IfName, Mac},
};

fn name<T: std::str::FromStr<Err: fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a valid name")
}

fn interface(name: IfName) -> Interface {
    let mac = Mac::unicast([2, 0, 0, 0, 0, 1]).expect("unicast");
    let addresses = vec!["10.0.0.2/24".parse().expect("an address")];
    Interface { name, mac, mtu: None, addresses, sysctls: Vec::new(), up: true }
}

fn topology() -> Topology {
    let bridge = Bridge {
        name: name("br0"),
        place: Place::Host,
        addresses: vec!["10.0.0.1/24".parse().expect("an address")],
        mac: Mac::unicast([2, 0, 0, 0, 0, 9]).expect("unicast"),
        mtu: None,
        nat: false,
        stp: false,
        ageing_time: None,
        vlan_filtering: false,
        datapath: Datapath::Tc,
    };
    let pair = Pair {
        namespace: name("ns0"),
        inner: interface(name("eth0")),
        bridge: name("br0"),
        place: Place::Host,
        port: name("vpaaaaaaaaaa"),
        port_mac: Mac::unicast([2, 0, 0, 0, 0, 8]).expect("unicast"),
        datapath: Datapath::Tc,
    };
    let route =
        Route { to: "0.0.0.0/0".parse().expect("a prefix"), via: "10.0.0.1".parse().expect("an address") };
    let namespace = Namespace { name: name("ns0"), adopt: None, routes: vec![route], sysctls: Vec::new() };
    Topology {
        lab: name("lab"),
        namespaces: vec![namespace],
        bridges: vec![bridge],
        pairs: vec![pair],
        cables: Vec::new(),
        trunks: Vec::new(),
    }
}

/// The state in which the plan is empty.
fn complete() -> Observed {
    let topology = topology();
    let link = |addresses: &[IpNet]| ObservedLink {
        ours: true,
        up: true,
        bridge: None,
        addresses: addresses.to_vec(),
    };
    let inside = Place::Namespace(name("ns0"));
    Observed {
        namespaces: [(name("ns0"), Found::Ours)].into(),
        links: [
            ((Place::Host, "br0".to_owned()), link(&topology.bridges[0].addresses)),
            ((Place::Host, "vpaaaaaaaaaa".to_owned()), link(&[])),
            ((inside, "eth0".to_owned()), link(&topology.pairs[0].inner.addresses)),
        ]
        .into(),
        masquerading: [].into(),
        routes: [(name("ns0"), topology.namespaces[0].routes.clone())].into(),
    }
}

fn changes(observed: &Observed) -> Vec<String> {
    let plan = plan(&topology(), observed).expect("no collision");
    plan.steps().map(|step| step.change().to_string()).collect()
}

#[test]
fn from_nothing_things_are_made_before_any_comes_up() {
    assert_eq!(
        changes(&Observed::default()),
        [
            "create namespace ns0",
            "create bridge br0",
            "create pair ns0:eth0",
            "create address 10.0.0.1/24 on host:br0",
            "change interface host:br0",
            "change interface host:vpaaaaaaaaaa",
            "create address 10.0.0.2/24 on ns0:eth0",
            "change interface ns0:eth0",
            "create route 0.0.0.0/0 via 10.0.0.1 in ns0",
        ]
    );
}

#[test]
fn a_lab_that_is_as_the_file_says_needs_nothing() {
    assert_eq!(changes(&complete()), [""; 0]);
}

#[test]
fn only_what_is_missing_is_done() {
    let mut observed = complete();
    observed.routes.clear();
    observed.links.get_mut(&(Place::Host, "br0".to_owned())).expect("there").up = false;
    assert_eq!(
        changes(&observed),
        ["change interface host:br0", "create route 0.0.0.0/0 via 10.0.0.1 in ns0"]
    );
}

#[test]
fn all_that_is_not_ours_is_named() {
    let mut observed = complete();
    observed.namespaces.insert(name("ns0"), Found::Foreign);
    observed.links.get_mut(&(Place::Host, "br0".to_owned())).expect("there").ours = false;
    let collisions = plan(&topology(), &observed).expect_err("collisions");
    assert_eq!(collisions.len(), 2, "{collisions:?}");
}
