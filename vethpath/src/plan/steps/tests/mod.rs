//! Plans from observed states to files.

mod addressing;
mod machine;

use std::collections::BTreeMap;

use machine::Machine;

use super::*;
use crate::{
    plan::{Accepted, Master, ObservedLink, ObservedRoute},
    topology::{AcceptRule, BridgeOption, Family, Fate, Route, Source, SysctlKey, read},
};

const ONE_HOST: &str = "[bridge.br0]\naddresses = [\"10.0.0.1/24\"]\n[namespace.ns0]\ngateway = \"10.0.0.1\"\n\
    [namespace.ns0.interface.eth0]\nlink = \"br0\"\naddresses = [\"10.0.0.2/24\"]\n";
const ANOTHER: &str = "[namespace.ns1.interface.eth0]\nlink = \"br0\"\naddresses = [\"10.0.0.3/24\"]\n";

fn lab(text: &str) -> Topology {
    let source = Source { path: "lab.toml", text };
    read(source, Some("lab")).unwrap_or_else(|faults| panic!("{}", faults.render(source, false)))
}

fn inside(name: &str) -> Place {
    Place::Namespace(name.parse().expect("a name"))
}

fn changes_of(topology: &Topology, former: &[Topology], observed: &Observed) -> Vec<String> {
    let plan = plan(topology, former, observed).unwrap_or_else(|collisions| panic!("{collisions:?}"));
    plan.changes().map(|change| format!("{} {change}", change.action.sign())).collect()
}

/// The changes that turn a lab with the first file into one with the second.
fn between(before: &str, after: &str) -> Vec<String> {
    let before = lab(before);
    changes_of(&lab(after), std::slice::from_ref(&before), &Machine::with(&before))
}

fn drifted(change: impl FnOnce(&mut BTreeMap<(Place, String), ObservedLink>, &Topology)) -> Vec<String> {
    let lab = lab(ONE_HOST);
    let mut observed = Machine::with(&lab);
    change(&mut observed.links, &lab);
    changes_of(&lab, std::slice::from_ref(&lab), &observed)
}

fn port(lab: &Topology) -> (Place, String) {
    (lab.pairs[0].place.clone(), lab.pairs[0].port.to_string())
}

#[test]
fn from_nothing_things_are_made_before_any_comes_up() {
    let lab = lab(ONE_HOST);
    let port = &lab.pairs[0].port;
    assert_eq!(
        changes_of(&lab, &[], &Observed::default()),
        [
            "+ create namespace ns0",
            "+ create bridge br0",
            "+ create pair ns0:eth0",
            "+ create address 10.0.0.1/24 on host:br0",
            "~ change interface host:br0: down -> up",
            &format!("~ change interface host:{port}: down -> up"),
            "+ create address 10.0.0.2/24 on ns0:eth0",
            "~ change interface ns0:eth0: down -> up",
            "+ create route 0.0.0.0/0 via 10.0.0.1 in ns0",
        ]
    );
}

#[test]
fn a_lab_that_is_as_its_file_says_needs_nothing() {
    for text in [
        ONE_HOST,
        "[bridge.br0]\ntrunks = [\"br1\"]\nstp = true\nageing_time = 10\n[bridge.br1]\nnat = true\n\
         addresses = [\"10.0.0.1/24\"]\ndatapath = \"bridge\"\n[namespace.a]\nsysctls = { \"net.ipv4.ip_forward\" = 1 }\n\
         [namespace.a.interface.eth0]\nlink = \"br0\"\nup = false\n[namespace.a.interface.eth1]\nlink = \"b:eth1\"\n\
         [namespace.b]\n",
    ] {
        assert_eq!(between(text, text), [""; 0]);
    }
}

#[test]
fn a_host_more_and_a_host_less_touch_no_other() {
    let two = ONE_HOST.to_owned() + ANOTHER;
    let port = &lab(&two).pairs[1].port;
    assert_eq!(
        between(ONE_HOST, &two),
        [
            "+ create namespace ns1",
            "+ create pair ns1:eth0",
            &format!("~ change interface host:{port}: down -> up"),
            "+ create address 10.0.0.3/24 on ns1:eth0",
            "~ change interface ns1:eth0: down -> up",
        ]
    );
    assert_eq!(between(&two, ONE_HOST), ["- delete pair ns1:eth0", "- delete namespace ns1"]);
}

#[test]
fn rules_in_dockers_chain_come_last_and_go_first() {
    let (without, with) =
        (lab(ONE_HOST), lab(&ONE_HOST.replace("[bridge.br0]\n", "[bridge.br0]\nnat = true\n")));
    let rules = AcceptRule::both(&with.bridges[0].name, "eth0").to_vec();
    let plan_of = |lab: &Topology, present: &[Option<AcceptRule>], wanted: &[AcceptRule]| {
        let mut observed = Machine::with(lab);
        let (present, wanted) = (present.to_vec(), wanted.to_vec());
        observed.accepted.push(Accepted { place: Place::Host, family: Family::Ipv4, present, wanted });
        plan(lab, std::slice::from_ref(lab), &observed).expect("no name is in use")
    };
    let changes = |plan: &Plan| plan.changes().map(|change| change.to_string()).collect::<Vec<_>>();
    let there: Vec<_> = rules.iter().cloned().map(Some).collect();
    let new = plan_of(&with, &[], &rules);
    let names = [
        "accept-rule -i br0 -o eth0 -j ACCEPT in ip filter DOCKER-USER in host",
        "accept-rule -i eth0 -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT in ip filter DOCKER-USER in host",
    ];
    assert_eq!(changes(&new), names.map(|name| format!("create {name}")));
    assert_eq!((new.raise.len(), new.len()), (1, 1));
    assert!(plan_of(&with, &there, &rules).is_empty());
    assert!(plan_of(&with, &there, &[]).is_empty(), "it may need them again");
    assert_eq!(changes(&plan_of(&with, &there[..1], &rules)), [format!("create {}", names[1])]);
    let gone = plan_of(&without, &there, &[]);
    assert_eq!(changes(&gone), names.map(|name| format!("delete {name}")));
    assert_eq!((gone.clear.len(), gone.len()), (1, 1));
    let mended = "change accept-rules ip filter DOCKER-USER in host: 1 -> 0";
    assert_eq!(changes(&plan_of(&with, &[None], &[])), [mended], "a rule that is not as vethpath writes it");
}

#[test]
fn each_property_changes_by_itself() {
    let bridge = |key: &str| ONE_HOST.replace("[bridge.br0]\n", &format!("[bridge.br0]\n{key}\n"));
    let port = lab(ONE_HOST).pairs[0].port.to_string();
    for (after, expected) in [
        (bridge("ageing_time = 60"), vec!["~ change bridge br0: ageing_time 300 s -> 60 s".to_owned()]),
        (bridge("stp = true"), vec!["~ change bridge br0: stp false -> true".to_owned()]),
        (
            bridge("vlan_filtering = true"),
            vec!["~ change bridge br0: vlan_filtering false -> true".to_owned()],
        ),
        (bridge("nat = true"), vec!["+ create nat vethpath-lab".to_owned()]),
        (bridge("datapath = \"bridge\""), vec![format!("- delete program host:{port}")]),
        (
            bridge("mtu = 9000"),
            vec![
                format!("~ change mtu host:{port}: 1500 -> 9000"),
                "~ change mtu ns0:eth0: 1500 -> 9000".to_owned(),
                "~ change mtu host:br0: 1500 -> 9000".to_owned(),
            ],
        ),
    ] {
        assert_eq!(between(ONE_HOST, &after), expected);
        let back = between(&after, ONE_HOST);
        assert_eq!(between(&after, &after), [""; 0]);
        assert!(!back.is_empty(), "{after}");
    }
}

#[test]
fn an_interface_that_is_to_be_down_is_taken_down() {
    let up = "[bridge.br0]\n[namespace.ns0.interface.eth0]\nlink = \"br0\"\n";
    let down = up.to_owned() + "up = false\n";
    assert_eq!(between(up, &down), ["~ change interface ns0:eth0: up -> down"]);
    assert_eq!(between(&down, up), ["~ change interface ns0:eth0: down -> up"]);
}

#[test]
fn another_gateway_takes_the_place_of_the_first() {
    let after = ONE_HOST.replace("gateway = \"10.0.0.1\"", "gateway = \"10.0.0.9\"");
    assert_eq!(between(ONE_HOST, &after), ["~ change route 0.0.0.0/0 in ns0: via 10.0.0.1 -> 10.0.0.9"]);
    let none = ONE_HOST.replace("gateway = \"10.0.0.1\"\n", "");
    assert_eq!(between(ONE_HOST, &none), ["- delete route 0.0.0.0/0 via 10.0.0.1 in ns0"]);
}

/// The kernel removes an interface's routes with its last address, and a subnet's addresses with the first.
#[test]
fn what_goes_with_an_address_comes_again() {
    let after = ONE_HOST.replace("10.0.0.2/24", "10.0.0.4/24");
    let expected = [
        "- delete address 10.0.0.2/24 on ns0:eth0",
        "+ create address 10.0.0.4/24 on ns0:eth0",
        "+ create route 0.0.0.0/0 via 10.0.0.1 in ns0",
    ];
    assert_eq!(between(ONE_HOST, &after), expected);
    let two = ONE_HOST.replace("\"10.0.0.2/24\"", "\"10.0.0.2/24\", \"10.0.0.4/24\"");
    assert_eq!(between(&two, &after), expected);
}

#[test]
fn what_somebody_else_has_added_stays() {
    let lab = lab(ONE_HOST);
    let mut observed = Machine::with(&lab);
    let eth0 = observed.links.get_mut(&(inside("ns0"), "eth0".to_owned())).expect("there");
    eth0.addresses.push("192.0.2.1/24".parse().expect("an address"));
    let foreign =
        ObservedLink { ifindex: 99, mtu: 1500, bridge: Some("br0".into()), ..ObservedLink::default() };
    observed.links.insert((Place::Host, "tap0".to_owned()), foreign);
    let (to, via) = ("198.51.100.0/24".parse().expect("a net"), "10.0.0.7".parse().expect("an address"));
    let route = ObservedRoute::of(&Route::by(to, via));
    observed.routes.get_mut(&"ns0".parse().expect("a name")).expect("there").push(route);
    assert_eq!(changes_of(&lab, std::slice::from_ref(&lab), &observed), [""; 0]);
}

#[test]
fn settings_change_and_become_what_they_were() {
    let with = |value: u8| {
        let sysctls = format!("[namespace.ns0]\nsysctls = {{ \"net.ipv4.ip_forward\" = {value} }}\n");
        ONE_HOST.replace("[namespace.ns0]\n", &sysctls)
    };
    assert_eq!(between(&with(0), &with(1)), ["~ change sysctl ns0: net.ipv4.ip_forward 0 -> 1"]);
    let before = lab(&with(1));
    let mut observed = Machine::with(&before);
    // Its former value is unknown, so it stays.
    assert_eq!(changes_of(&lab(ONE_HOST), std::slice::from_ref(&before), &observed), [""; 0]);
    observed.sysctls_before.insert((inside("ns0"), SysctlKey::net(&["ipv4", "ip_forward"])), "0".to_owned());
    let expected = ["~ change sysctl ns0: net.ipv4.ip_forward 1 -> 0"];
    assert_eq!(changes_of(&lab(ONE_HOST), &[before], &observed), expected);
}

#[test]
fn settings_of_the_host_are_compared_too() {
    let cable =
        "[namespace.n.interface.e]\nlink = \"host:v\"\n[namespace.host.interface.v]\nlink = \"n:e\"\n";
    let with = |value: u8| format!("{cable}sysctls = {{ \"net.ipv4.conf.v.rp_filter\" = {value} }}\n");
    assert_eq!(between(&with(1), &with(2)), ["~ change sysctl host: net.ipv4.conf.v.rp_filter 1 -> 2"]);
    let ra = cable.to_owned() + "accept_ra = true\n";
    assert_eq!(between(cable, &ra), ["~ change sysctl host: net.ipv6.conf.v.accept_ra 0 -> 2"]);
    let lab = lab(cable);
    let mut observed = Machine::with(&lab);
    let key = (Place::Host, SysctlKey::of_interface("ipv6", "v", "accept_ra"));
    observed.sysctls.insert(key, "1".to_owned());
    let expected = ["~ change sysctl host: net.ipv6.conf.v.accept_ra 1 -> 0"];
    assert_eq!(changes_of(&lab, std::slice::from_ref(&lab), &observed), expected);
}

#[test]
fn duplicate_address_detection_changes_in_a_lab_that_is_up() {
    let dad = "dad = true\n".to_owned() + ONE_HOST;
    let sysctl = |what: &str, values: &str| format!("~ change sysctl {what}.accept_dad {values}");
    let expected = |values| {
        [
            sysctl("ns0: net.ipv6.conf.default", values),
            sysctl("ns0: net.ipv6.conf.eth0", values),
            sysctl("host: net.ipv6.conf.br0", values),
        ]
    };
    assert_eq!(between(ONE_HOST, &dad), expected("0 -> 1"));
    assert_eq!(between(&dad, ONE_HOST), expected("1 -> 0"));
    assert_eq!(between(&dad, &dad), [""; 0]);
}

/// `ip_forward` sets `forwarding` of each interface.
#[test]
fn a_setting_that_is_reset_with_another_is_set_again() {
    let text = ONE_HOST.replace(
        "[namespace.ns0]\n",
        "[namespace.ns0]\nsysctls = { \"net.ipv4.ip_forward\" = 1, \"net.ipv4.conf.eth0.forwarding\" = 0 }\n",
    );
    let lab = lab(&text);
    let mut observed = Machine::with(&lab);
    observed.sysctls.insert((inside("ns0"), SysctlKey::net(&["ipv4", "ip_forward"])), "0".to_owned());
    let former = std::slice::from_ref(&lab);
    assert_eq!(changes_of(&lab, former, &observed), ["~ change sysctl ns0: net.ipv4.ip_forward 0 -> 1"]);
    let plan = plan(&lab, former, &observed).expect("nothing collides");
    let [Step::Sysctl { setting, .. }] = &plan.last[..] else { panic!("{plan:?}") };
    assert_eq!(setting.key.to_string(), "net.ipv4.conf.eth0.forwarding");
}

/// A setting that cannot be read may not exist. `up` writes it once to find out.
#[test]
fn a_setting_that_cannot_be_read_is_written_when_it_is_new() {
    let with = ONE_HOST
        .replace("[namespace.ns0]\n", "[namespace.ns0]\nsysctls = { \"net.ipv4.route.flush\" = 1 }\n");
    let (before, after) = (lab(ONE_HOST), lab(&with));
    let observed = Machine::with(&before);
    let expected = ["~ change sysctl ns0: net.ipv4.route.flush -> 1"];
    assert_eq!(changes_of(&after, std::slice::from_ref(&before), &observed), expected);
    assert_eq!(changes_of(&after, std::slice::from_ref(&after), &observed), [""; 0]);
    // A killed run may not have written it.
    let observed = Observed { is_settled: false, ..observed };
    assert_eq!(changes_of(&after, &[before, after.clone()], &observed), expected);
}

/// A bond sets MAC and MTU of its members and brings them up. The bond's creator moves the addresses to it.
#[test]
fn what_a_bond_has_changed_of_its_member_is_no_drift() {
    let text = ONE_HOST.to_owned();
    let member = |change: fn(&mut ObservedLink), after: &str| {
        let before = lab(&text);
        let mut observed = Machine::with(&before);
        observed.routes.clear();
        observed.subnets.clear();
        let br0 = observed.links[&(Place::Host, "br0".to_owned())].addresses[0].trunc();
        observed.subnets.insert((Place::Host, "br0".to_owned(), br0));
        let eth0 = observed.links.get_mut(&(inside("ns0"), "eth0".to_owned())).expect("there");
        (eth0.master, eth0.mac, eth0.mtu) = (Master::Bond, Some([2; 6]), 9000);
        change(eth0);
        changes_of(&lab(after), &[before], &observed)
    };
    assert_eq!(member(|_| (), &text), [""; 0]);
    assert_eq!(member(|eth0| eth0.addresses.clear(), &text), [""; 0]);
    let down = text.replace("gateway = \"10.0.0.1\"\n", "") + "up = false\n";
    assert_eq!(member(|_| (), &down), [""; 0]);
    assert_eq!(member(|eth0| eth0.up = false, &text), ["~ change interface ns0:eth0: down -> up"]);
    let more = text.replace("\"10.0.0.2/24\"", "\"10.0.0.2/24\", \"10.7.0.1/24\"");
    assert_eq!(member(|_| (), &more), ["+ create address 10.7.0.1/24 on ns0:eth0"]);
}

/// A VRF has the routes in its own table. The gateway could not be reached from the main table.
#[test]
fn the_routes_of_a_vrf_are_not_missing() {
    let before = lab(ONE_HOST);
    let mut observed = Machine::with(&before);
    observed.routes.clear();
    let eth0 = observed.links.get_mut(&(inside("ns0"), "eth0".to_owned())).expect("there");
    (eth0.master, eth0.mac) = (Master::Vrf, Some([2; 6]));
    let expected = format!("~ change mac ns0:eth0: 02:02:02:02:02:02 -> {}", before.pairs[0].inner.mac);
    assert_eq!(changes_of(&before, std::slice::from_ref(&before), &observed), [expected]);
}

/// The name belongs to the namespace's owner, so the lab cannot use it.
#[test]
fn a_name_that_was_adopted_with_its_namespace_is_not_free() {
    let adopting =
        ONE_HOST.replace("[namespace.ns0]\n", "[namespace.ns0]\nadopt = { path = \"/run/netns/ns0\" }\n");
    let former = lab(&adopting);
    let observed = Machine::with(&former);
    let collisions = plan(&lab(ONE_HOST), std::slice::from_ref(&former), &observed).expect_err("a collision");
    assert!(matches!(&collisions[..], [Collision::Namespace { owner: None, .. }]), "{collisions:?}");
    assert_eq!(changes_of(&former, std::slice::from_ref(&former), &observed), [""; 0]);
}

#[test]
fn drift_is_mended() {
    let lab = lab(ONE_HOST);
    let name = port(&lab).1;
    let at = |name: &str| (inside("ns0"), name.to_owned());
    let cases: Vec<(Vec<String>, Vec<String>)> = vec![
        (
            drifted(|links, lab| links.get_mut(&port(lab)).expect("there").bridge = None),
            vec![format!("~ change port host:{name}: bridge none -> br0")],
        ),
        (
            drifted(|links, lab| links.get_mut(&port(lab)).expect("there").up = false),
            vec![format!("~ change interface host:{name}: down -> up")],
        ),
        (
            drifted(|links, _| links.get_mut(&at("eth0")).expect("there").mac = Some([2; 6])),
            vec![format!("~ change mac ns0:eth0: 02:02:02:02:02:02 -> {}", lab.pairs[0].inner.mac)],
        ),
        (
            drifted(|links, _| links.get_mut(&at("eth0")).expect("there").mtu = 1400),
            vec!["~ change mtu ns0:eth0: 1400 -> 1500".to_owned()],
        ),
        (
            drifted(|links, _| links.get_mut(&at("lo")).expect("there").up = false),
            vec!["~ change interface ns0:lo: down -> up".to_owned()],
        ),
        (
            drifted(|links, _| links.get_mut(&at("eth0")).expect("there").marked = false),
            vec!["~ change mark ns0:eth0: -> vethpath:lab ns0:eth0".to_owned()],
        ),
        (
            drifted(|links, _| {
                let br0 = links.get_mut(&(Place::Host, "br0".to_owned())).expect("there");
                br0.options = vec![BridgeOption::AgeingTime(1)];
            }),
            vec!["~ change bridge br0: ageing_time 1 s -> 300 s".to_owned()],
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
    let mut observed = Machine::with(&lab);
    observed.programs.clear();
    let expected = [format!("+ create program host:{name}")];
    assert_eq!(changes_of(&lab, std::slice::from_ref(&lab), &observed), expected);
}

/// The kernel adds it with an address, or when the interface comes up. A step is needed only if neither happens.
#[test]
fn the_route_to_a_subnet_comes_before_those_by_way_of_it() {
    let lab = lab(ONE_HOST);
    let mut observed = Machine::with(&lab);
    observed.subnets.retain(|(place, ..)| *place == Place::Host);
    let _ = observed.routes.remove(&"ns0".parse().expect("a name"));
    let subnet = "+ create route 10.0.0.0/24 dev eth0 in ns0";
    let gateway = "+ create route 0.0.0.0/0 via 10.0.0.1 in ns0";
    assert_eq!(changes_of(&lab, std::slice::from_ref(&lab), &observed), [subnet, gateway]);
    let eth0 = (inside("ns0"), "eth0".to_owned());
    observed.links.get_mut(&eth0).expect("there").up = false;
    let up = "~ change interface ns0:eth0: down -> up";
    assert_eq!(changes_of(&lab, std::slice::from_ref(&lab), &observed), [up, gateway]);
    let link = observed.links.get_mut(&eth0).expect("there");
    (link.up, link.addresses) = (true, Vec::new());
    let address = "+ create address 10.0.0.2/24 on ns0:eth0";
    assert_eq!(changes_of(&lab, std::slice::from_ref(&lab), &observed), [address, gateway]);
}

#[test]
fn what_is_in_a_routes_place_is_changes_of() {
    let lab = lab(ONE_HOST);
    let mut observed = Machine::with(&lab);
    let ns0: NsName = "ns0".parse().expect("a name");
    let _ = observed.routes.remove(&ns0);
    let to = "0.0.0.0/0".parse().expect("a net");
    let blackhole = Route { fate: Fate::Blackhole, ..Route::to(to) };
    let _ = observed.routes.insert(ns0, vec![ObservedRoute::of(&blackhole)]);
    let expected = ["~ change route 0.0.0.0/0 in ns0: blackhole -> via 10.0.0.1"];
    assert_eq!(changes_of(&lab, std::slice::from_ref(&lab), &observed), expected);
}

#[test]
fn a_bridge_that_was_deleted_gets_its_ports_again() {
    let changes = drifted(|links, lab| {
        let _ = links.remove(&(Place::Host, "br0".to_owned()));
        links.get_mut(&port(lab)).expect("there").bridge = None;
    });
    let name = port(&lab(ONE_HOST)).1;
    assert_eq!(
        changes,
        [
            "+ create bridge br0",
            &format!("~ change port host:{name}: bridge none -> br0"),
            "+ create address 10.0.0.1/24 on host:br0",
            "~ change interface host:br0: down -> up",
        ]
    );
}

/// A port whose other end was moved elsewhere is useless.
#[test]
fn half_a_pair_is_made_anew() {
    let changes = drifted(|links, _| {
        let _ = links.remove(&(inside("ns0"), "eth0".to_owned()));
    });
    assert_eq!(changes[..2], ["- delete pair ns0:eth0", "+ create pair ns0:eth0"]);
    assert_eq!(changes.last().map(String::as_str), Some("+ create route 0.0.0.0/0 via 10.0.0.1 in ns0"));
}

#[test]
fn a_pair_moves_to_another_bridge_without_being_made_anew() {
    let two = "[bridge.br1]\n".to_owned() + ONE_HOST;
    let moved = two.replace("link = \"br0\"", "link = \"br1\"");
    let name = lab(ONE_HOST).pairs[0].port.to_string();
    assert_eq!(between(&two, &moved), [format!("~ change port host:{name}: bridge br0 -> br1")]);
}

#[test]
fn a_namespace_that_is_adopted_from_now_on_is_another() {
    let after = ONE_HOST.replace("[namespace.ns0]\n", "[namespace.ns0]\nadopt = { pid = 4242 }\n");
    let changes = between(ONE_HOST, &after);
    let expected = ["- delete pair ns0:eth0", "- delete namespace ns0", "+ create namespace ns0"];
    assert_eq!(changes[..3], expected);
    assert!(changes.contains(&"+ create pair ns0:eth0".to_owned()), "{changes:#?}");
}

#[test]
fn what_two_killed_runs_have_left_goes_too() {
    let labs = [ONE_HOST, &(ONE_HOST.to_owned() + ANOTHER)].map(lab);
    let mut observed = Machine::with(&labs[1]);
    observed.programs.clear();
    let empty = lab("[bridge.br9]\n");
    let changes = changes_of(&empty, &labs, &observed);
    let expected = [
        "- delete bridge br0",
        "- delete pair ns0:eth0",
        "- delete pair ns1:eth0",
        "- delete namespace ns0",
        "- delete namespace ns1",
    ];
    let mut deleted: Vec<_> = changes.iter().filter(|change| change.starts_with('-')).collect();
    deleted.sort_by_key(|change| change.contains("namespace"));
    let mut sorted: Vec<&String> = deleted.clone();
    sorted.sort();
    let mut wanted = expected.map(str::to_owned).to_vec();
    wanted.sort();
    assert_eq!(sorted, wanted.iter().collect::<Vec<_>>());
}

#[test]
fn all_that_is_not_ours_is_named() {
    let lab = lab(ONE_HOST);
    let mut observed = Machine::with(&lab);
    let other = "other".parse().ok();
    observed.namespaces.insert("ns0".parse().expect("a name"), Found::Foreign(other.clone()));
    let br0 = observed.links.get_mut(&(Place::Host, "br0".to_owned())).expect("there");
    (br0.ours, br0.owner) = (false, other);
    let collisions = plan(&lab, &[], &observed).expect_err("collisions");
    assert_eq!(collisions.len(), 2, "{collisions:?}");
    assert!(
        collisions.iter().all(|collision| collision.to_string().contains("lab `other`'s")),
        "{collisions:?}"
    );
}

#[test]
fn a_loopback_that_is_somebody_elses_is_left_down() {
    let lab = lab(&ONE_HOST.replace("[namespace.ns0]\n", "[namespace.ns0]\nadopt = { pid = 4242 }\n"));
    let mut observed = Machine::with(&lab);
    observed.links.get_mut(&(inside("ns0"), "lo".to_owned())).expect("there").up = false;
    assert_eq!(changes_of(&lab, std::slice::from_ref(&lab), &observed), [""; 0]);
}

#[test]
fn a_taken_port_name_is_not_called_one_of_the_files() {
    let lab = lab(ONE_HOST);
    let mut observed = Machine::with(&lab);
    observed.links.get_mut(&port(&lab)).expect("there").ours = false;
    let collisions = plan(&lab, &[], &observed).expect_err("a collision");
    assert!(matches!(&collisions[..], [one] if !one.is_in_the_file()), "{collisions:?}");
    assert!(collisions[0].to_string().contains("the port of pair ns0:eth0"), "{}", collisions[0]);
}

const FABRIC: &str = "fabric = true\n[bridge.br0]\naddresses = [\"10.0.0.1/24\"]\n";

#[test]
fn a_fabric_is_made_with_its_uplink_and_routes() {
    let lab = lab(FABRIC);
    let uplink = lab.uplink().expect("it has one").clone();
    let own = lab.cables[0].a.interface.addresses[1];
    assert_eq!(
        changes_of(&lab, &[], &Observed::default()),
        [
            "+ create namespace lab-fabric".to_owned(),
            "+ create bridge br0".to_owned(),
            format!("+ create cable host:{uplink} - lab-fabric:uplink"),
            "~ change sysctl host".to_owned(),
            "~ change sysctl lab-fabric".to_owned(),
            "+ create address 10.0.0.1/24 on lab-fabric:br0".to_owned(),
            "~ change interface lab-fabric:br0: down -> up".to_owned(),
            format!("+ create address fe80::2/64 on host:{uplink}"),
            format!("+ create address {own} on host:{uplink}"),
            format!("~ change interface host:{uplink}: down -> up"),
            "+ create address fe80::1/64 on lab-fabric:uplink".to_owned(),
            "~ change interface lab-fabric:uplink: down -> up".to_owned(),
            format!("+ create route 10.0.0.0/24 via fe80::1 dev {uplink} in host"),
            "+ create route 0.0.0.0/0 via fe80::2 dev uplink in lab-fabric".to_owned(),
        ]
    );
    assert_eq!(between(FABRIC, FABRIC), [""; 0]);
}

#[test]
fn routes_by_the_uplink_follow_the_subnets() {
    let lab = lab(FABRIC);
    let uplink = lab.uplink().expect("it has one");
    let more = FABRIC.to_owned() + "[bridge.br1]\naddresses = [\"10.1.0.1/24\"]\n";
    let route = |sign: &str, to: &str| format!("{sign} route {to} via fe80::1 dev {uplink} in host");
    let has = |changes: &[String], line: &str| changes.iter().any(|change| change == line);
    let routes = |changes: &[String]| changes.iter().filter(|change| change.contains(" route ")).count();
    let changes = between(FABRIC, &more);
    assert!(has(&changes, &route("+ create", "10.1.0.0/24")) && routes(&changes) == 1, "{changes:?}");
    let closed = more.clone() + "host = false\n";
    assert_eq!(between(&more, &closed), [route("- delete", "10.1.0.0/24")]);
    // With the uplink go its routes.
    let changes = between(FABRIC, &FABRIC.replace("fabric = true\n", ""));
    assert!(routes(&changes) == 0 && changes.iter().any(|c| c.starts_with("- delete cable")), "{changes:?}");
}

#[test]
fn a_subnet_that_the_machine_has_is_a_collision_until_the_lab_has_the_route() {
    let lab = lab(FABRIC);
    let routed = |to: &str| Routed { to: to.parse().unwrap(), hop: "dev vpn0".to_owned(), owner: None };
    let empty = Observed { routed: vec![routed("10.0.0.0/8")], ..Observed::default() };
    let collisions = plan(&lab, &[], &empty).unwrap_err();
    let [collision] = &collisions[..] else { panic!("{collisions:?}") };
    assert_eq!(
        collision.to_string(),
        "the machine routes 10.0.0.0/8 already (dev vpn0), which overlaps with 10.0.0.0/24 of bridge `br0`"
    );
    let up = Observed { routed: vec![routed("10.0.0.0/8")], ..Machine::with(&lab) };
    assert!(plan(&lab, std::slice::from_ref(&lab), &up).is_ok_and(|plan| plan.is_empty()));
}
