//! The names of ports, as `bridge link` shows them.

use crate::harness::Host;

const LAB: &str = "name = \"named\"\n[bridge.br0]\ntrunks = [\"br1\"]\n[bridge.br1]\n\
                   [namespace.ns0.interface.eth0]\nlink = \"br0\"\naddresses = [\"10.0.0.1/24\"]\n\
                   [namespace.ns1.interface.eth0]\nlink = \"br1\"\naddresses = [\"10.0.0.2/24\"]\nport = \"own\"\n\
                   [namespace.a-long-namespace.interface.\"eth0.1\"]\nlink = \"br0\"\n\
                   [namespace.r1.interface.\"eth0.1\"]\nlink = \"br0\"\n";

/// Names of the ports of a bridge, each with its ifindex.
fn ports(host: &Host, bridge: &str) -> Vec<(String, u64)> {
    let links = host.json(format!("ip -j link show master {bridge}"));
    let links = links.as_array().expect("a list").iter();
    let port = |link: &serde_json::Value| {
        (link["ifname"].as_str().expect("a name").to_owned(), link["ifindex"].as_u64().expect("a number"))
    };
    links.map(port).collect()
}

fn names(ports: &[(String, u64)]) -> Vec<&str> {
    let mut names: Vec<_> = ports.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn bridge_link_shows_what_is_plugged_where() {
    let host = Host::new();
    let file = host.topology("named", LAB);
    let _ = host.vethpath(format!("up {file}")).ok().stderr_has("fast path: 4 of 4 pairs armed");
    let (first, second) = (ports(&host, "br0"), ports(&host, "br1"));
    let of_first = names(&first);
    assert_eq!((of_first[1], of_first[2], of_first[3]), ("br0-br1", "ns0-eth0", "r1-eth0.1"), "{of_first:?}");
    assert!(of_first[0].starts_with("a-long-n-") && of_first[0].len() == 15, "{of_first:?}");
    assert_eq!(names(&second), ["br1-br0", "own"]);
    let _ = host.run("ip link show dev named.ns0.eth0").ok().stdout_has(": ns0-eth0@");

    // Another name makes that pair again, and no other.
    let other = host.topology("named", &LAB.replace("\"own\"", "\"mine\""));
    let _ = host.vethpath(format!("up {other}")).ok();
    assert_eq!(ports(&host, "br0"), first);
    assert_eq!(names(&ports(&host, "br1")), ["br1-br0", "mine"]);
    let _ = host.vethpath(format!("plan {other}")).ok().stdout_has("nothing to change");
    let derived = host.topology("named", &LAB.replace("port = \"own\"\n", ""));
    let _ = host.vethpath(format!("up {derived}")).ok();
    assert_eq!(names(&ports(&host, "br1")), ["br1-br0", "ns1-eth0"]);
    let _ = host.run("ip netns exec ns0 ping -n -q -c 1 -W 5 10.0.0.2").ok();
    let _ = host.vethpath("down named").ok();
    host.finish();
}

/// A port that is new on a bridge with guests is marked before it is there.
#[test]
fn a_new_port_is_never_taken_for_a_guest() {
    let host = Host::new();
    let text = |count: u32| {
        format!(
            "name = \"open\"\n[bridge.br0]\nguests = true\n[group.h]\ncount = {count}\nbridge = \"br0\"\n"
        )
    };
    for count in [1, 2, 12, 40] {
        let file = host.topology("open", &text(count));
        let armed = format!("fast path: {count} of {count} pair");
        let _ = host.vethpath(format!("up {file}")).ok().stderr_has(&armed);
    }
    let events = host.vethpath("events open").ok();
    assert!(!events.stdout.contains("br0/h"), "{events}");
    let stats = host.vethpath("stats open --json").ok().json();
    let pairs = stats["pairs"].as_array().expect("a list");
    assert!(pairs.len() == 40 && pairs.iter().all(|pair| pair["guest"].is_null()), "{stats:#}");
    let _ = host.vethpath("down open").ok();
    host.finish();
}
