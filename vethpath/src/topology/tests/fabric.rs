//! `fabric = true`.

use super::{
    super::{Masquerade, NsName, Overrides, Place, check_with, expand},
    Source, Topology, bad, good, show, warnings,
};

const LAB: &str = "fabric = true\n[bridge.br0]\naddresses = ['10.0.0.1/24', 'fd00::1/64', 'fe80::7/64']\nnat = true\n\
    [bridge.br1]\naddresses = ['10.1.0.1/24']\nhost = false\nmtu = 9000\n\
    [bridge.br2]\nnamespace = 'n'\naddresses = ['10.2.0.1/24']\n\
    [namespace.n.interface.eth0]\nlink = 'br0'\naddresses = ['10.0.0.2/24']\n\
    [namespace.n]\ngateway = '10.0.0.1'\n";

fn fabric() -> Place {
    Place::Namespace("lab-fabric".parse::<NsName>().unwrap())
}

fn routes(lab: &Topology) -> Vec<String> {
    lab.uplink_routes.iter().map(|r| format!("{} {} {} {}", r.place, r.device, r.to, r.via)).collect()
}

#[test]
fn bridges_without_a_namespace_live_in_that_of_the_fabric() {
    let lab = good(LAB);
    let places: Vec<_> = lab.bridges.iter().map(|bridge| bridge.place.to_string()).collect();
    assert_eq!(places, ["lab-fabric", "lab-fabric", "n"]);
    assert_eq!(lab.pairs[0].place, fabric());
    let [.., namespace] = &lab.namespaces[..] else { panic!("there is one") };
    let sysctls: Vec<_> = namespace.sysctls.iter().map(|s| format!("{} {}", s.key, s.value)).collect();
    assert_eq!(sysctls, ["net.ipv4.ip_forward 1", "net.ipv6.conf.all.forwarding 1"]);
    let [cable] = &lab.cables[..] else { panic!("the uplink alone") };
    assert!(lab.is_uplink(cable) && cable.a.interface.mtu == Some(9000));
    let outside = cable.a.interface.name.as_str();
    assert_eq!((cable.b.place.clone(), cable.b.interface.name.as_str()), (fabric(), "uplink"));
    assert!(outside.starts_with("vp") && outside.len() <= 15);
    // Link-local next hops; the machine's own addresses have no subnet.
    let own: Vec<_> = cable.a.interface.addresses.iter().map(|net| net.prefix_len()).collect();
    assert_eq!(own, [64, 32, 128]);
    assert_eq!(cable.b.interface.addresses.len(), 1);
    let expected = [
        format!("host {outside} 10.0.0.0/24 fe80::1"),
        format!("host {outside} fd00::/64 fe80::1"),
        "lab-fabric uplink 0.0.0.0/0 fe80::2".to_owned(),
        "lab-fabric uplink ::/0 fe80::2".to_owned(),
    ];
    assert_eq!(routes(&lab), expected);
}

#[test]
fn the_machine_masquerades_for_the_fabric() {
    let lab = good(&LAB.replace("namespace = 'n'\n", "namespace = 'host'\nnat = true\n"));
    let [nat] = &Masquerade::of(&lab)[..] else { panic!("one table") };
    assert!(nat.place == Place::Host && nat.is_shared);
    let rules: Vec<_> = nat.rules.iter().map(|rule| format!("{} {}", rule.subnet, rule.device)).collect();
    let uplink = lab.uplink().unwrap();
    let expected =
        [format!("10.0.0.0/24 {uplink}"), format!("fd00::/64 {uplink}"), "10.2.0.0/24 br2".to_owned()];
    assert_eq!(rules, expected);
}

#[test]
fn what_the_machine_need_not_reach_has_no_uplink() {
    let closed = "fabric = true\n[bridge.b]\naddresses = ['10.0.0.1/24', 'fd00::1/64']\nhost = false\n";
    for text in
        [closed, "fabric = true\n[bridge.b]\naddresses = ['fe80::1/64']\n", "fabric = true\n[bridge.b]\n"]
    {
        let lab = good(text);
        assert_eq!((lab.bridges[0].place.clone(), lab.uplink(), lab.cables.len()), (fabric(), None, 0));
        assert_eq!(routes(&lab), [""; 0]);
    }
    // Nothing lives in it, so there is none.
    let lab = good("fabric = true\n[bridge.b]\nnamespace = 'n'\n[namespace.n]\n");
    assert_eq!((lab.fabric, lab.namespaces.len()), (None, 1));
    let lab =
        good("fabric = true\n[bridge.b]\nnamespace = 'host'\nnat = true\naddresses = ['10.0.0.1/24']\n");
    assert_eq!((lab.fabric, lab.bridges[0].place.clone()), (None, Place::Host));
}

#[test]
fn the_command_line_may_ask_for_it() {
    let text = LAB.replace("fabric = true\n", "").replace("host = false\n", "");
    let source = Source { path: "topo.toml", text: &text };
    let with = |fabric| check_with(source, Some("lab"), Overrides { fabric }).unwrap().topology;
    assert_eq!(with(false), good(&text));
    assert_eq!(with(true), good(&LAB.replace("host = false\n", "")));
}

/// What the command line asks for is nowhere in the file.
#[test]
fn a_fault_points_to_the_key_where_there_is_one() {
    let points = |text: &str, fabric| {
        let source = Source { path: "topo.toml", text };
        let faults = check_with(source, Some("lab"), Overrides { fabric }).unwrap_err().faults;
        (faults.len(), faults[0].also.is_some())
    };
    let text = "[bridge.uplink]\naddresses = ['10.0.0.1/24']\n";
    assert_eq!(points(text, true), (1, false));
    assert_eq!(points(&format!("fabric = true\n{text}"), false), (1, true));
}

#[test]
fn it_is_written_out_as_the_key() {
    for text in [LAB.to_owned(), LAB.replace("namespace = 'n'", "namespace = 'host'")] {
        let lab = good(&text);
        let written = expand(&lab).to_string();
        assert!(written.contains("fabric = true\n") && !written.contains("lab-fabric"), "{written}");
        assert_eq!(good(&written), lab, "{written}");
    }
}

#[test]
fn contradictions_are_faults() {
    let chain =
        "fabric = true\n[chain.c]\nbridges = 3\naddresses = ['10.0.0.1/24']\nnat = true\nhost = false\n";
    for (text, message, hint) in [
        (
            "[bridge.b]\nhost = false\n",
            "2:8 `host = false` omits the machine's route to bridge `b`",
            "fabric = true",
        ),
        (
            "fabric = true\n[namespace.n]\n[bridge.b]\nnamespace = 'n'\nhost = false\n",
            "5:8 `host` applies to bridges of the fabric, and `b` has a `namespace`",
            "remove one of the two",
        ),
        (chain, "6:8 `nat` of bridge `c0` needs the machine's route", "leave `host` out"),
        (
            "fabric = true\n[bridge.b]\n[namespace.lab-fabric]\n",
            "3:12 `fabric` creates a namespace `lab-fabric`, and the file has one of that name",
            "rename that one",
        ),
        (
            "fabric = true\n[bridge.uplink]\naddresses = ['10.0.0.1/24']\n",
            "2:9 `uplink` is the interface by which the fabric reaches the machine",
            "rename the bridge",
        ),
        (
            "fabric = true\n[bridge.b]\naddresses = ['10.0.0.1/16']\n\
             [bridge.c]\nnamespace = 'host'\naddresses = ['10.0.5.1/24']\n",
            "6:14 the machine would reach 10.0.5.0/24 both by `c` and by the fabric",
            "a subnet of its own",
        ),
        (
            "fabric = true\n[bridge.b]\naddresses = ['fd00::1/64']\n[namespace.n.interface.e]\nlink = 'host:v'\n\
             [namespace.host.interface.v]\nlink = 'n:e'\naddresses = ['fd00::9/128']\n",
            "8:14 the machine would reach fd00::9/128 both by `v` and by the fabric",
            "host = false",
        ),
    ] {
        let faults = bad(text);
        let [fault] = &faults.faults[..] else { panic!("{}", show(&faults, text)) };
        let (line, column) = fault.position(text);
        let shown = format!("{line}:{column} {}", fault.message);
        assert!(shown.starts_with(message) && fault.hint.contains(hint), "{}", show(&faults, text));
    }
}

#[test]
fn hosts_that_cannot_answer_the_machine_are_warned_of() {
    assert_eq!(warnings(LAB), [""; 0]);
    let without_gateway = LAB.replace("gateway = '10.0.0.1'\n", "")
        + "[namespace.m.interface.eth0]\nlink = 'br0'\naddresses = ['10.0.0.3/24']\n";
    let expected = "12:24 `n:eth0` and 1 more on `br0` have no route to the machine, and cannot reply to it";
    assert_eq!(warnings(&without_gateway), [expected]);
    assert_eq!(warnings(&without_gateway.replace("nat = true\n", "host = false\n")), [""; 0]);
}

/// Beyond the fabric is the machine, of which the file does not know.
#[test]
fn a_path_by_the_fabric_ends_at_the_machine() {
    let text = "fabric = true\n[bridge.b]\naddresses = ['10.0.0.1/24']\n[namespace.n]\n\
        routes = [{ to = '10.9.0.0/24', via = '10.0.0.1' }, { to = 'default', via = '10.0.0.1' }]\n\
        [namespace.n.interface.e]\nlink = 'b'\naddresses = ['10.0.0.2/24']\n\
        [namespace.m.interface.e]\nlink = 'host:v'\naddresses = ['10.9.0.2/24']\n\
        [namespace.host.interface.v]\nlink = 'm:e'\naddresses = ['10.9.0.1/24']\n[namespace.m]\n";
    assert_eq!(warnings(text), [""; 0]);
}
