//! One file for each kind of fault: its message, position and hint.

use super::{
    super::{Source, expand, read},
    bad, good, show,
};

/// Each row: a file, its only fault as `line:column message`, and a part of the hint.
pub(super) fn check(rows: &[(&str, &str, &str)]) {
    for (text, fault, hint) in rows {
        let faults = bad(text);
        let shown = show(&faults, text);
        assert_eq!(faults.faults.len(), 1, "in\n{text}\n{shown}");
        let (line, column) = faults.faults[0].position(text);
        assert_eq!(format!("{line}:{column} {}", faults.faults[0].message), *fault, "in\n{text}\n{shown}");
        assert!(faults.faults[0].hint.contains(hint), "no {hint:?} in\n{shown}");
        assert!(shown.contains(&format!("topo.toml:{line}:{column}\n")), "{shown}");
        assert!(shown.contains("= hint: "), "{shown}");
    }
}

/// Like [`check`], below the header of an interface on bridge `br0` (lines 1 and 2).
pub(super) fn check_interface(rows: &[(&str, &str, &str)]) {
    for (text, fault, hint) in rows {
        let text = format!("[bridge.br0]\n[namespace.ns0.interface.eth0]\n{text}");
        check(&[(&text, fault, hint)]);
    }
}

#[test]
fn syntax() {
    check(&[
        ("[bridge.b]\nmtu = \n", "2:7 not TOML: a key without a value", "after the `=`"),
        (
            "[bridge.b]\naddresses = [10.0.0.1/24]\n",
            "2:14 not TOML: `10.0.0.1/24` is no number, not true or false, and not in quotes",
            "write \"10.0.0.1/24\"",
        ),
        (
            "[bridge.b]\ntrunks = [\"c\"\nmtu = 1\n[x]\n",
            "3:1 TOML syntax error: unclosed array or inline table above this line",
            "`]`",
        ),
        (
            "[bridge.b]\ntrunks = [\"c]\nmtu = 1\n[x]\n",
            "2:14 not TOML: invalid basic string, expected `\"`",
            "double quotes",
        ),
        (
            "[bridge.b]\ntrunks = [\"c\",\nmtu = 1500\n",
            "3:1 not TOML: `mtu` is no number, not true or false, and not in quotes",
            "write \"mtu\"",
        ),
        (
            "[bridge.b]\nmac = 02:00:00:00:00:01\n",
            "2:7 not TOML: `02:00:00:00:00:01` is no number, not true or false, and not in quotes",
            "write \"02:00:00:00:00:01\"",
        ),
        ("[bridge.b]\nmac = \"02\n", "2:10 not TOML: invalid basic string, expected `\"`", "double quotes"),
        ("[namespace.n]\nadopt = { pid = 1, pid = 2 }\n", "2:20 `pid` is there twice", "keep one"),
        ("[bridge.br0\n", "1:12 not TOML: unclosed table, expected `]`", "[namespace.ns0]"),
        ("[bridge.br0]\nmtu = 1500\nmtu = 1500\n", "3:1 `mtu` is there twice", "keep one"),
        ("[bridge.br0]\n# [68, 65535)\nmtu = 1500\nmtu = 1500\n", "4:1 `mtu` is there twice", "keep one"),
        ("[bridge.br0]\n[bridge.br0]\n", "2:9 `br0` is there twice", "keep one"),
    ]);
    let text = "[namespace.ns0\nx y z\n[bridge.br0]\nmtu = 1\nlink = ]\n";
    let lines: Vec<usize> = bad(text).faults.iter().map(|fault| fault.position(text).0).collect();
    assert_eq!(lines, [1, 2, 4, 5], "{}", show(&bad(text), text));
}

#[test]
fn keys() {
    check(&[
        ("bridges = 1\n", "1:1 `bridges` is not a key of the file", "did you mean `bridge`?"),
        (
            "[bridge.b]\nvlan = true\n",
            "2:1 `vlan` is not a key of a bridge",
            "did you mean `vlan_filtering`?",
        ),
        (
            "[namespace.n]\nzzzzzz = 1\n",
            "2:1 `zzzzzz` is not a key of a namespace",
            "are `gateway`, `routes`, `rule`, `sysctls`, `nameservers`, `search`, `adopt` and `interface`",
        ),
        (
            "[namespace.n]\nadopt = { pid = 1, name = 'x' }\n",
            "2:20 `name` is not a key of `adopt`",
            "`pid`, `path`, `container` and `runtime`",
        ),
    ]);
    check_interface(&[(
        "link = 'br0'\nip = 1\n",
        "4:1 `ip` is not a key of an interface",
        "`link`, `addresses`",
    )]);
}

#[test]
fn metrics() {
    let write = "write metrics = \"127.0.0.1:9466\"";
    check(&[
        ("metrics = 9466\n", "1:11 `metrics`: expected a string, found integer", write),
        ("metrics = '127.0.0.1'\n", "1:11 `127.0.0.1` is not an IP address with a port", write),
        ("\nmetrics = 'localhost:9466'\n", "2:11 `localhost:9466` is not an IP address with a port", write),
        ("metrics = '127.0.0.1:65536'\n", "1:11 `127.0.0.1:65536` is not an IP address with a port", write),
        ("metrics = '127.0.0.1:0'\n", "1:11 `127.0.0.1:0` has no port", "a port from 1 to 65535"),
        (
            "metrics = '0.0.0.0:9466'\n",
            "1:11 `0.0.0.0:9466` is not a loopback address",
            "metrics --listen 0.0.0.0:9466",
        ),
        ("metrics = '[::]:9466'\n", "1:11 `[::]:9466` is not a loopback address", write),
        (
            "metrics = '[::ffff:127.0.0.1]:9466'\n",
            "1:11 `[::ffff:127.0.0.1]:9466` is not a loopback address",
            write,
        ),
    ]);
    for address in ["127.0.0.1:9466", "127.255.255.255:1", "[::1]:65535"] {
        let lab = good(&format!("name = 'lab'\nmetrics = '{address}'\n"));
        assert_eq!(lab.metrics.map(|found| found.to_string()).as_deref(), Some(address));
        assert_eq!(good(&expand(&lab).to_string()), lab);
    }
}

#[test]
fn types() {
    check(&[
        ("name = 3\n", "1:8 `name`: expected a string, found integer", "name = \"three-hosts\""),
        ("bridge = []\n", "1:10 `bridge`: expected a table, found array", "[bridge.br0]"),
        ("[bridge]\nmtu = 3\n", "2:1 `bridge.mtu`: expected a table, found integer", "[bridge.br0]"),
        (
            "[bridge.b]\naddresses = 3\n",
            "2:13 `addresses`: expected an array of strings, found integer",
            "addresses = [",
        ),
        (
            "[bridge.b]\naddresses = '10.0.0.1/8'\n",
            "2:13 `addresses`: expected an array of strings, found string",
            "addresses = [\"10.0.0.1/8\"]",
        ),
        (
            "[bridge.b]\ntrunks = [true]\n",
            "2:11 `trunks`: expected an array of strings, found boolean",
            "trunks = [",
        ),
        ("[bridge.b]\nstp = 'yes'\n", "2:7 `stp`: expected true or false, found string", "stp = true"),
        ("[bridge.b]\nmtu = 1.5\n", "2:7 `mtu`: expected an integer, found float", "mtu = 1500"),
        (
            "[namespace.n]\nroutes = 'x'\n",
            "2:10 `routes`: expected an array of tables, found string",
            "to = ",
        ),
        (
            "[namespace.n]\ngateway = 1\n",
            "2:11 `gateway`: expected a string or an array of two, found integer",
            "gateway = ",
        ),
    ]);
}

#[test]
fn names() {
    check(&[
        (
            "name = 'a.b'\n",
            "1:8 `a.b` has '.' in it, and a lab name is made of letters, digits, `-`, `_`",
            "`a-b` would do",
        ),
        (
            "[bridge.sixteen-letters-]\n",
            "1:9 `sixteen-letters-` is 16 bytes long, and an interface name has at most 15",
            "15 bytes",
        ),
        ("[bridge.lo]\n", "1:9 `lo` has a meaning of its own and cannot be an interface name", "another"),
        ("[namespace.'']\n", "1:12 a namespace name cannot be empty", "letters"),
        (
            "[namespace.'a/b']\n",
            "1:12 `a/b` has '/' in it, and a namespace name is made of letters, digits, `-`, `_` and `.`",
            "`a-b`",
        ),
        ("[namespace.-a]\n", "1:12 a namespace name cannot start with `-`: `-a`", "letter"),
    ]);
    let source = Source { path: "a b.toml", text: "" };
    for stem in [Some("a b"), None] {
        let faults = read(source, stem).expect_err("no name");
        assert!(faults.render(source, false).contains("name = \"three-hosts\""), "{faults:?}");
    }
}

#[test]
fn addresses() {
    let row = |address: &str, message: &str, hint: &str| {
        let text = format!("link = 'br0'\naddresses = ['{address}']\n");
        check_interface(&[(&text, &format!("4:14 {message}"), hint)]);
    };
    row("10.0.0.5", "`10.0.0.5` has no prefix length", "\"10.0.0.5/24\"");
    row("fd00::5", "`fd00::5` has no prefix length", "\"fd00::5/64\"");
    row("10.0.0.5/33", "`10.0.0.5/33` has no usable prefix length: `33`", "0 to 32");
    row("10.0.0.300/8", "`10.0.0.300/8` is not an IP address", "10.0.0.1/24");
    row("10.0.0.0/24", "`10.0.0.0/24` is the address of the subnet, not of a host in it", "10.0.0.1/24");
    row("fd00::/64", "`fd00::/64` is the address of the subnet, not of a host in it", "fd00::1/64");
    row("10.0.0.255/24", "`10.0.0.255/24` is the broadcast address of its subnet", "10.0.0.1/24");
    row("10.0.0.1/0", "`10.0.0.1/0` puts every address there is on one link", "/24");
    for (address, what) in [
        ("224.0.0.1/24", "a multicast address"),
        ("ff02::1/64", "a multicast address"),
        ("0.0.0.0/24", "the unspecified address"),
        ("::/64", "the unspecified address"),
        ("127.0.0.1/8", "a loopback address"),
        ("::1/128", "a loopback address"),
        ("255.255.255.255/32", "the broadcast address"),
    ] {
        row(address, &format!("`{address}` cannot be an interface's address: it is {what}"), "unicast");
    }
    let mapped = "`::ffff:10.0.0.1/120` cannot be an interface's address: it is an IPv4-mapped address";
    row("::ffff:10.0.0.1/120", mapped, "10.0.0.1");
}

#[test]
fn numbers() {
    check(&[
        ("[bridge.b]\nmtu = 67\n", "2:7 `mtu` cannot be 67 bytes", "68 to 65535 bytes"),
        ("[bridge.b]\nmtu = 65536\n", "2:7 `mtu` cannot be 65536 bytes", "68 to 65535 bytes"),
        (
            "[bridge.b]\nageing_time = 1000001\n",
            "2:15 `ageing_time` cannot be 1000001 seconds",
            "0 to 1000000 seconds",
        ),
        (
            "[bridge.b]\nmtu = 1279\naddresses = ['fd00::1/64']\n",
            "2:7 an MTU of 1279 bytes is too small for IPv6",
            "at least 1280",
        ),
        (
            "[bridge.b]\nmtu = 1000\n[namespace.n.interface.e]\nlink = 'b'\naddresses = ['fd00::1/64']\n",
            "2:7 an MTU of 1000 bytes is too small for IPv6",
            "at least 1280",
        ),
        ("[namespace.n]\nadopt = { pid = 0 }\n", "2:17 `pid` cannot be 0", "1 to 4194304"),
    ]);
    check_interface(&[
        ("link = 'br0'\nmac = '02:00'\n", "4:7 `02:00` is not a MAC address", "six pairs"),
        (
            "link = 'br0'\nmac = '01:00:00:00:00:00'\n",
            "4:7 `01:00:00:00:00:00` cannot be the address of an interface: it is a group address",
            "unicast",
        ),
    ]);
}

#[test]
fn bridges() {
    check(&[
        ("[bridge.b]\nnat = true\n", "2:7 `nat` is on, and bridge `b` has no address", "addresses = "),
        ("[bridge.b]\ndatapath = 'ct'\n", "2:12 there is no datapath `ct`", "did you mean \"tc\"?"),
        ("[bridge.b]\ndatapath = 'xpd'\n", "2:12 there is no datapath `xpd`", "did you mean \"xdp\"?"),
        (
            "[namespace.n.interface.e]\nlink = 'host:v'\ndatapath = 'xdp'\n",
            "3:12 interface `e` is the end of a cable, and has a datapath",
            "leave `datapath` out",
        ),
        (
            "[bridge.b]\nnamespace = 'fabrik'\n[namespace.fabric]\n",
            "2:13 there is no namespace `fabrik`",
            "did you mean `fabric`?",
        ),
        ("[bridge.b]\nnamespace = 'x'\n", "2:13 there is no namespace `x`", "[namespace.x]"),
        ("[bridge.b]\ntrunks = ['b']\n", "2:11 bridge `b` has a trunk to itself", "other one"),
        ("[bridge.b]\ntrunks = ['cc']\n[bridge.c]\n", "2:11 there is no bridge `cc`", "did you mean `c`?"),
        ("[bridge.b]\ntrunks = ['c', 'c']\n[bridge.c]\n", "2:16 a second trunk from `b` to `c`", "loop"),
        (
            "[bridge.b]\ntrunks = ['c', 'd']\n[bridge.c]\ntrunks = ['d']\n[bridge.d]\n",
            "4:11 this trunk closes a loop: `c` and `d` are joined already",
            "stp = true",
        ),
    ]);
}

#[test]
fn links() {
    check_interface(&[
        ("", "2:26 interface `eth0` has no link", "link = \"br0\""),
        ("link = 'br1'\n", "3:8 there is no bridge `br1`", "did you mean `br0`?"),
        ("link = 'ns0'\n", "3:8 there is no bridge `ns0`", "\"ns0:eth0\""),
        ("link = 'ns0:eth0'\n", "3:8 `ns0:eth0` is linked to itself", "two ends"),
        ("link = 'ns9:eth0'\n", "3:8 there is no namespace `ns9`", "did you mean `ns0`?"),
        ("link = 'host:br0'\n", "3:8 `host:br0` is a bridge", "link = \"br0\""),
        (
            "link = 'host:a/b'\n",
            "3:8 `a/b` has '/' in it, and an interface name is made of letters, digits, `-`, `_` and `.`",
            "`a-b`",
        ),
        (
            "link = 'ns1:e'\n[namespace.ns1.interface.e]\nlink = 'br0'\n",
            "3:8 `ns0:eth0` is linked to `ns1:e`, which leads elsewhere",
            "link = \"ns0:eth0\"",
        ),
        (
            "link = 'host:v'\n[namespace.n.interface.e]\nlink = 'host:v'\n",
            "5:8 `host:v` is the end of two cables",
            "its own",
        ),
        (
            "link = 'n:e'\nmtu = 1400\n[namespace.n.interface.e]\nlink = 'ns0:eth0'\nmtu = 1500\n",
            "7:7 the ends of a cable differ in MTU: 1400 and 1500 bytes",
            "the same at both",
        ),
        (
            "link = 'br0'\n[namespace.host.interface.v]\nlink = 'br0'\n",
            "5:8 `host:v` is the host's, and linked to bridge `br0`",
            "only cables",
        ),
    ]);
}

#[test]
fn the_host() {
    check(&[
        (
            "[namespace.host]\ngateway = '10.0.0.1'\n",
            "2:1 `gateway` cannot be set for the host",
            "[namespace.host.interface.v0]",
        ),
        ("[namespace.host]\nsysctls = {}\n", "2:1 `sysctls` cannot be set for the host", "left as it is"),
        ("[namespace.host]\nx = 1\n", "2:1 `x` is not a key of the host", "left as it is"),
        (
            "[namespace.n]\n[namespace.host.interface.v]\nlink = 'n:e'\nsysctls = { 'net.ipv4.ip_forward' = 1 }\n",
            "4:13 `net.ipv4.ip_forward` would change the host",
            "net.ipv4.conf.v.rp_filter",
        ),
    ]);
}
