//! `fabric = true`: the bridges are in a namespace of the lab's, and the machine reaches them as if they were its own.

use crate::{
    harness::{Host, SLACK, TIMEOUT, wait_until},
    hazards::B,
};

/// Two hosts with both families behind a router that masquerades.
const LAB: &str = "name = \"demo\"\nfabric = true\n\
    [bridge.br0]\naddresses = [\"10.71.0.1/24\", \"fd00:71::1/64\"]\nnat = true\n\
    [namespace.a]\ngateway = [\"10.71.0.1\", \"fd00:71::1\"]\n\
    [namespace.a.interface.eth0]\nlink = \"br0\"\naddresses = [\"10.71.0.11/24\", \"fd00:71::11/64\"]\n\
    [namespace.b]\ngateway = [\"10.71.0.1\", \"fd00:71::1\"]\n\
    [namespace.b.interface.eth0]\nlink = \"br0\"\naddresses = [\"10.71.0.12/24\", \"fd00:71::12/64\"]\n";

/// The fabric of that lab.
const FABRIC: &str = "demo-fabric";

/// Addresses of hosts, and of what is outside of the machine. The latter has no route to the lab.
const HOST_A: [&str; 2] = ["10.71.0.11", "fd00:71::11"];
const HOST_B: [&str; 2] = ["10.71.0.12", "fd00:71::12"];
const OUTSIDE: [&str; 2] = ["198.51.100.1", "2001:db8:f::1"];
const MACHINE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

fn run_each<const N: usize>(host: &Host, commands: [&str; N]) {
    for command in commands {
        let _ = host.run(command).ok();
    }
}

/// A machine with an uplink of its own, by which it reaches a namespace that stands for all other networks.
fn connected_host() -> Host {
    let mut host = Host::new();
    run_each(
        &host,
        [
            "ip netns add outside",
            "ip link add up0 type veth peer name down0 netns outside",
            "ip addr add 192.0.2.1/24 dev up0",
            "ip addr add 2001:db8::1/64 dev up0 nodad",
            "ip link set up0 up",
            "ip -n outside link set lo up",
            "ip -n outside addr add 192.0.2.2/24 dev down0",
            "ip -n outside addr add 2001:db8::2/64 dev down0 nodad",
            "ip -n outside addr add 198.51.100.1/32 dev lo",
            "ip -n outside addr add 2001:db8:f::1/128 dev lo",
            "ip -n outside link set down0 up",
            "ip route add default via 192.0.2.2",
            "ip route add default via 2001:db8::2",
        ],
    );
    host.wait_for_link("up0");
    wait_until(SLACK, || match host.run("ip -6 addr").ok().stdout {
        shown if shown.contains("tentative") => Err(shown),
        _ => Ok(()),
    });
    host.set_baseline();
    host
}

fn disconnect(mut host: Host) {
    run_each(&host, ["ip link del up0", "ip netns del outside"]);
    host.set_baseline();
    host.finish();
}

/// All that the lab may have changed on the machine, without the state of carriers.
fn state(host: &Host) -> String {
    let settings = "sysctl -a -r '^net\\.ipv[46]\\.(ip_forward|conf\\..*\\.(forwarding|accept_ra|rp_filter|\
                    accept_redirects|send_redirects|disable_ipv6))'";
    [
        "ip addr",
        "ip -4 route show table all",
        "ip -6 route show table all",
        "ip rule",
        "ip -6 rule",
        "ip neigh show nud permanent",
        "nft list ruleset",
        settings,
    ]
    .map(|command| host.run(["sh", "-c", &format!("{command} | grep -v '^ *valid_lft'")]).stdout)
    .join("\n")
}

/// Checks that the machine is as it was before.
#[track_caller]
fn is_restored(host: &Host, before: &str, when: &str) {
    let now = state(host);
    let only = |one: &str, other: &str| {
        let lines = one.lines().filter(|line| !other.lines().any(|other| other == *line));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    assert!(now == before, "{when}, gone:\n{}--- new:\n{}", only(before, &now), only(&now, before));
}

#[track_caller]
fn pings(host: &Host, from: &str, to: &str) {
    let at = if from.is_empty() { String::new() } else { format!("ip netns exec {from} ") };
    let output = host.run(format!("{at}ping -n -q -c 2 -i 0.2 -W 5 {to}"));
    if !output.succeeded() {
        let around =
            ["ip route", "ip -6 route", "ip neigh", "nft list ruleset"].map(|show| host.run(show).stdout);
        let inside = ["ip route", "ip -6 route", "ip neigh", "ip addr"]
            .map(|show| host.run(format!("ip netns exec {FABRIC} {show}")).stdout);
        panic!("{from} to {to}: {output}\n{}\n--- fabric\n{}", around.join("\n"), inside.join("\n"));
    }
}

#[track_caller]
fn is_settled(host: &Host, file: &str) {
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("nothing to change");
    let _ = host.vethpath(format!("up {file}")).ok().stderr_has("nothing to change");
}

#[track_caller]
fn is_armed(host: &Host) {
    wait_until(SLACK, || {
        let stats = host.vethpath("stats demo --json").ok().json();
        let pairs = stats["pairs"].as_array().expect("pairs");
        match !pairs.is_empty() && pairs.iter().all(|pair| pair["state"] == "armed") {
            true => Ok(()),
            false => Err(format!("not all are armed: {stats:#}")),
        }
    });
}

/// Waits until pings between two hosts are fast.
#[track_caller]
fn is_fast(host: &Host) {
    let fast =
        || host.vethpath("stats demo --json").ok().json()["pairs"][0]["fast"]["tx"]["packets"].as_u64();
    wait_until(TIMEOUT, || {
        let before = fast();
        pings(host, "a", HOST_B[0]);
        if fast() > before { Ok(()) } else { Err(format!("no ping was fast: {before:?}")) }
    });
}

/// The machine's end of the uplink.
fn uplink(host: &Host) -> String {
    let links = host.json("ip -j link show type veth");
    let links = links.as_array().expect("a list");
    let mine = |link: &&serde_json::Value| {
        link["ifalias"].as_str().is_some_and(|alias| alias.starts_with("vethpath:demo host:"))
    };
    links.iter().find(mine).and_then(|link| link["ifname"].as_str()).expect("an uplink").to_owned()
}

/// The same file with and without a fabric, on a machine that checks source addresses strictly.
#[test]
fn machine_hosts_and_outside_reach_each_other_as_with_a_bridge_on_the_machine() {
    let host = connected_host();
    for scope in ["all", "default", "up0"] {
        let _ = host.run(format!("sysctl -q -w net.ipv4.conf.{scope}.rp_filter=1")).ok();
    }
    let before = state(&host);
    for fabric in [true, false] {
        let file = host.topology("demo", &LAB.replace("fabric = true", &format!("fabric = {fabric}")));
        let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("+ create nat vethpath-demo");
        let _ = host.vethpath(format!("up {file}")).ok();
        is_settled(&host, &file);
        assert_eq!(host.namespaces().contains(&FABRIC.to_owned()), fabric);
        for family in [0, 1] {
            pings(&host, "", HOST_A[family]);
            pings(&host, "", ["10.71.0.1", "fd00:71::1"][family]);
            pings(&host, "a", HOST_B[family]);
            pings(&host, "a", ["10.71.0.1", "fd00:71::1"][family]);
            pings(&host, "a", MACHINE[family]);
            pings(&host, "b", OUTSIDE[family]);
        }
        is_armed(&host);
        is_fast(&host);
        // What leaves the machine has its address, and what stays has the host's.
        let seen = host.spawn("ip netns exec outside timeout 20 tcpdump -n -l -c 1 -i down0 icmp");
        wait_until(SLACK, || match seen.output().contains("listening") {
            true => Ok(()),
            false => Err(format!("tcpdump does not listen: {}", seen.output())),
        });
        pings(&host, "a", OUTSIDE[0]);
        let _ = seen.wait(TIMEOUT).ok().stdout_has("IP 192.0.2.1 > 198.51.100.1: ICMP echo request");
        let _ = host.vethpath("down demo").ok();
        host.assert_restored("down");
        is_restored(&host, &before, &format!("fabric = {fabric}"));
    }
    disconnect(host);
}

/// The machine speaks to hosts from addresses of its own on the uplink, as it speaks from its bridge's address.
#[test]
fn a_machine_without_any_address_reaches_its_hosts() {
    let host = Host::new();
    let before = state(&host);
    let file = host.topology("demo", LAB);
    let _ = host.vethpath(format!("up {file}")).ok();
    let up = host.json("ip -j addr");
    let others = |link: &&serde_json::Value| {
        let is_ours = link["ifname"] == "lo" || link["ifname"] == uplink(&host).as_str();
        !is_ours && link["addr_info"].as_array().is_some_and(|own| !own.is_empty())
    };
    assert_eq!(up.as_array().expect("a list").iter().find(others), None, "it has another address");
    for family in [0, 1] {
        pings(&host, "", HOST_A[family]);
        pings(&host, "", HOST_B[family]);
    }
    let _ = host.vethpath("down demo").ok();
    is_restored(&host, &before, "down");
    host.finish();
}

/// New interfaces of such a machine have no IPv6, and its rules drop neighbour discovery.
#[test]
fn a_machine_that_wants_no_ipv6_reaches_its_hosts_by_ipv4() {
    let host = Host::new();
    run_each(
        &host,
        [
            "sysctl -q -w net.ipv6.conf.default.disable_ipv6=1",
            "nft add table ip6 closed",
            "nft add chain ip6 closed input { type filter hook input priority 0 ; policy drop ; }",
            "nft add chain ip6 closed output { type filter hook output priority 0 ; policy drop ; }",
        ],
    );
    let (before, file) = (state(&host), host.topology("demo", LAB));
    let _ = host.vethpath(format!("up {file}")).ok();
    is_settled(&host, &file);
    pings(&host, "", HOST_A[0]);
    pings(&host, "b", HOST_A[1]);
    let _ = host.vethpath("down demo").ok();
    is_restored(&host, &before, "down");
    run_each(&host, ["nft delete table ip6 closed", "sysctl -q -w net.ipv6.conf.default.disable_ipv6=0"]);
    host.finish();
}

/// A machine like one with Docker: bridged packets pass its rules, which drop what is forwarded.
#[test]
fn rules_of_the_machine_do_not_concern_the_fabric() {
    let host = connected_host();
    run_each(
        &host,
        [
            "sysctl -q -w net.bridge.bridge-nf-call-iptables=1",
            "sysctl -q -w net.bridge.bridge-nf-call-ip6tables=1",
            "iptables-nft -P FORWARD DROP",
            "ip6tables-nft -P FORWARD DROP",
            "nft add table bridge guard",
            "nft add chain bridge guard f { type filter hook forward priority 0 ; policy drop ; }",
        ],
    );
    let before = state(&host);
    let without = LAB.replace("nat = true\n", "");
    let file = host.topology("demo", &without.replace("fabric = true\n", ""));
    let refused = host.vethpath(format!("up {file}")).fails(1);
    let _ = refused.stderr_has("are dropped by").stderr_has("write `fabric = true` at the top of the file");
    let _ = host.vethpath(format!("validate --host {file}")).fails(1).stderr_has("fabric = true");
    let _ = host.vethpath(format!("validate --host --fabric {file}")).ok();
    let _ = host.vethpath(format!("plan --fabric {file}")).ok().stdout_has("+ create namespace demo-fabric");
    let up = host.vethpath(format!("up --fabric {file}")).ok();
    assert!(!up.stderr.contains("drop"), "{up}");
    let _ = host.vethpath(format!("plan --fabric {file}")).ok().stdout_has("nothing to change");
    is_armed(&host);
    is_fast(&host);
    for family in [0, 1] {
        pings(&host, "a", HOST_B[family]);
        pings(&host, "", HOST_A[family]);
        pings(&host, "a", MACHINE[family]);
    }
    let _ = host.vethpath("down demo").ok();

    // What leaves the machine is forwarded by it, and its rules say what becomes of it.
    let file = host.topology("demo", LAB);
    let refused = host.vethpath(format!("up {file}")).fails(1);
    let refused =
        refused.stderr_has("bridge br0 in demo-fabric: IPv4 packets from its hosts to other networks");
    let stderr = refused.stderr;
    let rule = stderr.split('`').find(|part| part.starts_with("iptables -I FORWARD -i vp")).expect("a rule");
    for tool in ["iptables-nft", "ip6tables-nft"] {
        let _ = host.run(rule.replacen("iptables", tool, 1)).ok();
        let replies = "-I FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
        let _ = host.run(format!("{tool} {replies}")).ok();
    }
    let _ = host.vethpath(format!("up {file}")).ok();
    (0..2).for_each(|family| pings(&host, "a", OUTSIDE[family]));
    let _ = host.vethpath("doctor").stdout_has("no netfilter rule certainly drops them");
    let _ = host.run("iptables-nft -F FORWARD").ok();
    let dropped = "are dropped by nft table ip filter, chain FORWARD";
    let _ = host.vethpath("doctor").stdout_has(dropped);
    // The agent follows the machine's rules, although no bridge of the lab is there. After a slow reading it rests for
    // twenty times as long.
    for command in ["stats", "show", "events"] {
        wait_until(TIMEOUT, || match host.vethpath(command).ok().stdout {
            shown if shown.contains(dropped) => Ok(()),
            shown => Err(format!("{command} does not show the drop: {shown}")),
        });
    }
    let _ = host.vethpath("down demo").ok();
    let _ = host.run("ip6tables-nft -F FORWARD").ok();
    is_restored(&host, &before, "down");
    let _ = host.run("nft flush ruleset").ok();
    disconnect(host);
}

#[test]
fn what_somebody_removed_is_planned_and_put_back() {
    let host = connected_host();
    let file = host.topology("demo", LAB);
    let _ = host.vethpath(format!("up {file}")).ok();
    let device = uplink(&host);
    for (command, planned) in [
        (
            "ip route del 10.71.0.0/24",
            format!("+ create route 10.71.0.0/24 via fe80::1 dev {device} in host"),
        ),
        (
            "ip -6 route del fd00:71::/64",
            format!("+ create route fd00:71::/64 via fe80::1 dev {device} in host"),
        ),
        (
            "ip -n demo-fabric route del default",
            format!("+ create route 0.0.0.0/0 via fe80::2 dev uplink in {FABRIC}"),
        ),
        (
            "ip -n demo-fabric -6 route del default",
            format!("+ create route ::/0 via fe80::2 dev uplink in {FABRIC}"),
        ),
        (
            "ip netns exec demo-fabric sysctl -q -w net.ipv4.ip_forward=0",
            format!("~ change sysctl {FABRIC}: net.ipv4.ip_forward 0 -> 1"),
        ),
    ] {
        let _ = host.run(command).ok();
        let plan = host.vethpath(format!("plan {file}")).ok();
        assert_eq!(plan.stdout.trim(), planned, "{command}");
        let _ = host.vethpath(format!("up {file}")).ok();
        is_settled(&host, &file);
        (0..2).for_each(|family| pings(&host, "a", OUTSIDE[family]));
    }
    // Each of these takes routes with it.
    for command in [
        format!("ip link del {device}"),
        format!("ip link set {device} down"),
        "ip -n demo-fabric link set uplink down".to_owned(),
        format!("ip addr flush dev {device}"),
        "nft delete table inet vethpath-demo".to_owned(),
        "ip netns del demo-fabric".to_owned(),
    ] {
        let _ = host.run(command.as_str()).ok();
        let plan = host.vethpath(format!("plan {file}")).ok();
        assert!(!plan.stdout.contains("nothing to change"), "{command}");
        let _ = host.vethpath(format!("up {file}")).ok();
        is_settled(&host, &file);
        for family in [0, 1] {
            pings(&host, "", HOST_A[family]);
            pings(&host, "b", OUTSIDE[family]);
        }
    }
    let _ = host.vethpath("down demo").ok();
    host.assert_restored("down");
    disconnect(host);
}

#[test]
fn a_subnet_that_the_machine_routes_is_refused_before_anything_is_changed() {
    let mut host = Host::new();
    // Without an address of its own, which would be tentative for a while.
    run_each(
        &host,
        ["ip link add vpn0 type bridge", "ip link set vpn0 addrgenmode none", "ip link set vpn0 up"],
    );
    host.set_baseline();
    let file = host.topology("demo", LAB);
    for (there, to) in [
        ("route 10.71.0.0/24 dev vpn0", "10.71.0.0/24 already (dev vpn0)"),
        ("route 10.0.0.0/8 dev vpn0 metric 300", "10.0.0.0/8 already (dev vpn0)"),
        ("route 10.71.0.64/26 dev vpn0 table 77", "10.71.0.64/26 already (dev vpn0)"),
        ("route blackhole 10.71.0.0/16", "10.71.0.0/16 already (blackhole)"),
        ("addr 10.71.0.99/32 dev vpn0", "10.71.0.99/32 already (an address of vpn0)"),
        ("route fd00:71::/48 dev vpn0", "fd00:71::/48 already (dev vpn0)"),
    ] {
        let (kind, arguments) = there.split_once(' ').expect("two words");
        let arguments = match arguments.split_once(' ') {
            Some(("blackhole", to)) => format!("add blackhole {to}"),
            _ => format!("add {arguments}"),
        };
        let _ = host.run(format!("ip {kind} {arguments}")).ok();
        let before = state(&host);
        for command in ["up", "plan", "validate --host"] {
            let refused = host.vethpath(format!("{command} {file}")).fails(1);
            let refused = refused.stderr_has(&format!("the machine routes {to}, which overlaps with"));
            let _ = refused
                .stderr_has("of bridge `br0`")
                .stderr_has("another subnet")
                .stderr_has("`host = false`");
            is_restored(&host, &before, command);
            assert!(host.namespaces().is_empty() && !host.path("/run/vethpath").exists(), "{command}");
        }
        // Both ways out work.
        let ways_out = [
            LAB.replace("nat = true\n", "host = false\n"),
            LAB.replace("10.71.0.", "10.172.0.").replace("fd00:71:", "fd00:172:"),
        ];
        for text in ways_out {
            if there.contains("10.0.0.0/8") && text.contains("10.172.") {
                continue;
            }
            let other = host.topology("other", &text);
            let _ = host.vethpath(format!("up {other}")).ok();
            let _ = host.vethpath("down demo").ok();
            is_restored(&host, &before, there);
        }
        let _ = host.run(format!("ip {kind} {}", arguments.replacen("add", "del", 1))).ok();
    }
    // Default routes are of others too, and are no obstacle.
    run_each(&host, ["ip route add 0.0.0.0/1 dev vpn0", "ip route add default dev vpn0"]);
    let _ = host.vethpath(format!("up {file}")).ok();
    // What comes later is left alone.
    let _ = host.run("ip route add 10.0.0.0/8 dev vpn0").ok();
    is_settled(&host, &file);
    pings(&host, "", HOST_A[0]);
    // It is seen once the lab's own route has to be made again.
    let _ = host.run("ip route del 10.71.0.0/24").ok();
    let _ = host.vethpath(format!("up {file}")).fails(1).stderr_has("the machine routes 10.0.0.0/8 already");
    let _ = host.vethpath("down demo").ok();
    let routes = host.run("ip route").ok().stdout;
    assert!(["10.0.0.0/8", "0.0.0.0/1", "default"].iter().all(|to| routes.contains(to)), "{routes}");
    let _ = host.run("ip link del vpn0").ok();
    host.set_baseline();
    host.finish();
}

#[test]
fn a_bridge_without_the_machines_route_is_closed() {
    let host = Host::new();
    let file = host.topology("demo", &LAB.replace("nat = true\n", "host = false\n"));
    let before = state(&host);
    let _ = host.vethpath(format!("up {file}")).ok();
    is_settled(&host, &file);
    is_restored(&host, &before, "the machine has nothing of the lab");
    is_armed(&host);
    (0..2).for_each(|family| pings(&host, "a", HOST_B[family]));
    assert!(!host.run(format!("ping -n -q -c 1 -W 0.3 {}", HOST_A[0])).succeeded());

    // Another one has a route, and then not any more.
    let second = "[bridge.br1]\naddresses = [\"10.72.0.1/24\"]\n[namespace.c]\ngateway = \"10.72.0.1\"\n\
                  [namespace.c.interface.eth0]\nlink = \"br1\"\naddresses = [\"10.72.0.11/24\"]\n";
    let both = LAB.replace("nat = true\n", "host = false\n") + second;
    let file = host.topology("both", &both);
    let _ = host.vethpath(format!("up {file}")).ok();
    is_settled(&host, &file);
    pings(&host, "", "10.72.0.11");
    pings(&host, "c", HOST_A[0]);
    let routes = host.run("ip route").ok().stdout + &host.run("ip -6 route").ok().stdout;
    assert!(routes.contains("10.72.0.0/24") && !routes.contains("71"), "{routes}");
    let file = host.topology("open", &both.replace("host = false\n", ""));
    let plan = host.vethpath(format!("plan {file}")).ok();
    let _ = plan.stdout_has("+ create route 10.71.0.0/24 via fe80::1");
    let _ = host.vethpath(format!("up {file}")).ok();
    (0..2).for_each(|family| pings(&host, "", HOST_B[family]));
    let file = host.topology("both", &both);
    let _ = host.vethpath(format!("plan {file}")).ok().stdout_has("- delete route 10.71.0.0/24 via fe80::1");
    let _ = host.vethpath(format!("up {file}")).ok();
    is_settled(&host, &file);
    let routes = host.run("ip route").ok().stdout + &host.run("ip -6 route").ok().stdout;
    assert!(routes.contains("10.72.0.0/24") && !routes.contains("71"), "{routes}");
    let _ = host.vethpath("down demo").ok();
    is_restored(&host, &before, "down");
    host.finish();
}

#[test]
fn two_labs_with_fabrics_are_apart_beside_each_other() {
    let host = connected_host();
    let before = state(&host);
    let _ = host.vethpath(format!("up {}", host.topology("demo", LAB))).ok();
    let renamed = LAB.replace("\"demo\"", "\"second\"").replace("namespace.", "namespace.s");
    let refused = host.vethpath(format!("up {}", host.topology("second", &renamed))).fails(1);
    let refused = refused.stderr_has("the machine routes 10.71.0.0/24 already (dev vp");
    let _ = refused.stderr_has(" of lab `demo`").stderr_has("`host = false`");
    let renamed = renamed.replace("10.71.", "10.73.").replace("fd00:71:", "fd00:73:");
    let _ = host.vethpath(format!("up {}", host.topology("second", &renamed))).ok();
    for family in [0, 1] {
        pings(&host, "", HOST_A[family]);
        pings(&host, "", ["10.73.0.11", "fd00:73::11"][family]);
        pings(&host, "sa", OUTSIDE[family]);
    }
    let _ = host.vethpath("down second").ok();
    (0..2).for_each(|family| pings(&host, "a", OUTSIDE[family]));
    let _ = host.vethpath("down demo").ok();
    is_restored(&host, &before, "down");
    disconnect(host);
}

/// The bridges move to the fabric and back, with their pairs.
#[test]
fn a_lab_moves_into_a_fabric_and_out_again() {
    let host = connected_host();
    let before = state(&host);
    let file = host.topology("demo", &LAB.replace("fabric = true\n", ""));
    for options in ["", "--fabric", "", "--fabric"] {
        let _ = host.vethpath(format!("up {options} {file}")).ok();
        let _ = host.vethpath(format!("plan {options} {file}")).ok().stdout_has("nothing to change");
        is_armed(&host);
        for family in [0, 1] {
            pings(&host, "", HOST_A[family]);
            pings(&host, "b", OUTSIDE[family]);
        }
    }
    let show = host.vethpath("show demo").ok().stdout;
    assert!(show.contains(FABRIC) && show.contains("uplink"), "{show}");
    let _ = host.vethpath(format!("exec {FABRIC} -- ip link show br0")).ok();
    let show = host.vethpath("show demo --json").ok().json();
    assert_eq!(show["bridges"][0]["namespace"], FABRIC);
    let _ = host.vethpath("down demo").ok();
    is_restored(&host, &before, "down");
    disconnect(host);
}

/// Beside a bridge of the machine's, a trunk to a namespace, and cables.
#[test]
fn a_fabric_is_one_of_several_places() {
    let host = Host::new();
    let before = state(&host);
    let text = LAB.replace("nat = true\n", "nat = true\nmtu = 9000\ntrunks = [\"far\"]\n")
        + "[namespace.other]\n[bridge.far]\nnamespace = \"other\"\nmtu = 9000\n\
           [bridge.here]\nnamespace = \"host\"\naddresses = [\"10.74.0.1/24\"]\n\
           [namespace.c]\ngateway = \"10.71.0.1\"\n\
           [namespace.c.interface.eth0]\nlink = \"far\"\naddresses = [\"10.71.0.13/24\"]\n\
           [namespace.c.interface.eth1]\nlink = \"host:v0\"\naddresses = [\"10.75.0.2/24\"]\n\
           [namespace.host.interface.v0]\nlink = \"c:eth1\"\naddresses = [\"10.75.0.1/24\"]\n\
           [namespace.d]\ngateway = \"10.74.0.1\"\n\
           [namespace.d.interface.eth0]\nlink = \"here\"\naddresses = [\"10.74.0.11/24\"]\n";
    let file = host.topology("demo", &text);
    let _ = host.vethpath(format!("up {file}")).ok();
    is_settled(&host, &file);
    pings(&host, "", "10.71.0.13");
    pings(&host, "", "10.75.0.2");
    pings(&host, "d", HOST_A[0]);
    pings(&host, "a", "10.71.0.13");
    // The uplink is as wide as the widest bridge.
    let _ = host.run("ping -n -q -c 1 -W 5 -M do -s 8972 10.71.0.11").ok();
    let expanded = host.vethpath(format!("validate --expand {file}")).ok().stdout;
    let again = host.topology("again", &expanded);
    let _ = host.vethpath(format!("plan {again}")).ok().stdout_has("nothing to change");
    let _ = host.vethpath("down demo").ok();
    is_restored(&host, &before, "down");
    host.finish();
}

/// Ctrl-C after everything is made, and before the agent runs.
#[test]
fn an_interrupted_up_leaves_the_machine_as_it_was() {
    let host = connected_host();
    let before = state(&host);
    let file = host.topology("demo", LAB);
    for place in ["introduce", "agent"] {
        let up = host.spawn(format!("env VETHPATH_WAIT_AT={place} {} up {file}", host.exe()));
        wait_until(TIMEOUT, || match up.output().contains("waiting at") {
            true => Ok(()),
            false => Err(format!("it does not wait: {}", up.output())),
        });
        let routes = host.run("ip route").ok().stdout;
        assert!(routes.contains("10.71.0.0/24 via inet6 fe80::1"), "{routes}");
        up.interrupt();
        assert_eq!(up.wait(TIMEOUT).code(), Some(130));
        host.assert_restored(place);
        is_restored(&host, &before, place);
    }
    // A lab that was up before is as it was.
    let machine = host.topology("machine", &LAB.replace("fabric = true\n", ""));
    let _ = host.vethpath(format!("up {machine}")).ok();
    let wait = "VETHPATH_WAIT_AT=introduce VETHPATH_WAIT_FOR=/run/go";
    let up = host.spawn(format!("env {wait} {} up {file}", host.exe()));
    let waits = |times: usize| {
        wait_until(TIMEOUT, || match up.output().matches("waiting at introduce").count() >= times {
            true => Ok(()),
            false => Err(format!("it does not wait: {}", up.output())),
        });
    };
    waits(1);
    up.interrupt();
    // The former file is applied again.
    waits(2);
    let _ = host.run("touch /run/go-introduce").ok();
    assert_eq!(up.wait(TIMEOUT).code(), Some(130));
    let _ = host.run("rm /run/go-introduce").ok();
    is_settled(&host, &machine);
    (0..2).for_each(|family| pings(&host, "a", OUTSIDE[family]));
    let _ = host.vethpath("down demo").ok();
    is_restored(&host, &before, "down");
    disconnect(host);
}

/// A name that the fabric needs is looked for before anything is made.
#[test]
fn a_name_that_another_uses_is_reported() {
    let mut host = Host::new();
    let _ = host.run("ip netns add three-hosts-fabric").ok();
    host.set_baseline();
    let file = host.lab("three-hosts").write();
    let refused = host.vethpath(format!("up --fabric {file}")).fails(1);
    let _ = refused.stderr_has("namespace `three-hosts-fabric` already exists");
    assert_eq!(host.changes(), None);
    let _ = host.run("ip netns del three-hosts-fabric").ok();
    host.set_baseline();
    let lab = host.lab("three-hosts").up_with("--fabric");
    lab.is_fast("ns0:eth0", B);
    let _ = lab.assert_counters_match();
    lab.down();
    host.finish();
}
