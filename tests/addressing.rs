//! What belongs to the addressing of a host beside its interfaces' addresses: its loopback, routing rules, permanent
//! neighbours and autoconfiguration. Each is made, put back and removed.

use crate::harness::{Host, SLACK, wait_until};

/// Two routers with addresses on their loopbacks, and a host with two ways to the second.
const ROUTERS: &str = r#"
[bridge.br0]

[namespace.r1]
routes = [{ to = "10.255.0.2/32", via = "10.0.0.2", src = "10.255.0.1" }]

[namespace.r1.interface.lo]
addresses = ["10.255.0.1/32", "fd00:255::1/128"]

[namespace.r1.interface.eth0]
link = "br0"
addresses = ["10.0.0.1/24"]

[namespace.r2]
routes = [{ to = "10.255.0.1/32", via = "10.0.0.1", src = "10.255.0.2" }]

[namespace.r2.interface.lo]
addresses = ["10.255.0.2/32"]

[namespace.r2.interface.eth0]
link = "br0"
addresses = ["10.0.0.2/24"]
"#;

/// The addresses of a device, in order.
fn addresses(host: &Host, namespace: &str, device: &str) -> Vec<String> {
    let shown = host.run(format!("ip -n {namespace} -o address show dev {device}")).ok().stdout;
    let mut all: Vec<String> =
        shown.lines().filter_map(|line| line.split_whitespace().nth(3)).map(str::to_owned).collect();
    all.sort();
    all
}

#[test]
fn a_loopback_has_the_addresses_of_the_file() {
    let host = Host::new();
    let lab = host.lab("empty").named("loopbacks").and(ROUTERS).up();
    let expected = ["10.255.0.1/32", "127.0.0.1/8", "::1/128", "fd00:255::1/128"];
    assert_eq!(addresses(&host, "r1", "lo"), expected);
    // The echo request has the source address of the route, which is on the loopback.
    lab.reaches("r1", "10.255.0.2");
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
    let _ = host.vethpath("show").ok().stdout_has("10.255.0.1/32");
    // The route goes with its source address.
    let _ = host.run("ip -n r1 address del 10.255.0.1/32 dev lo").ok();
    let _ = host.run("ip -n r1 address add 10.254.0.1/32 dev lo").ok();
    let planned = host.vethpath(format!("plan {}", lab.file)).ok();
    let _ = planned
        .stdout_has("+ create address 10.255.0.1/32 on r1:lo")
        .stdout_has("+ create route 10.255.0.2/32");
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
    lab.reaches("r1", "10.255.0.2");
    // What the file no longer has goes, and what others have added stays.
    let less =
        host.lab("empty").named("loopbacks").and(&ROUTERS.replace(", \"fd00:255::1/128\"", "")).write();
    let _ =
        host.vethpath(format!("plan {less}")).ok().stdout_has("- delete address fd00:255::1/128 on r1:lo");
    let _ = host.vethpath(format!("up {less}")).ok();
    assert_eq!(addresses(&host, "r1", "lo"), ["10.254.0.1/32", "10.255.0.1/32", "127.0.0.1/8", "::1/128"]);
    lab.down();
    host.finish();
}

#[test]
fn the_loopbacks_of_others_are_refused() {
    let host = Host::new();
    let _ = host.run("ip netns add theirs").ok();
    for (table, message) in [
        (
            "[namespace.host.interface.lo]\naddresses = [\"10.255.0.1/32\"]\n",
            "the loopback of the host is left as it is",
        ),
        (
            "[namespace.theirs]\nadopt = { path = \"/run/netns/theirs\" }\n[namespace.theirs.interface.lo]\n",
            "the loopback of an adopted namespace is left as it is",
        ),
        ("[namespace.a.interface.lo]\nlink = \"br0\"\n", "`link` is not a key of the loopback"),
    ] {
        let file = host.lab("empty").named("refused").and(table).write();
        let _ = host.vethpath(format!("up {file}")).fails(1).stderr_has(message);
    }
    let _ = host.run("ip netns del theirs").ok();
    host.finish();
}

const RULES: &str = r#"
[bridge.br0]

[namespace.h]
routes = [{ to = "10.9.0.0/24", via = "10.0.0.2", table = 7 }]

[[namespace.h.rule]]
priority = 100
table = 7
from = "10.0.0.1/32"

[[namespace.h.rule]]
priority = 200
table = 8
iif = "eth0"
fwmark = 0x10
fwmask = 0xff

[[namespace.h.rule]]
priority = 300
table = 1000
to = "fd00:9::/64"

[namespace.h.interface.eth0]
link = "br0"
addresses = ["10.0.0.1/24", "10.0.0.3/24", "fd00::1/64"]

[namespace.r.interface.lo]
addresses = ["10.9.0.1/32"]

[namespace.r.interface.eth0]
link = "br0"
addresses = ["10.0.0.2/24"]
"#;

/// The rules of a namespace, but for those of the kernel.
fn rules(host: &Host, namespace: &str, family: &str) -> Vec<String> {
    let shown = host.run(format!("ip -n {namespace} {family} rule show")).ok().stdout;
    let lines = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !["0:", "32766:", "32767:"].iter().any(|kernels| line.starts_with(kernels))).collect()
}

#[test]
fn rules_are_made_and_put_back_and_go_with_the_file() {
    let host = Host::new();
    let lab = host.lab("empty").named("rules").and(RULES).up();
    let marked = "200: from all fwmark 0x10/0xff iif eth0 lookup 8 proto static";
    let of_source = "100: from 10.0.0.1 lookup 7 proto static";
    assert_eq!(rules(&host, "h", "-4"), [of_source, marked]);
    assert_eq!(rules(&host, "h", "-6"), [marked, "300: from all to fd00:9::/64 lookup 1000 proto static"]);
    // By the source address alone, there is a way or none.
    let ping = |from: &str| host.run(format!("ip netns exec h ping -c 1 -W 2 -I {from} 10.9.0.1"));
    wait_until(SLACK, || {
        let output = ping("10.0.0.1");
        if output.succeeded() { Ok(()) } else { Err(output.to_string()) }
    });
    assert!(!ping("10.0.0.3").succeeded());
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
    let _ = host.run("ip -n h rule del priority 100").ok();
    let _ = host.run("ip -n h -6 rule del priority 200").ok();
    let _ = host.run("ip -n h rule add priority 50 from 10.0.0.3 lookup 9").ok();
    let planned = host.vethpath(format!("plan {}", lab.file)).ok();
    let _ = planned
        .stdout_has("+ create rule 100: from 10.0.0.1/32 lookup 7 in h")
        .stdout_has("+ create rule IPv6 200: from all fwmark 0x10/0xff iif eth0 lookup 8 in h");
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
    let theirs = "50: from 10.0.0.3 lookup 9";
    assert_eq!(rules(&host, "h", "-4"), [theirs, of_source, marked]);
    let (before, rest) = RULES.split_once("[[namespace").expect("a rule");
    let (_, after) = rest.split_once("[namespace.h.interface").expect("its end");
    let less =
        host.lab("empty").named("rules").and(&format!("{before}[namespace.h.interface{after}")).write();
    let _ = host
        .vethpath(format!("plan {less}"))
        .ok()
        .stdout_has("- delete rule 100: from 10.0.0.1/32 lookup 7 in h");
    let _ = host.vethpath(format!("up {less}")).ok();
    assert_eq!((rules(&host, "h", "-4"), rules(&host, "h", "-6")), (vec![theirs.to_owned()], Vec::new()));
    lab.down();
    host.finish();
}

const NEIGHBOURS: &str = r#"
[bridge.br0]

[namespace.h.interface.eth0]
link = "br0"
addresses = ["10.0.0.1/24", "fd00::1/64"]
neighbours = [
    { address = "10.0.0.9", mac = "02:00:00:00:00:09" },
    { address = "fd00::9", mac = "02:00:00:00:00:09" },
]
"#;

/// The permanent neighbours of a host.
fn permanent(host: &Host) -> Vec<String> {
    let shown = host.run("ip -n h neigh show nud permanent").ok().stdout;
    let mut all: Vec<String> =
        shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    all.sort();
    all
}

#[test]
fn permanent_neighbours_are_made_and_put_back_and_go_with_the_file() {
    let host = Host::new();
    let lab = host.lab("empty").named("neighbours").and(NEIGHBOURS).up();
    let made = [
        "10.0.0.9 dev eth0 lladdr 02:00:00:00:00:09 PERMANENT",
        "fd00::9 dev eth0 lladdr 02:00:00:00:00:09 PERMANENT",
    ];
    assert_eq!(permanent(&host), made);
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
    for (by_hand, planned) in [
        ("neigh del 10.0.0.9 dev eth0", "+ create neighbour 10.0.0.9 lladdr 02:00:00:00:00:09 on h:eth0"),
        (
            "neigh replace fd00::9 lladdr 02:00:00:00:00:08 dev eth0 nud permanent",
            "~ change neighbour fd00::9 on h:eth0: 02:00:00:00:00:08 -> 02:00:00:00:00:09",
        ),
        // The kernel removes all neighbours with either of these.
        ("link set eth0 down", "+ create neighbour fd00::9 lladdr 02:00:00:00:00:09 on h:eth0"),
        (
            "link set eth0 address 02:00:00:00:00:77",
            "+ create neighbour 10.0.0.9 lladdr 02:00:00:00:00:09 on h:eth0",
        ),
    ] {
        let _ = host.run(format!("ip -n h {by_hand}")).ok();
        let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has(planned);
        let _ = host.vethpath(format!("up {}", lab.file)).ok();
        let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
        assert_eq!(permanent(&host), made, "{by_hand}");
    }
    let second = "    { address = \"fd00::9\", mac = \"02:00:00:00:00:09\" },\n";
    let less = host.lab("empty").named("neighbours").and(&NEIGHBOURS.replace(second, "")).write();
    let _ = host.run("ip -n h neigh add 10.0.0.8 lladdr 02:00:00:00:00:08 dev eth0 nud permanent").ok();
    let _ = host.vethpath(format!("up {less}")).ok();
    assert_eq!(permanent(&host), ["10.0.0.8 dev eth0 lladdr 02:00:00:00:00:08 PERMANENT", made[0]]);
    lab.down();
    host.finish();
}

#[test]
fn autoconf_of_an_interface_is_set_and_restored() {
    let host = Host::new();
    let text = "[bridge.br0]\n[namespace.h.interface.eth0]\nlink = \"br0\"\naccept_ra = true\nautoconf = false\n\
                [namespace.i.interface.eth0]\nlink = \"h:cable\"\n[namespace.h.interface.cable]\nlink = \"i:eth0\"\nautoconf = false\n";
    let lab = host.lab("empty").named("autoconf").and(text).up();
    let value = |namespace: &str, device: &str| {
        let read = format!("ip netns exec {namespace} sysctl -n net.ipv6.conf.{device}.autoconf");
        host.run(read).ok().stdout.trim().to_owned()
    };
    assert_eq!(
        (value("h", "eth0"), value("h", "cable"), value("i", "eth0")),
        ("0".into(), "0".into(), "1".into())
    );
    let _ = host.run("ip netns exec h sysctl -w net.ipv6.conf.eth0.autoconf=1").ok();
    let planned = host.vethpath(format!("plan {}", lab.file)).ok();
    let _ = planned.stdout_has("~ change sysctl h: net.ipv6.conf.eth0.autoconf 1 -> 0");
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
    let less = host.lab("empty").named("autoconf").and(&text.replace("autoconf = false\n", "")).write();
    let _ = host.vethpath(format!("up {less}")).ok();
    assert_eq!((value("h", "eth0"), value("h", "cable")), ("1".into(), "1".into()));
    lab.down();
    host.finish();
}

/// The kernel does not report a subnet of all addresses, and counts a rule with fewer conditions as one with more.
#[test]
fn rules_of_all_addresses_and_rules_alike_are_each_there() {
    let host = Host::new();
    let text = "[namespace.h]\n\
                [[namespace.h.rule]]\npriority = 100\ntable = 7\nfrom = \"10.0.0.1/32\"\n\
                [[namespace.h.rule]]\npriority = 100\ntable = 7\nfrom = \"0.0.0.0/0\"\n";
    let lab = host.lab("empty").named("rules").and(text).up();
    let (one, all) = ("100: from 10.0.0.1 lookup 7 proto static", "100: from all lookup 7 proto static");
    assert_eq!((rules(&host, "h", "-4"), rules(&host, "h", "-6")), (vec![one.into(), all.into()], vec![]));
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
    lab.down();
    host.finish();
}
