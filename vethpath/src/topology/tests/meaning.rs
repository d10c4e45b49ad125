//! Warnings of likely mistakes, and labs without warnings.

use super::{super::Level, samples, warnings};

/// The warnings of a lab, without their positions.
fn messages(text: &str) -> Vec<String> {
    let message = |warning: String| warning.split_once(' ').map(|(_, message)| message.to_owned());
    warnings(text).into_iter().filter_map(message).collect()
}

#[test]
fn the_files_of_the_examples_and_tests_have_no_warnings() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/topologies");
    let tested = std::fs::read_dir(folder).expect("topologies").map(|entry| {
        let path = entry.expect("an entry").path();
        (path.display().to_string(), std::fs::read_to_string(&path).expect("a topology"))
    });
    let examples = samples().into_iter().filter(|(name, _)| !name.contains("docs/"));
    // One host of the oracle lab sends oversized frames on purpose.
    for (name, text) in tested.chain(examples).filter(|(name, _)| !name.ends_with("/oracle.toml")) {
        assert_eq!(warnings(&text), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn warnings_leave_the_lab_and_look_like_faults() {
    let text = "[bridge.b]\n[namespace.n.interface.e]\nlink = 'b'\naddresses = ['10.0.0.2/24']\n\
                [namespace.n.interface.f]\nlink = 'b'\naddresses = ['10.0.0.3/24']\n";
    let source = super::Source { path: "topo.toml", text };
    let checked = super::check(source, Some("lab")).expect("a lab");
    assert_eq!(checked.warnings.faults[0].level, Level::Warning);
    assert_eq!(
        checked.warnings.render(source, false),
        r"warning: `n:e` and `n:f` are in one subnet, 10.0.0.0/24: its route uses `n:e`
 --> topo.toml:7:14
  |
4 | addresses = ['10.0.0.2/24']
  |              ------------- wins: it comes up first
...
7 | addresses = ['10.0.0.3/24']
  |              ^^^^^^^^^^^^^ loses
  |
  = hint: packets to 10.0.0.0/24 never leave by `n:f`; give each its own subnet
"
    );
}

#[test]
fn of_two_devices_in_one_subnet_the_one_that_comes_up_first_wins() {
    let wins = |text: &str| -> Vec<String> {
        messages(text)
            .iter()
            .filter_map(|message| Some(message.split_once("its route uses ")?.1.to_owned()))
            .collect()
    };
    // Bridges come before pairs, and pairs before cables, whatever the file's order.
    let cable_and_pair = "[namespace.n.interface.c]\nlink = 'm:c'\naddresses = ['10.0.0.2/24']\n[namespace.m]\n\
                          [namespace.n.interface.p]\nlink = 'b'\naddresses = ['10.0.0.3/24']\n[bridge.b]\n";
    assert_eq!(wins(cable_and_pair), ["`n:p`"]);
    let pair_and_bridge = "[namespace.n.interface.p]\nlink = 'b'\naddresses = ['fd00::2/64']\n\
                           [bridge.b]\nnamespace = 'n'\naddresses = ['fd00::1/64']\n";
    assert_eq!(wins(pair_and_bridge), ["`n:b`"]);
    assert_eq!(
        wins(&cable_and_pair.replace("link = 'b'\n", "link = 'b'\nup = false\n")),
        Vec::<String>::new()
    );
    // A longer prefix is deliberate, link-local subnets are on every link, and a /32 has no neighbours.
    for other in ["10.0.0.3/25", "10.0.1.2/24"] {
        assert_eq!(wins(&cable_and_pair.replace("10.0.0.3/24", other)), Vec::<String>::new());
    }
    let local = cable_and_pair.replace("10.0.0.2/24", "fe80::2/64").replace("10.0.0.3/24", "fe80::3/64");
    assert_eq!(wins(&local), Vec::<String>::new());
}

#[test]
fn a_gateway_that_nobody_has() {
    let text = "[bridge.b]\n[namespace.n]\ngateway = '10.0.0.9'\n[namespace.n.interface.e]\nlink = 'b'\naddresses = ['10.0.0.2/24']\n";
    let message = "no device on the segment of `n:e` has the gateway's address 10.0.0.9";
    assert_eq!(warnings(text), [format!("3:11 {message}")]);
    // The address may exist by manual configuration, or in an adopted namespace.
    for unknown in ["", "addresses = ['10.0.0.3/24']\n[namespace.m]\nadopt = { pid = 1 }\n"] {
        let with = format!("{text}[namespace.m.interface.e]\nlink = 'b'\n{unknown}");
        assert_eq!(messages(&with), Vec::<String>::new());
    }
    let known = format!("{text}[namespace.m.interface.e]\nlink = 'b'\naddresses = ['10.0.0.3/24']\n");
    assert_eq!(messages(&known), [message]);
    // Several hosts of one group have the same gateway.
    let group =
        "[bridge.b]\n[group.g]\ncount = 9\nbridge = 'b'\nsubnet = '10.0.0.0/24'\ngateway = '10.0.0.200'\n";
    assert_eq!(messages(group).len(), 1);
    // The undeclared end of a cable is configured by other means.
    let bare = "[namespace.n]\ngateway = '10.0.0.9'\n[namespace.n.interface.e]\nlink = 'host:v'\naddresses = ['10.0.0.2/24']\n";
    assert_eq!(messages(bare), Vec::<String>::new());
}

#[test]
fn a_host_outside_of_its_bridges_subnet() {
    let with = |address: &str, bridge: &str| {
        format!(
            "[bridge.b]\naddresses = ['10.0.0.1/24']\ntrunks = ['c']\n{bridge}\n[bridge.c]\n\
             [namespace.n.interface.e]\nlink = 'c'\naddresses = [{address}]\n"
        )
    };
    let message = "8:14 `n:e` has 10.0.1.5/24, which is outside of 10.0.0.0/24, the subnet of its bridge";
    assert_eq!(warnings(&with("'10.0.1.5/24'", "")), [message]);
    for fine in ["'10.0.0.5/24'", "'fd00::5/64'", "'10.0.1.5/24', '10.0.0.5/24'", "'10.9.9.9/32'", ""] {
        assert_eq!(warnings(&with(fine, "")), Vec::<String>::new(), "{fine}");
    }
    // VLANs may separate two subnets, and a router may lead into a second one.
    assert_eq!(warnings(&with("'10.0.1.5/24'", "vlan_filtering = true")), Vec::<String>::new());
    let routed = with("'10.0.1.5/24'", "")
        + "[namespace.r.interface.e]\nlink = 'b'\naddresses = ['10.0.1.1/24']\n[namespace.n]\ngateway = '10.0.1.1'\n";
    assert_eq!(warnings(&routed), Vec::<String>::new());
}

#[test]
fn mtus_that_do_not_fit() {
    let on_bridge = "[bridge.b]\nmtu = 1500\n[namespace.n.interface.e]\nlink = 'b'\nmtu = 9000\n[namespace.m.interface.e]\nlink = 'b'\n";
    assert_eq!(
        warnings(on_bridge),
        [
            "5:7 `n:e` may send packets of 9000 bytes, and `m:e` on the same segment accepts 1500: larger ones are dropped"
        ]
    );
    let odd_one = "[bridge.b]\nmtu = 9000\n[namespace.n.interface.e]\nlink = 'b'\n[namespace.m.interface.e]\nlink = 'b'\nmtu = 1400\n";
    assert_eq!(
        warnings(odd_one),
        [
            "7:7 `n:e` may send packets of 9000 bytes, and `m:e` on the same segment accepts 1400: larger ones are dropped"
        ]
    );
    let trunk = "[bridge.b]\ntrunks = ['c']\nmtu = 9000\n[bridge.c]\n\
                 [namespace.n.interface.e]\nlink = 'b'\n[namespace.m.interface.e]\nlink = 'c'\nmtu = 9000\n";
    let lost = "accepts 1500: larger ones are dropped";
    // The trunk has the smaller `mtu` of its bridges, and one of them has none.
    assert_eq!(warnings(trunk), Vec::<String>::new());
    let silent =
        trunk.replacen("mtu = 9000\n", "", 1).replacen("link = 'b'\n", "link = 'b'\nmtu = 9000\n", 1);
    assert_eq!(
        warnings(&silent),
        [format!("2:11 `n:e` may send packets of 9000 bytes, and the trunk `b` - `c` {lost}")]
    );
    assert_eq!(
        messages("[namespace.n.interface.e]\nlink = 'm:e'\nmtu = 9000\n[namespace.m]\n"),
        Vec::<String>::new()
    );
}

#[test]
fn a_group_on_bridges_that_are_not_joined() {
    let text = "[bridge.a]\n[bridge.b]\n[group.g]\ncount = 2\nbridges = ['a', 'b']\n";
    let message = "5:12 no trunks join the bridges of group `g`: members on `a` cannot reach those on `b`";
    assert_eq!(warnings(text), [message]);
    assert_eq!(warnings(&text.replacen("[bridge.b]", "trunks = ['b']\n[bridge.b]", 1)), Vec::<String>::new());
}

/// A file whose links resolve has warnings next to its faults. One that could not be read completely has none.
#[test]
fn warnings_come_with_the_faults() {
    let text = "[bridge.br0]\n[namespace.a.interface.eth0]\nlink = \"br0\"\naddresses = [\"10.0.0.1/24\"]\n\
        [namespace.a.interface.eth1]\nlink = \"br0\"\naddresses = [\"10.0.0.2/24\"]\n\
        [namespace.b]\ngateway = \"10.9.9.9\"\n[namespace.b.interface.eth0]\nlink = \"br0\"\n\
        addresses = [\"10.0.0.3/24\"]\n";
    let levels = |text: &str| super::bad(text).faults.iter().map(|fault| fault.level).collect::<Vec<_>>();
    assert_eq!(levels(text), [Level::Warning, Level::Error]);
    assert_eq!(levels(&text.replace("10.0.0.3/24", "10.0.0/24")), [Level::Error]);
}
