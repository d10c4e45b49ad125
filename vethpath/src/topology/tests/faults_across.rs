//! Faults of routes, of settings and of uniqueness in the whole lab, as rows like those of `faults`.

use super::faults::{check, check_interface};

#[test]
fn routes() {
    let row = |namespace: &str, fault: &str, hint: &str| {
        let text = format!(
            "[bridge.br0]\naddresses = ['10.0.0.1/24', 'fd00::1/64']\n[namespace.ns0]\n{namespace}\n\
             [namespace.ns0.interface.eth0]\nlink = 'br0'\naddresses = ['10.0.0.2/24']\n"
        );
        check(&[(&text, fault, hint)]);
    };
    row(
        "gateway = '10.0.0.255'",
        "4:11 the gateway 10.0.0.255 is no host in its subnet 10.0.0.0/24",
        "first and the last",
    );
    row(
        "gateway = 'fe80::1'",
        "4:11 `fe80::1` cannot be a gateway: it is link-local, the same on every link",
        "fd00::1",
    );
    row(
        "gateway = '10.1.0.1'",
        "4:11 no interface of `ns0` is in the subnet of its gateway 10.1.0.1",
        "has 10.0.0.1/24",
    );
    row(
        "gateway = 'fd00::1'",
        "4:11 no interface of `ns0` is in the subnet of its gateway fd00::1",
        "has fd00::1/64",
    );
    row("gateway = '10.0.0.2'", "4:11 the gateway 10.0.0.2 is `ns0` itself", "another host");
    row("gateway = '10.0.0.1/24'", "4:11 `10.0.0.1/24` is not an IP address", "\"10.0.0.1\"");
    row(
        "gateway = '0.0.0.0'",
        "4:11 `0.0.0.0` cannot be a gateway: it is the unspecified address",
        "unicast",
    );
    row("gateway = ['10.0.0.1', '10.0.0.3']", "4:24 a second IPv4 gateway", "one gateway for each");
    row(
        "gateway = '10.0.0.1'\nroutes = [{ to = 'default', via = '10.0.0.3' }]",
        "5:18 a second IPv4 gateway",
        "one gateway",
    );
    row(
        "routes = [{ to = '10.9.0.0/16', via = '10.0.0.3' }, { to = '10.9.0.0/16', via = '10.0.0.4' }]",
        "4:60 a second route to 10.9.0.0/16",
        "keep one",
    );
    row(
        "routes = [{ to = '10.9.0.1/16', via = '10.0.0.3' }]",
        "4:18 `10.9.0.1/16` has host bits: it is an address in a subnet, not the subnet",
        "\"10.9.0.0/16\"",
    );
    row(
        "routes = [{ to = 'fd01::/64', via = '10.0.0.3' }]",
        "4:37 fd01::/64 cannot be reached via 10.0.0.3",
        "an IPv6 gateway",
    );
    row("routes = [{ to = '10.9.0.0/16' }]", "4:11 a route without `via`", "write `via`, `dev`");
    check(&[(
        "[namespace.n]\ngateway = '10.0.0.1'\n[namespace.n.interface.e]\nlink = 'host:v'\nup = false\naddresses = ['10.0.0.2/24']\n",
        "2:11 no interface of `n` is in the subnet of its gateway 10.0.0.1",
        "up = false",
    )]);
}

#[test]
fn settings_and_adoption() {
    check(&[
        (
            "[namespace.n]\nsysctls = { 'kernel.x' = 1 }\n",
            "2:13 `kernel.x` is not a setting of a network namespace: those begin with `net.`",
            "ip_forward",
        ),
        (
            "[namespace.n]\nsysctls = { 'net.ipv4.conf.eth0.100.rp_filter' = 1 }\n",
            "2:13 `net.ipv4.conf.eth0.100.rp_filter` names no setting of one interface, as `net.ipv4.conf.eth0.rp_filter` \
             does: a dot in the name of an interface is written as `/`",
            "ip_forward",
        ),
        (
            "[namespace.n.interface.e]\nlink = 'host:h'\naddresses = ['fd00::2/64']\nsysctls = { 'net.ipv6.conf.e.disable_ipv6' = 1 }\n",
            "4:13 `net.ipv6.conf.e.disable_ipv6` switches off IPv6, of which `e` has addresses",
            "leave",
        ),
        (
            "[namespace.n.interface.e]\nlink = 'host:h'\nmtu = 1000\nsysctls = { 'net.ipv6.conf.e.accept_ra' = 0 }\n",
            "4:13 there is no `net.ipv6.conf.e.accept_ra` where the MTU is too small for IPv6",
            "1280",
        ),
        (
            "[bridge.b]\nnamespace = 'n'\naddresses = ['10.0.0.1/24']\nnat = true\n[namespace.n.sysctls]\n'net.ipv4.ip_forward' = 0\n",
            "6:1 `net.ipv4.ip_forward` = 0 switches off what `nat` of bridge `b` needs",
            "leave",
        ),
        (
            "[namespace.n]\nsysctls = { 'net.../x' = 1 }\n",
            "2:13 `net.../x` has an empty, `.` or `..` component",
            "ip_forward",
        ),
        (
            "[namespace.n.sysctls]\nnet.ipv4.ip_forward = 1\n",
            "2:1 `net`: expected a string, an integer or a boolean, found table",
            "in quotes",
        ),
        (
            "[namespace.n.sysctls]\n'net.x' = \"a\\nb\"\n",
            "2:11 the value of a setting is one line of text",
            "line break",
        ),
        ("[namespace.n.sysctls]\n'net.x' = 1\n'net/x' = 2\n", "3:1 `net/x` is set twice", "keep one"),
        ("[namespace.n]\nadopt = {}\n", "2:9 `adopt` takes one of `pid`, `path` and `container`", "either"),
        (
            "[namespace.n]\nadopt = { container = 'web', pid = 7 }\n",
            "2:9 `adopt` takes one of `pid`, `path` and `container`",
            "container = \"web\"",
        ),
        (
            "[namespace.n]\nadopt = { container = 'a/b' }\n",
            "2:23 `a/b` has '/' in it, and a container name is made of letters, digits, `-`, `_` and `.`",
            "`a-b` would do",
        ),
        (
            "[namespace.n]\nadopt = { container = 'web', runtime = 'dockr' }\n",
            "2:40 there is no runtime `dockr`",
            "\"docker\" or \"podman\"",
        ),
        (
            "[namespace.n]\nadopt = { pid = 7, runtime = 'podman' }\n",
            "2:30 `runtime` is about a `container`",
            "leave it out",
        ),
        (
            "[namespace.m]\nadopt = { container = 'web' }\n\
             [namespace.n]\nadopt = { container = 'web', runtime = 'docker' }\n",
            "4:23 container `web` of docker is adopted twice",
            "one name",
        ),
        ("[namespace.n]\nadopt = { path = 'x' }\n", "2:18 `x` is not an absolute path", "/proc/4242/ns/net"),
        (
            "[namespace.n]\nadopt = { path = '/a/../b' }\n",
            "2:18 `/a/../b` has `..` in it",
            "/proc/4242/ns/net",
        ),
        (
            "[namespace.m]\nadopt = { pid = 7 }\n[namespace.n]\nadopt = { path = '/proc/7/ns/net' }\n",
            "4:18 `/proc/7/ns/net` is adopted twice",
            "one place",
        ),
        (
            "[namespace.n]\nadopt = { pid = 7 }\nsysctls = { 'net.ipv4.ip_forward' = 1 }\n",
            "3:13 settings of an adopted namespace would stay changed after `down`",
            "leave `sysctls` out",
        ),
        (
            "[namespace.n]\nadopt = { pid = 7 }\n[namespace.n.interface.e]\nlink = 'host:v'\n\
             sysctls = { 'net.ipv4.conf.e.rp_filter' = 0, 'net.ipv4.ip_forward' = 1 }\n",
            "5:46 `net.ipv4.ip_forward` would change an adopted namespace",
            "only settings of e itself",
        ),
    ]);
    // With none of these names, a setting of the whole namespace is taken for one of the interface.
    for (name, key) in [
        ("net", "net.ipv4.ip_forward"),
        ("ipv4", "net.ipv4.ip_forward"),
        ("ipv4", "net.ipv4.conf.all.forwarding"),
        ("ipv6", "net.ipv6.conf.default.accept_ra"),
        ("conf", "net.ipv4.conf.all.rp_filter"),
        ("conf", "net.ipv4.conf.eth9.rp_filter"),
        ("core", "net.core.somaxconn"),
        ("neigh", "net.ipv4.neigh.default.gc_thresh1"),
        ("forwarding", "net.ipv6.conf.all.forwarding"),
        ("ip_forward", "net.ipv4.ip_forward"),
        ("v", "net.ipv4.route.v"),
    ] {
        for (file, whose) in [
            (
                format!(
                    "[namespace.n]\nadopt = {{ pid = 7 }}\n[namespace.n.interface.{name}]\nlink = 'host:h'\n"
                ),
                "an adopted namespace",
            ),
            (format!("[namespace.n]\n\n[namespace.host.interface.{name}]\nlink = 'n:e'\n"), "the host"),
        ] {
            let text = format!("{file}sysctls = {{ '{key}' = 1 }}\n");
            check(&[(&text, &format!("5:13 `{key}` would change {whose}"), "only settings of")]);
        }
    }
    check(&[
        (
            "[namespace.n]\nsysctls = { 'net.ipv4.conf.eth1.rp_filter' = 0 }\n[namespace.n.interface.eth0]\nlink = 'host:v'\n",
            "2:13 `net.ipv4.conf.eth1.rp_filter` is of an interface that `n` does not have: `eth1`",
            "did you mean `eth0`?",
        ),
        (
            "[bridge.b]\n[group.g]\ncount = 1\nbridge = 'b'\nsysctls = { 'net.ipv4.conf.b.rp_filter' = 0 }\n",
            "5:13 `net.ipv4.conf.b.rp_filter` is of an interface that `g0` does not have: `b`",
            "declare the interface",
        ),
        (
            "[namespace.n]\nsysctls = { 'net.ipv4.conf.e.x' = 0 }\n[namespace.n.interface.e]\nlink = 'host:v'\n\
             sysctls = { 'net/ipv4/conf/e/x' = 1 }\n",
            "5:13 `net.ipv4.conf.e.x` is set twice",
            "keep one",
        ),
        (
            "[namespace.n.interface.e]\nlink = 'host:v'\ndad = true\nsysctls = { 'net.ipv6.conf.e.accept_dad' = 1 }\n",
            "3:7 `dad` and `net.ipv6.conf.e.accept_dad` are both set",
            "keep one",
        ),
    ]);
    let long = format!("[namespace.n.sysctls]\n'net.x' = '{}'\n", "x".repeat(1025));
    check(&[(&long, "2:11 the value is 1025 bytes long, and 1024 is the most", "shorten")]);
}

#[test]
fn what_is_there_twice() {
    check_interface(&[
        (
            "link = 'br0'\naddresses = ['10.0.0.2/24', '10.0.0.2/16']\n",
            "4:29 address 10.0.0.2 is used twice",
            "of its own",
        ),
        (
            "link = 'br0'\naddresses = ['fe80::1/64']\n[namespace.n.interface.e]\nlink = 'br0'\naddresses = ['fe80::1/64']\n",
            "7:14 address fe80::1 is used twice",
            "of its own",
        ),
        (
            "link = 'br0'\nmac = '02:00:00:00:00:01'\n[namespace.n.interface.e]\nlink = 'br0'\nmac = '02:00:00:00:00:01'\n",
            "7:7 MAC address 02:00:00:00:00:01 is used twice",
            "of its own",
        ),
    ]);
    check(&[(
        "[namespace.n.interface.e]\nlink = 'e'\n[bridge.e]\nnamespace = 'n'\n",
        "3:9 `n` would have two devices called `e`",
        "rename one",
    )]);
}

#[test]
fn limits() {
    let bridges: String = (0..65).map(|n| format!("[bridge.b{n}]\n")).collect();
    check(&[(&bridges, "65:9 `bridge` of the file has 65 entries, and 64 is the most", "in two")]);
    let ports: String = (0..1024)
        .map(|n| format!("[namespace.n{n}.interface.e]\nlink = 'b'\n"))
        .chain([String::from("[bridge.b]\n")])
        .collect();
    check(&[(&ports, "2049:9 bridge `b` has 1024 ports, and Linux gives one at most 1023", "two bridges")]);
    let addresses: Vec<String> = (1..=65).map(|n| format!("'10.0.0.{n}/24'")).collect();
    let text = format!("[bridge.b]\naddresses = [\n{}\n]\n", addresses.join(",\n"));
    check(&[(&text, "67:1 `addresses` of a bridge has 65 entries, and 64 is the most", "in two")]);
}

#[test]
fn expectations() {
    let row = |keys: &str, fault: &str, hint: &str| {
        let text = format!(
            "[bridge.br0]\n[bridge.plain]\ndatapath = 'bridge'\n\
             [namespace.ns0.interface.eth0]\nlink = 'br0'\n[namespace.ns1.interface.eth0]\nlink = 'plain'\n\
             [[expect]]\n{keys}\n"
        );
        check(&[(&text, fault, hint)]);
    };
    row("from = 'ns0'\nto = 'ns2'", "10:6 there is no namespace `ns2`", "did you mean `ns");
    row("from = 'web'\nto = 'ns1'", "9:8 there is no namespace `web`", "declare it");
    row("from = 'ns0'\nto = 'ns0'", "10:6 `ns0` reaches itself without the lab", "another host");
    row(
        "from = 'ns0'\nto = 'host'",
        "10:6 an expectation is about hosts of the lab, and `host` is the machine",
        "address of the machine",
    );
    row("from = 'ns0'\nto = '0.0.0.0'", "10:6 `0.0.0.0` is the address of no host", "one interface");
    row("from = 'ns0'", "8:1 an expectation without `to`", "[[expect]] with from");
    row("from = 'ns0'\nto = 'ns1'\nport = 0", "11:8 `port` cannot be 0", "from 1 to 65535");
    row("from = 'ns0'\nto = 'ns1'\nwithin = '5'", "11:10 `5` is no time", "\"5s\", \"500ms\" or \"2m\"");
    row("from = 'ns0'\nto = 'ns1'\nwithin = '11m'", "11:10 `within` cannot be 11m", "10ms to 10m");
    row("from = 'ns0'\nto = 'ns1'\nwithin = '1ms'", "11:10 `within` cannot be 1ms", "10ms to 10m");
    row("from = 'ns0'\nto = 'ns1'\nwithin = '-5s'", "11:10 `-5s` is no time", "with its unit");
    row("from = 'ns0'\nto = 'ns1'\npath = 'slow'", "11:8 there is no path `slow`", "\"fast\"");
    row(
        "from = 'ns0'\nto = 'ns1'\npath = 'fast'",
        "11:8 `ns1` has no interface with a fast path",
        "leave `path` out",
    );
    row(
        "from = 'ns0'\nto = '10.0.0.1'\npath = 'fast'",
        "11:8 `10.0.0.1`, which is no host of the lab, has no interface with a fast path",
        "leave `path` out",
    );
    row("from = 'ns0'\nto = 'ns1'\nwhen = 1", "11:1 `when` is not a key of an expectation", "`within`");
}

#[test]
fn name_servers() {
    let row =
        |keys: &str, fault: &str, hint: &str| check(&[(&format!("[namespace.ns0]\n{keys}\n"), fault, hint)]);
    row(
        "nameservers = ['10.0.0.300']",
        "2:16 `10.0.0.300` is not the IP address of a host",
        "[\"10.0.0.53\"]",
    );
    row("nameservers = ['::']", "2:16 `::` is not the IP address of a host", "IPv4 or IPv6");
    row(
        "nameservers = '10.0.0.1'",
        "2:15 `nameservers`: expected an array of strings, found string",
        "[\"10.0.0.1\"]",
    );
    row("search = ['lab.test']", "2:10 `search` without `nameservers`", "leave `search` out");
    row("nameservers = ['10.0.0.53']\nsearch = ['a b']", "3:11 `a b` is no domain", "\"lab.test\"");
    row("nameservers = ['10.0.0.53']\nsearch = ['a..b']", "3:11 `a..b` is no domain", "\"lab.test\"");
    row(
        "nameservers = ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4']",
        "2:52 `nameservers` of a namespace has 4 entries, and 3 is the most",
        "",
    );
    row(
        "adopt = { pid = 1 }\nnameservers = ['10.0.0.53']",
        "3:15 `nameservers` of an adopted namespace",
        "resolv.conf of their own",
    );
}
