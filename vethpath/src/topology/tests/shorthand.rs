//! Shorthand tables, compared with the same lab written out.

use std::collections::HashSet;

use super::{
    super::{Place, Topology, expand},
    bad,
    faults::check,
    good, samples, show,
};

const GROUP: &str = "[bridge.br0]\naddresses = ['10.0.0.1/16', 'fd00::1/64']\n\
                     [namespace.s.interface.e]\nlink = 'br0'\naddresses = ['10.0.0.3/16']\n";

fn group(count: usize, more: &str) -> Topology {
    good(&format!(
        "{GROUP}[group.h]\ncount = {count}\nbridge = 'br0'\nsubnet = ['10.0.0.0/16', 'fd00::/64']\n{more}"
    ))
}

#[test]
fn a_group_is_namespaces_with_an_interface_each() {
    let lab = group(
        3,
        "interface = 'net0'\nmtu = 1400\nsysctls = { 'net.x' = 1 }\nroutes = [{ to = '10.9.0.0/16', via = '10.0.0.9' }]\n",
    );
    let names: Vec<_> = lab.namespaces.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["s", "h0", "h1", "h2"]);
    let pairs: Vec<String> =
        lab.pairs[1..].iter().map(|p| format!("{} {:?}", p.name(), p.inner.addresses)).collect();
    // 10.0.0.1 is the bridge's address and 10.0.0.3 is written in the file. IPv6 addresses are assigned separately.
    assert_eq!(
        pairs,
        [
            "h0:net0 [10.0.0.2/16, fd00::2/64]",
            "h1:net0 [10.0.0.4/16, fd00::3/64]",
            "h2:net0 [10.0.0.5/16, fd00::4/64]",
        ]
    );
    assert_eq!(lab.pairs[1].inner.mtu, Some(1400));
    let routes: Vec<String> = lab.namespaces[1].routes.iter().map(ToString::to_string).collect();
    assert_eq!(routes, ["10.9.0.0/16 via 10.0.0.9", "0.0.0.0/0 via 10.0.0.1", "::/0 via fd00::1"]);
    assert_eq!(lab.namespaces[3].sysctls.len(), 1);
}

#[test]
fn a_gateway_is_the_bridges_or_what_is_written_or_none() {
    let gateways = |more: &str| -> Vec<String> {
        group(1, more).namespaces[1]
            .routes
            .iter()
            .filter_map(|route| route.via)
            .map(|via| via.to_string())
            .collect()
    };
    assert_eq!(gateways(""), ["10.0.0.1", "fd00::1"]);
    assert_eq!(gateways("gateway = '10.0.0.3'\n"), ["10.0.0.3"]);
    assert_eq!(gateways("gateway = []\n"), Vec::<String>::new());
    assert_eq!(gateways("first = '10.0.7.1'\n").len(), 2);
    assert_eq!(group(2, "first = '10.0.7.9'\n").pairs[2].inner.addresses[0].to_string(), "10.0.7.10/16");
}

#[test]
fn a_group_that_grows_leaves_the_others_as_they_are() {
    let (small, large) = (group(100, ""), group(101, ""));
    assert_eq!(small.namespaces, large.namespaces[..101]);
    assert_eq!(small.pairs, large.pairs[..101]);
    let chain = |count| good(&format!("[chain.c]\nbridges = {count}\n"));
    assert_eq!(chain(7).trunks, chain(8).trunks[..6]);
    let mesh = |count| good(&format!("[mesh.m]\ncount = {count}\nsubnet = '10.0.0.0/24'\n"));
    assert_eq!(mesh(4).cables, mesh(5).cables[..6]);
    let spread = |count| good(&format!("[chain.c]\nbridges = 3\n[group.g]\ncount = {count}\nchain = 'c'\n"));
    assert_eq!(spread(10).pairs, spread(11).pairs[..10]);
}

#[test]
fn a_group_is_shared_out_over_bridges_in_turns() {
    let text = "[bridge.a]\ntrunks = ['b']\n[bridge.b]\n[group.g]\ncount = 2000\nbridges = ['a', 'b']\nsubnet = '10.0.0.0/16'\n";
    let lab = good(text);
    let bridges: Vec<_> = lab.pairs.iter().take(4).map(|pair| pair.bridge.as_str()).collect();
    assert_eq!(bridges, ["a", "b", "a", "b"]);
    let macs: HashSet<_> = lab.pairs.iter().flat_map(|pair| [pair.inner.mac, pair.port_mac]).collect();
    assert_eq!(macs.len(), 4000);
    let one = text.replace("['a', 'b']", "['a']");
    check(&[(
        &one,
        "1:9 bridge `a` has 2001 ports, and Linux gives one at most 1023",
        "bridges = [\"br0\", \"br1\"]",
    )]);
}

#[test]
fn a_mesh_is_a_cable_between_each_two() {
    let lab = good(
        "[namespace.a]\n[namespace.b]\n[mesh.m]\nmembers = ['a', 'host', 'b']\nsubnet = ['10.0.0.0/24', 'fd00::/64']\nmtu = 9000\n",
    );
    let ends = |cable: &super::super::Cable| {
        [&cable.a, &cable.b]
            .map(|end| format!("{}:{} {:?}", end.place, end.interface.name, end.interface.addresses))
    };
    let cables: Vec<_> = lab.cables.iter().map(ends).collect();
    assert_eq!(
        cables,
        [
            ["a:m1 [10.0.0.0/31, fd00::/127]", "host:m0 [10.0.0.1/31, fd00::1/127]"],
            ["a:m2 [10.0.0.2/31, fd00::2/127]", "b:m0 [10.0.0.3/31, fd00::3/127]"],
            ["host:m2 [10.0.0.4/31, fd00::4/127]", "b:m1 [10.0.0.5/31, fd00::5/127]"],
        ]
    );
    assert_eq!(lab.cables[0].b.place, Place::Host);
    assert_eq!(lab.cables[0].b.interface.mtu, Some(9000));
}

#[test]
fn a_chain_is_bridges_in_a_row() {
    let lab = good(
        "[namespace.f]\n[chain.c]\nbridges = 3\nnamespace = 'f'\naddresses = ['10.0.0.1/24']\nnat = true\nmtu = 9000\n\
         [bridge.up]\ntrunks = ['c2']\n[namespace.n.interface.e]\nlink = 'c1'\n",
    );
    let names: Vec<_> = lab.bridges.iter().map(|b| b.name.as_str()).collect();
    assert_eq!(names, ["c0", "c1", "c2", "up"]);
    let trunks: Vec<_> = lab.trunks.iter().map(super::super::Trunk::name).collect();
    assert_eq!(trunks, ["c0 - c1", "c1 - c2", "up - c2"]);
    assert_eq!(lab.bridges.iter().map(|b| b.addresses.len()).collect::<Vec<_>>(), [1, 0, 0, 0]);
    assert_eq!(lab.bridges.iter().map(|b| b.nat).collect::<Vec<_>>(), [true, false, false, false]);
    assert!(lab.bridges[..3].iter().all(|b| b.mtu == Some(9000) && b.place.to_string() == "f"));
    assert_eq!(lab.pairs[0].inner.mtu, Some(9000));
}

#[test]
fn what_is_wrong_with_a_shorthand_is_told_of_the_shorthand() {
    let group = "[bridge.b]\n[group.h]\nbridge = 'b'\n";
    let with = |more: &str| format!("{group}{more}");
    check(&[
        (&with(""), "2:8 group `h` has no count", "count = 100"),
        (&with("count = 4294967296\n"), "4:9 `count` cannot be 4294967296", "1 to 4096"),
        (&with("count = 4097\n"), "4:9 `count` cannot be 4097", "1 to 4096"),
        (&with("count = 0\n"), "4:9 `count` cannot be 0", "1 to 4096"),
        (&with("count = 2\nchain = 'b'\n"), "2:8 group `h` has `bridge` and `chain`", "write one of"),
        (
            &with("count = 4\nsubnet = '10.0.0.0/30'\n"),
            "5:10 10.0.0.0/30 has room for 2 hosts of the group, and 4 are wanted",
            "shorter prefix",
        ),
        (
            &with("count = 4\nsubnet = '10.0.0.1/24'\n"),
            "5:10 `10.0.0.1/24` has host bits: it is an address in a subnet, not the subnet",
            "10.0.0.0/24",
        ),
        (
            &with("count = 4\nsubnet = '10.0.0.0/24'\nfirst = '10.0.1.1'\n"),
            "6:9 the first address 10.0.1.1 is in no subnet of the group",
            "in it",
        ),
        (
            &with("count = 4\n[namespace.h3]\n"),
            "2:8 group `h` makes a namespace `h3`, and there is one already",
            "rename",
        ),
        (
            &with("count = 20\n[group.h1]\ncount = 1\nbridge = 'b'\n"),
            "5:8 group `h1` makes a namespace `h10`, and there is one already",
            "rename",
        ),
        (
            &with("count = 4000\n[mesh.m]\ncount = 64\n[group.i]\nbridge = 'b'\ncount = 90\n"),
            "5:7 with mesh `m` the lab has more than 4096 namespaces, which is the most",
            "lower the count",
        ),
        ("[group.h]\ncount = 2\nbridge = 'x'\n", "3:10 there is no bridge `x`", "declare it"),
        ("[group.h]\ncount = 2\nchain = 'x'\n", "3:9 there is no chain `x`", "[chain.x]"),
        ("[mesh.m]\nmembers = ['a']\n", "2:12 there is no namespace `a`", "declare it"),
        ("[mesh.m]\nmembers = ['host']\n", "2:11 a mesh has at least two members", "two or more"),
        ("[mesh.m]\ncount = 65\n", "2:9 `count` cannot be 65", "2 to 64"),
        ("[mesh.m]\n", "1:7 mesh `m` takes one of `members` and `count`", "members = "),
        (
            "[mesh.m]\ncount = 3\nsubnet = '10.0.0.0/30'\n",
            "3:10 10.0.0.0/30 has room for 2 cables of two addresses, and 3 are wanted",
            "shorter prefix",
        ),
        (
            "[namespace.a.interface.m1]\nlink = 'b:x'\n[namespace.b]\n[mesh.m]\nmembers = ['a', 'b']\n",
            "4:7 mesh `m` makes an interface `a:m1`, and there is one already",
            "rename",
        ),
        ("[chain.c]\nbridges = 65\n", "2:11 `bridges` cannot be 65", "1 to 64"),
        ("[chain.c]\n", "1:8 chain `c` has no length", "bridges = 8"),
        ("[chain.c]\nbridges = 2\nmac = '02:00:00:00:00:01'\n", "3:1 `mac` is not a key of a chain", "`mtu`"),
        (
            "[chain.c]\nbridges = 2\n[bridge.c1]\n",
            "1:8 chain `c` makes a bridge `c1`, and there is one already",
            "rename",
        ),
        (
            "[chain.c]\nbridges = 40\n[chain.d]\nbridges = 40\n",
            "3:8 with chain `d` the lab has more than 64 bridges, which is the most",
            "shorten",
        ),
        (
            "[chain.much-too-long-c]\nbridges = 2\n",
            "1:8 `much-too-long-c1` is 16 bytes long, and an interface name has at most 15",
            "15 bytes",
        ),
    ]);
}

#[test]
fn what_many_have_wrong_is_told_a_few_times() {
    let text = "[bridge.b]\n[group.g]\ncount = 50\nbridge = 'b'\nsubnet = '10.0.0.0/16'\n\
                [group.h]\ncount = 50\nbridge = 'b'\nsubnet = '10.0.0.0/16'\n";
    let faults = bad(text);
    assert_eq!(faults.faults.len(), 3, "{}", show(&faults, text));
    assert_eq!(faults.faults[0].message, "address 10.0.0.1 is used twice");
    assert!(faults.faults[2].hint.ends_with("(and 47 more faults with this message)"));
}

#[test]
fn a_namespace_has_no_more_interfaces_by_meshes_than_by_hand() {
    let cable = |n| format!("[namespace.n{n}]\n[mesh.m{n}-]\nmembers = ['host', 'n{n}']\n");
    let fine: String = (0..1024).map(cable).collect();
    assert_eq!(good(&fine).cables.len(), 1024);
    check(&[(
        &(fine + &cable(1024)),
        "3074:7 `host` has more than 1024 interfaces, which is the most",
        "two namespaces",
    )]);
}

#[test]
fn monsters_of_shorthand_end_soon() {
    let start = super::cpu_time();
    let meshes: String = (0..20_000).map(|n| format!("[mesh.m{n}-]\ncount = 64\n")).collect();
    let groups: String = (0..4000)
        .map(|n| format!("[group.g{n}-]\ncount = 4096\nbridge = 'b'\nsubnet = '10.0.0.0/8'\n"))
        .collect();
    let crossed: String = (0..60).map(|n| format!("[mesh.m{n}-]\nmembers = ['a', 'b', 'c']\n")).collect();
    for monster in [
        meshes,
        format!("[bridge.b]\n{groups}"),
        format!("[namespace.a]\n[namespace.b]\n[namespace.c]\n{crossed}"),
    ] {
        let _ = super::parse(&monster);
    }
    let taken = super::cpu_time() - start;
    assert!(taken.as_secs() < 60, "{taken:?}");
}

#[test]
fn an_expanded_lab_is_the_same_lab() {
    for (name, text) in samples() {
        let lab = good(&text);
        let written = expand(&lab).to_string();
        assert_eq!(good(&written), lab, "{name}:\n{written}");
        assert!(!["[group", "[mesh", "[chain"].iter().any(|word| written.contains(word)), "{written}");
    }
    let odd = good(
        "name = 'odd'\n[namespace.\"a.b\"]\nadopt = { path = '/run/a \"b' }\n[namespace.\"a.b\".interface.\"e.1\"]\nlink = 'host:v.0'\nup = false\n\
         [namespace.c]\nsysctls = { 'net.ipv4.conf.z/1.x' = \"a\\tb \\\"c\\\" \\\\\" }\n\
         [namespace.c.interface.\"z.1\"]\nlink = 'br'\nmac = '02:00:00:00:00:01'\nmtu = 900\n[bridge.br]\nstp = true\nageing_time = 0\nmac = '02:00:00:00:00:02'\n\
         [namespace.d]\nadopt = { container = 'web', runtime = 'podman' }\n\
         [bridge.x]\ndatapath = 'xdp'\n[namespace.c.interface.y]\nlink = 'x'\n[namespace.c.interface.x]\nlink = 'x'\ndatapath = 'tc'\n",
    );
    assert_eq!(good(&expand(&odd).to_string()), odd, "{}", expand(&odd));
    let ipv6 = good(
        "dad = true\n[bridge.b]\naccept_ra = true\n[bridge.c]\nnamespace = 'n'\naccept_ra = true\n\
         [namespace.n]\nsysctls = { 'net.ipv4.conf.c.x' = 1, 'net.ipv6.conf.default.accept_dad' = 0 }\n\
         [namespace.n.interface.e]\nlink = 'b'\ndad = true\naccept_ra = false\n[namespace.n.interface.f]\nlink = 'host:v'\n\
         [namespace.host.interface.v]\nlink = 'n:f'\ndad = false\naccept_ra = true\n",
    );
    assert_eq!(good(&expand(&ipv6).to_string()), ipv6, "{}", expand(&ipv6));
}
