//! Valid files, and the labs that they parse to.

use super::{
    super::{Datapath, Ipv6, Place, Source, Sysctl, SysctlKey, derived_mac, read},
    good, samples,
};

#[test]
fn every_example_and_every_file_of_the_documentation_is_right() {
    for (name, text) in samples() {
        let source = Source { path: &name, text: &text };
        if let Err(faults) = read(source, Some("documentation")) {
            panic!("{}", faults.render(source, false));
        }
    }
}

#[test]
fn order_is_the_files_and_defaults_are_filled_in() {
    let lab = good(
        "[namespace.b.interface.z]\nlink = 'sw'\n[namespace.b.interface.a]\nlink = 'sw'\n\
         [namespace.a.interface.e]\nlink = 'sw'\nmac = '02:00:00:00:00:0A'\nup = false\n[bridge.sw]\n",
    );
    assert_eq!(lab.lab.as_str(), "lab");
    assert_eq!(lab.namespaces.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(lab.pairs.iter().map(super::super::Pair::name).collect::<Vec<_>>(), ["b:z", "b:a", "a:e"]);
    let [first, _, last] = &lab.pairs[..] else { panic!("three pairs") };
    assert_eq!(first.inner.mac, derived_mac(&lab.lab, "b", "z"));
    assert_eq!(first.port.as_str(), "b-z");
    assert_eq!((first.place.clone(), first.datapath), (Place::Host, Datapath::Tc));
    assert!(first.inner.up && !last.inner.up);
    assert_eq!(last.inner.mac.to_string(), "02:00:00:00:00:0a");
    assert_eq!(first.inner.mtu, None);
}

#[test]
fn a_bridge_says_where_it_lives_and_how_large_frames_are() {
    let lab = good(
        "[namespace.f]\n[bridge.sw]\nnamespace = 'f'\nmtu = 9000\ndatapath = 'bridge'\nstp = true\nageing_time = 0\n\
         [namespace.n.interface.e]\nlink = 'sw'\n[namespace.n.interface.s]\nlink = 'sw'\nmtu = 1500\n",
    );
    assert_eq!(lab.pairs[0].place.to_string(), "f");
    assert_eq!(lab.pairs[0].datapath, Datapath::Bridge);
    assert_eq!((lab.pairs[0].inner.mtu, lab.pairs[1].inner.mtu), (Some(9000), Some(1500)));
    assert_eq!((lab.bridges[0].stp, lab.bridges[0].ageing_time), (true, Some(0)));
    assert_eq!(lab.domains().len(), 1);
}

#[test]
fn an_interface_may_have_another_datapath_than_its_bridge() {
    let lab = good(
        "[bridge.b]\ndatapath = 'xdp'\n[namespace.n.interface.d]\nlink = 'b'\n\
         [namespace.n.interface.e]\nlink = 'b'\ndatapath = 'tc'\n\
         [namespace.n.interface.f]\nlink = 'b'\ndatapath = 'bridge'\n",
    );
    let datapaths: Vec<_> = lab.pairs.iter().map(|pair| pair.datapath).collect();
    assert_eq!(datapaths, [Datapath::Xdp, Datapath::Tc, Datapath::Bridge]);
    let of = |pairs: &mut dyn Iterator<Item = &super::super::IfName>| pairs.cloned().collect::<Vec<_>>();
    assert_eq!(
        of(&mut lab.ports_with_programs(&Place::Host)),
        of(&mut lab.pairs[..2].iter().map(|p| &p.port))
    );
    assert_eq!(of(&mut lab.xdp_pairs(&Place::Host).map(|p| &p.port)), [lab.pairs[0].port.clone()]);
}

#[test]
fn a_cable_may_be_declared_at_one_end_or_at_both() {
    let one = good("[namespace.a.interface.e]\nlink = 'host:v0'\nmtu = 2000\n");
    assert_eq!(one.cables.len(), 1);
    let far = &one.cables[0].b;
    assert_eq!((far.place.clone(), far.interface.name.as_str()), (Place::Host, "v0"));
    assert_eq!((far.interface.mtu, far.interface.up), (Some(2000), true));
    assert_eq!(far.interface.mac, derived_mac(&one.lab, "host", "v0"));

    let both = good(
        "[namespace.a.interface.e]\nlink = 'b:e'\n[namespace.b.interface.e]\nlink = 'a:e'\nmtu = 1400\naddresses = ['10.0.0.1/31']\n",
    );
    assert_eq!(both.cables.len(), 1);
    let cable = &both.cables[0];
    assert_eq!((cable.a.interface.mtu, cable.b.interface.mtu), (Some(1400), Some(1400)));
    assert_eq!(cable.b.interface.addresses.len(), 1);
}

#[test]
fn a_trunk_may_be_declared_at_both_ends_and_has_names_of_its_own() {
    let lab = good(
        "[bridge.x]\ntrunks = ['y']\n[bridge.y]\ntrunks = ['x']\n[bridge.z]\nnamespace = 'x'\ntrunks = ['y']\n[namespace.x.interface.y]\nlink = 'y'\n",
    );
    assert_eq!(lab.trunks.len(), 2);
    let trunk = &lab.trunks[0];
    assert_eq!((trunk.a.bridge.as_str(), trunk.b.bridge.as_str()), ("x", "y"));
    let other = &lab.trunks[1];
    assert_eq!((other.a.place.to_string().as_str(), other.b.place.clone()), ("x", Place::Host));
    assert_ne!(trunk.a.port, trunk.b.port);
    assert_ne!(trunk.a.port, lab.pairs[0].port);
}

#[test]
fn a_loop_of_bridges_needs_one_with_stp() {
    let ring =
        "[bridge.x]\ntrunks = ['y']\nstp = true\n[bridge.y]\ntrunks = ['z']\n[bridge.z]\ntrunks = ['x']\n";
    assert_eq!(good(ring).trunks.len(), 3);
}

#[test]
fn routes_settings_and_adoption_are_resolved() {
    let lab = good(
        "[bridge.sw]\n[namespace.a]\ngateway = ['10.0.0.1', 'fd00::1']\nroutes = [{ to = '10.9.0.0/16', via = '10.0.0.9' }]\n\
         sysctls = { 'net.ipv4.ip_forward' = true, 'net/ipv4/conf/e/x' = 0x10, 'net.ipv4.conf.lo.x' = 1 }\n\
         [namespace.a.interface.e]\nlink = 'sw'\naddresses = ['10.0.0.2/24', 'fd00::2/64', 'fe80::1/64']\n\
         [namespace.b.interface.e]\nlink = 'host:e'\naddresses = ['fe80::1/64']\n\
         [namespace.c]\nadopt = { pid = 42 }\n\
         [namespace.d]\nadopt = { container = 'web', runtime = 'podman' }\n",
    );
    let a = &lab.namespaces[0];
    let routes: Vec<String> = a.routes.iter().map(ToString::to_string).collect();
    assert_eq!(routes, ["0.0.0.0/0 via 10.0.0.1", "::/0 via fd00::1", "10.9.0.0/16 via 10.0.0.9"]);
    let adopted = |n: usize| lab.namespaces[n].adopt.as_ref().map(ToString::to_string);
    assert_eq!(adopted(2).as_deref(), Some("/proc/42/ns/net"));
    assert_eq!(adopted(3).as_deref(), Some("container `web` of podman"));
    let sysctl = |path: &[&str], value: &str| Sysctl { key: SysctlKey::net(path), value: value.into() };
    let of_loopback = sysctl(&["ipv4", "conf", "lo", "x"], "1");
    assert_eq!(a.sysctls[..], [sysctl(&["ipv4", "ip_forward"], "1"), of_loopback]);
    assert_eq!(lab.pairs[0].inner.sysctls, [sysctl(&["ipv4", "conf", "e", "x"], "16")]);
}

/// A setting is applied once its device exists, wherever the file has it.
#[test]
fn a_setting_goes_with_what_it_is_about() {
    let lab = good(
        "[namespace.a]\nsysctls = { 'net.ipv4.conf.br/0.x' = 1, 'net.ipv4.conf.far.x' = 2, 'net.core.x' = 3 }\n\
         [bridge.\"br.0\"]\nnamespace = 'a'\n[namespace.b.interface.e]\nlink = 'a:far'\n\
         sysctls = { 'net.ipv4.ip_forward' = 1, 'net.ipv4.conf.other.x' = 4 }\n\
         [namespace.b.interface.other]\nlink = 'br.0'\n[group.g]\ncount = 2\nbridge = 'br.0'\n\
         sysctls = { 'net.ipv6.conf.eth0.x' = 5 }\n",
    );
    let values =
        |settings: &[Sysctl]| settings.iter().map(|setting| setting.value.to_string()).collect::<Vec<_>>();
    assert_eq!(values(&lab.bridges[0].sysctls), ["1"]);
    assert_eq!(values(&lab.cables[0].b.interface.sysctls), ["2"]);
    assert_eq!(values(&lab.namespaces[0].sysctls), ["3"]);
    assert_eq!(
        (values(&lab.namespaces[1].sysctls), values(&lab.cables[0].a.interface.sysctls)),
        (vec!["1".to_owned()], vec![])
    );
    let inner: Vec<_> = lab.pairs.iter().map(|pair| values(&pair.inner.sysctls)).collect();
    assert_eq!(inner, [["4"], ["5"], ["5"]]);
}

#[test]
fn the_first_that_says_something_of_ipv6_has_it() {
    let of = |dad, accept_ra| Ipv6 { accept_dad: dad, accept_ra, autoconf: None };
    for (text, expected) in [
        ("[bridge.b]\n[namespace.n.interface.e]\nlink = 'b'\n", of(Some(0), None)),
        ("dad = true\n[bridge.b]\n[namespace.n.interface.e]\nlink = 'b'\n", of(Some(1), None)),
        ("dad = true\n[bridge.b]\n[namespace.n.interface.e]\nlink = 'b'\ndad = false\n", of(Some(0), None)),
        (
            "[bridge.b]\n[namespace.n]\nsysctls = { 'net.ipv6.conf.default.accept_dad' = 2 }\n\
             [namespace.n.interface.e]\nlink = 'b'\naccept_ra = true\n",
            of(Some(2), Some(true)),
        ),
        (
            "[bridge.b]\n[namespace.n]\nsysctls = { 'net.ipv6.conf.all.accept_dad' = 1 }\n\
             [namespace.n.interface.e]\nlink = 'b'\naccept_ra = false\n",
            of(None, Some(false)),
        ),
        (
            "dad = true\n[bridge.b]\n[namespace.n.interface.e]\nlink = 'b'\n\
             sysctls = { 'net.ipv6.conf.e.accept_dad' = 0, 'net.ipv6.conf.e.accept_ra' = 1 }\n",
            of(None, None),
        ),
    ] {
        let lab = good(text);
        assert_eq!(lab.pairs[0].inner.ipv6, expected, "{text}");
        assert_eq!(lab.bridges[0].ipv6.accept_ra, Some(false), "{text}");
    }
    let text = "[namespace.host.interface.v]\nlink = 'n:e'\n[namespace.n]\n[bridge.b]\naccept_ra = true\n";
    let lab = good(text);
    assert_eq!(
        (lab.cables[0].a.interface.ipv6.accept_ra, lab.bridges[0].ipv6.accept_ra),
        (Some(false), Some(true))
    );
    let own = good(&text.replace("'n:e'\n", "'n:e'\nsysctls = { 'net.ipv6.conf.v.accept_ra' = 1 }\n"));
    assert_eq!(own.cables[0].a.interface.ipv6.accept_ra, None);
}

#[test]
fn a_namespace_has_its_name_where_that_is_what_is_adopted() {
    for (path, has_its_name) in [
        ("/run/netns/db", true),
        ("/var/run/netns/db", true),
        ("/run//netns/db/", true),
        ("/run/netns/other", false),
        ("/proc/42/ns/net", false),
    ] {
        let lab = good(&format!("[namespace.db]\nadopt = {{ path = '{path}' }}\n"));
        assert_eq!(lab.namespaces[0].has_its_name(), has_its_name, "{path}");
    }
}

#[test]
fn the_name_is_the_files_own_or_its_stem() {
    let source = Source { path: "x", text: "name = 'mine'" };
    assert_eq!(read(source, None).map(|lab| lab.lab.to_string()).ok().as_deref(), Some("mine"));
    assert!(read(Source { text: "", ..source }, Some("stem")).is_ok());
}
