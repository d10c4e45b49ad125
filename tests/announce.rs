//! What neighbours learn about a MAC that `up` changes, and about an address that it adds.

use std::time::Duration;

use crate::harness::{Host, Lab, SLACK, wait_for, wait_until};

/// Long before a neighbour would find out by itself: it probes after 5 s, and gives up after some 30 s.
const SOON: Duration = Duration::from_secs(3);

const MACS: [&str; 2] = ["02:00:00:00:00:0a", "02:00:00:00:00:0b"];

fn neighbour(lab: &Lab<'_>, namespace: &str, address: &str) -> String {
    lab.run(namespace, format!("ip neigh show {address}")).ok().stdout
}

#[track_caller]
fn knows(lab: &Lab<'_>, namespace: &str, address: &str, mac: &str) {
    wait_until(SOON, || {
        let known = neighbour(lab, namespace, address);
        if known.contains(mac) { Ok(()) } else { Err(format!("{namespace} knows of {address}: {known:?}")) }
    });
}

/// Whether tcpdump, in any version, shows a gratuitous ARP request for the first host's address.
fn announced(dump: &str) -> bool {
    let asks_for_itself =
        |line: &str| line.contains("who-has 10.0.0.10 ") && line.contains("tell 10.0.0.10,");
    dump.lines().any(|line| line.contains("Announcement 10.0.0.10") || asks_for_itself(line))
}

#[test]
fn a_changed_mac_and_a_moved_address_are_announced_at_once() {
    let host = Host::new();
    // The capture starts before any traffic: nothing is announced when a lab is brought up.
    let server = host.spawn("tcpdump -l -n --immediate-mode -i any arp");
    wait_for(SLACK, "tcpdump does not start", || server.output().contains("listening on"));
    let file = |mac: &str, addresses: [&str; 2]| {
        let text = format!(
            "[bridge.br0]\naddresses = [\"10.0.0.1/24\", \"fd00::1/64\"]\n\
             [namespace.ns0.interface.eth0]\nlink = \"br0\"\nmac = \"{mac}\"\naddresses = {}\n\
             [namespace.ns1.interface.eth0]\nlink = \"br0\"\naddresses = {}\n\
             [namespace.r]\nsysctls = {{ \"net.ipv6.conf.all.forwarding\" = 1 }}\n\
             [namespace.r.interface.eth0]\nlink = \"br0\"\naddresses = [\"10.0.0.12/24\", \"fd00::12/64\"]\n",
            addresses[0], addresses[1],
        );
        host.lab("empty").named("announce").and(&text)
    };
    let (own, others) = ("[\"10.0.0.10/24\", \"fd00::10/64\"]", "[\"10.0.0.11/24\", \"fd00::11/64\"]");
    let lab = file(MACS[0], [own, others]).up();
    lab.reaches("ns1", "10.0.0.10");
    wait_for(SLACK, "tcpdump sees nothing", || server.output().contains("who-has 10.0.0.10"));
    assert!(!announced(&server.output()), "{}", server.output());
    lab.reaches("ns1", "fd00::10");
    lab.reaches("ns0", "fd00::11");
    let _ = host.run("ping -n -q -c 1 -W 5 10.0.0.10").ok();

    let _ = host.vethpath(format!("up {}", file(MACS[1], [own, others]).write())).ok();
    for address in ["10.0.0.10", "fd00::10"] {
        knows(&lab, "ns1", address, MACS[1]);
        lab.reaches("ns1", address);
    }
    wait_for(SOON, "the host does not know", || {
        host.run("ip neigh show 10.0.0.10").ok().stdout.contains(MACS[1])
    });
    lab.reaches("ns0", "10.0.0.11");
    assert!(announced(&server.output()), "{}", server.output());

    // The addresses move to the other host, which exists already.
    lab.reaches("r", "10.0.0.10");
    lab.reaches("r", "fd00::10");
    let all = "[\"10.0.0.11/24\", \"fd00::11/64\", \"10.0.0.10/24\", \"fd00::10/64\"]";
    let _ = host.vethpath(format!("up {}", file(MACS[1], ["[]", all]).write())).ok();
    let link = lab.run("ns1", "ip -j link show eth0").ok().json();
    let mac = link[0]["address"].as_str().expect("it has one").to_owned();
    for address in ["10.0.0.10", "fd00::10"] {
        knows(&lab, "r", address, &mac);
        lab.reaches("r", address);
    }
    lab.down();
    drop(server);
    host.finish();
}
