//! The pictures of docs/gallery.md: the script of each and its file make the same network. The command lines with which
//! people check such a network judge.

use std::{fs, path::Path};

use crate::harness::{Host, in_parallel};

/// A picture: its name, its namespaces, its bridges, and what must be reached: from a namespace, an address.
struct Picture {
    name: &'static str,
    namespaces: &'static [&'static str],
    bridges: &'static [&'static str],
    reached: &'static [(&'static str, &'static str)],
}

const PICTURES: [Picture; 10] = [
    Picture {
        name: "pair",
        namespaces: &["red", "blue"],
        bridges: &[],
        reached: &[("red", "10.0.0.2"), ("blue", "10.0.0.1")],
    },
    Picture {
        name: "mesh-3",
        namespaces: &["r0", "r1", "r2"],
        bridges: &[],
        reached: &[("r0", "10.50.0.1"), ("r0", "10.50.0.3"), ("r1", "10.50.0.5")],
    },
    Picture { name: "mesh-4", namespaces: &["r0", "r3"], bridges: &[], reached: &[("r2", "10.50.0.11")] },
    Picture {
        name: "mesh-5",
        namespaces: &["r0", "r2", "r4"],
        bridges: &[],
        reached: &[("r3", "10.50.0.19")],
    },
    Picture {
        name: "switch",
        namespaces: &["r0", "r4"],
        bridges: &["br0"],
        reached: &[("r0", "10.50.0.5"), ("r4", "10.50.0.2")],
    },
    Picture {
        name: "three-hosts",
        namespaces: &["ns0", "ns1", "ns2"],
        bridges: &["docker0"],
        reached: &[("ns0", "172.17.0.102"), ("ns2", "172.17.0.1")],
    },
    Picture { name: "to-the-machine", namespaces: &["ns0"], bridges: &[], reached: &[("ns0", "10.0.0.1")] },
    Picture { name: "outside", namespaces: &["ns0"], bridges: &["br0"], reached: &[("ns0", "10.80.0.1")] },
    Picture {
        name: "router",
        namespaces: &["a", "b", "r"],
        bridges: &["left", "right"],
        reached: &[("a", "10.2.0.2"), ("b", "10.1.0.2")],
    },
    Picture {
        name: "eight",
        namespaces: &["h0", "h1"],
        bridges: &["sw0", "sw3", "sw7"],
        reached: &[("h0", "10.60.0.2")],
    },
];

fn file(path: String) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the command lines of a walk-through print about a network, without numbers that depend on the order in which it
/// was made.
fn account(host: &Host, picture: &Picture) -> Vec<String> {
    let mut lines = Vec::new();
    for namespace in picture.namespaces {
        for address in host.run(format!("ip -n {namespace} -br -4 address")).ok().stdout.lines() {
            let words: Vec<&str> = address.split_whitespace().collect();
            // `eth0@if7`: the number of the other end.
            let name = words[0].split('@').next().unwrap_or_default();
            // The state follows the carrier within a second.
            lines.push(format!("{namespace}: {name} {}", words[2..].join(" ")));
        }
        let routes = host.run(format!("ip -n {namespace} route")).ok().stdout;
        // vethpath says who has added a route; `ip` by itself does not.
        let routes = routes.lines().map(|route| route.trim().replace(" proto static", ""));
        lines.extend(routes.map(|route| format!("{namespace}: {route}")));
    }
    for bridge in picture.bridges {
        let links = host.json("bridge -j link");
        let links = links.as_array().expect("a list").iter();
        let forwards =
            links.filter(|link| link["master"] == *bridge && link["state"] == "forwarding").count();
        let addresses = host.run(format!("ip -br -4 address show dev {bridge}")).ok().stdout;
        let addresses: Vec<&str> = addresses.split_whitespace().skip(2).collect();
        lines.push(format!("{forwards} ports forward; {}", addresses.join(" ")));
    }
    lines
}

#[track_caller]
fn reaches(host: &Host, picture: &Picture) {
    for (from, to) in picture.reached {
        let _ = host
            .run(format!("ip netns exec {from} ping -n -q -c 3 -l 3 -W 5 {to}"))
            .ok()
            .stdout_has(" 0% packet loss");
    }
}

/// Checks that a network works, and what the command lines print about it.
#[track_caller]
fn settled(host: &Host, picture: &Picture) -> Vec<String> {
    reaches(host, picture);
    account(host, picture)
}

#[test]
fn a_file_makes_the_network_of_its_script() {
    let _ = in_parallel(0..PICTURES.len(), |n| {
        let picture = &PICTURES[n];
        let by_hand = Host::new();
        let script = format!("set -e\n{}", file(format!("docs/gallery/{}.sh", picture.name)));
        let _ = by_hand.run(["sh", "-c", &script]).ok();
        let expected = settled(&by_hand, picture);
        remove(&by_hand);

        let host = Host::new();
        let path = host.topology(picture.name, &file(format!("examples/{}.toml", picture.name)));
        let _ = host.vethpath(format!("up {path}")).ok();
        assert_eq!(settled(&host, picture), expected, "{}", picture.name);
        let _ = host.vethpath(format!("down {path}")).ok();
        host.finish();
    });
}

/// Removes what a script has made, so that nothing is left of it.
fn remove(host: &Host) {
    for namespace in host.namespaces() {
        let _ = host.run(format!("ip netns del {namespace}")).ok();
    }
    let bridges = host.json("ip -j link show type bridge");
    for bridge in bridges.as_array().expect("a list") {
        let _ = host.run(format!("ip link del {}", bridge["ifname"].as_str().expect("a name"))).ok();
    }
    let veths = host.json("ip -j link show type veth");
    for veth in veths.as_array().expect("a list") {
        // The other end may be gone with a first one.
        let _ = host.run(format!("ip link del {}", veth["ifname"].as_str().expect("a name")));
    }
    for command in ["nft flush ruleset", "sysctl -q -w net.ipv4.ip_forward=0"] {
        let _ = host.run(command).ok();
    }
}

#[test]
fn a_firewall_in_the_middle_lets_answers_pass() {
    let host = Host::new();
    let path = host.topology("firewall", &file("examples/firewall.toml".to_owned()));
    let _ = host.vethpath(format!("up {path}")).ok();
    let ping = |from: &str, to: &str| {
        host.run(format!("ip netns exec {from} ping -n -q -c 1 -W 1 {to}")).succeeded()
    };
    assert!(ping("client", "10.2.0.2") && ping("server", "10.1.0.2"), "without rules");
    let rules = file("docs/gallery/rules.nft".to_owned());
    let _ = host.run_with_input("ip netns exec fw nft -f -", &rules).ok();
    assert!(ping("client", "10.2.0.2"), "the answer passes");
    assert!(!ping("server", "10.1.0.2"), "the server may not begin");
    let _ = host.vethpath(format!("plan {path}")).ok().stdout_has("nothing to change");
    let _ = host.vethpath("down firewall").ok();
    host.finish();
}
