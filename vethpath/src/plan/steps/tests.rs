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
        mtu: 1500,
        addresses: addresses.to_vec(),
    };
    let port = ObservedLink { bridge: Some("br0".to_owned()), ..link(&[]) };
    let inside = Place::Namespace(name("ns0"));
    Observed {
        namespaces: [(name("ns0"), Found::Ours)].into(),
        links: [
            ((Place::Host, "br0".to_owned()), link(&topology.bridges[0].addresses)),
            ((Place::Host, "vpaaaaaaaaaa".to_owned()), port),
            ((inside.clone(), "lo".to_owned()), ObservedLink { ours: false, ..link(&[]) }),
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

#[test]
fn a_port_that_is_not_on_its_bridge_is_put_there() {
    for bridge in [None, Some("br1".to_owned())] {
        let mut observed = complete();
        observed.links.get_mut(&(Place::Host, "vpaaaaaaaaaa".to_owned())).expect("there").bridge = bridge;
        assert_eq!(changes(&observed), ["change port host:vpaaaaaaaaaa"]);
    }
}

#[test]
fn a_bridge_that_was_deleted_gets_its_ports_again() {
    let mut observed = complete();
    let _ = observed.links.remove(&(Place::Host, "br0".to_owned()));
    observed.links.get_mut(&(Place::Host, "vpaaaaaaaaaa".to_owned())).expect("there").bridge = None;
    assert_eq!(
        changes(&observed),
        [
            "create bridge br0",
            "change port host:vpaaaaaaaaaa",
            "create address 10.0.0.1/24 on host:br0",
            "change interface host:br0",
        ]
    );
}

#[test]
fn an_mtu_is_compared_where_the_file_states_one() {
    let mut topology = topology();
    assert_eq!(plan(&topology, &complete()).map(|plan| plan.steps().count()), Ok(0));
    topology.bridges[0].mtu = Some(9000);
    topology.pairs[0].inner.mtu = Some(9000);
    let plan = plan(&topology, &complete()).expect("no collision");
    let changes: Vec<_> = plan.steps().map(|step| step.change().to_string()).collect();
    assert_eq!(changes, ["change mtu host:br0", "change mtu host:vpaaaaaaaaaa", "change mtu ns0:eth0"]);
}

#[test]
fn a_loopback_that_is_down_is_brought_up_unless_it_is_somebody_elses() {
    let mut observed = complete();
    observed.links.get_mut(&(Place::Namespace(name("ns0")), "lo".to_owned())).expect("there").up = false;
    assert_eq!(changes(&observed), ["change interface ns0:lo"]);
    let mut topology = topology();
    topology.namespaces[0].adopt = Some("/proc/1/ns/net".to_owned());
    assert_eq!(plan(&topology, &observed).map(|plan| plan.steps().count()), Ok(0));
}

#[test]
fn a_taken_port_name_is_not_called_one_of_the_files() {
    let mut observed = complete();
    observed.links.get_mut(&(Place::Host, "vpaaaaaaaaaa".to_owned())).expect("there").ours = false;
    let collisions = plan(&topology(), &observed).expect_err("a collision");
    assert!(matches!(&collisions[..], [one] if !one.is_in_the_file()), "{collisions:?}");
    assert!(collisions[0].to_string().contains("the port of pair ns0:eth0"), "{}", collisions[0]);
}
