//! Neighbour and router discovery: what neighbours learn about a MAC that `up` changes and an address that it adds,
//! which interfaces accept router advertisements, and what forwarding does to their addresses and routes.

use std::{net::Ipv6Addr, time::Duration};

use etherparse::PacketBuilder;
use vethpath::kernel::Netns;

use crate::{
    harness::{Host, Lab, SLACK, Wire, wait_for, wait_until},
    hazards::wait_for_tcpdump,
};

/// Long before a neighbour would find out by itself: it probes after 5 s, and gives up after some 30 s.
const SOON: Duration = Duration::from_secs(3);

const MACS: [&str; 2] = ["02:00:00:00:00:0a", "02:00:00:00:00:0b"];

fn neighbour(lab: &Lab<'_>, namespace: &str, address: &str) -> String {
    lab.run(namespace, format!("ip neigh show {address}")).ok().stdout
}

#[track_caller]
fn wait_for_neighbour(lab: &Lab<'_>, namespace: &str, address: &str, mac: &str) {
    wait_until(SOON, || {
        let known = neighbour(lab, namespace, address);
        if known.contains(mac) { Ok(()) } else { Err(format!("{namespace} knows of {address}: {known:?}")) }
    });
}

/// Whether tcpdump, in any version, shows a gratuitous ARP request for the first host's address.
fn has_announcement(dump: &str) -> bool {
    let asks_for_itself =
        |line: &str| line.contains("who-has 10.0.0.10 ") && line.contains("tell 10.0.0.10,");
    dump.lines().any(|line| line.contains("Announcement 10.0.0.10") || asks_for_itself(line))
}

#[test]
fn a_changed_mac_and_a_moved_address_are_announced_at_once() {
    let host = Host::new();
    // The capture starts before any traffic: nothing is announced when a lab is brought up.
    let server = wait_for_tcpdump(host.spawn("tcpdump -l -n --immediate-mode -i any arp"));
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
    assert!(!has_announcement(&server.output()), "{}", server.output());
    lab.reaches("ns1", "fd00::10");
    lab.reaches("ns0", "fd00::11");
    let _ = host.run("ping -n -q -c 1 -W 5 10.0.0.10").ok();

    let _ = host.vethpath(format!("up {}", file(MACS[1], [own, others]).write())).ok();
    for address in ["10.0.0.10", "fd00::10"] {
        wait_for_neighbour(&lab, "ns1", address, MACS[1]);
        lab.reaches("ns1", address);
    }
    wait_for(SOON, "the host does not know", || {
        host.run("ip neigh show 10.0.0.10").ok().stdout.contains(MACS[1])
    });
    lab.reaches("ns0", "10.0.0.11");
    assert!(has_announcement(&server.output()), "{}", server.output());

    // The addresses move to the other host, which exists already.
    lab.reaches("r", "10.0.0.10");
    lab.reaches("r", "fd00::10");
    let all = "[\"10.0.0.11/24\", \"fd00::11/64\", \"10.0.0.10/24\", \"fd00::10/64\"]";
    let _ = host.vethpath(format!("up {}", file(MACS[1], ["[]", all]).write())).ok();
    let link = lab.run("ns1", "ip -j link show eth0").ok().json();
    let mac = link[0]["address"].as_str().expect("it has one").to_owned();
    for address in ["10.0.0.10", "fd00::10"] {
        wait_for_neighbour(&lab, "r", address, &mac);
        lab.reaches("r", address);
    }
    lab.down();
    drop(server);
    host.finish();
}

/// A router advertisement to all nodes, with a default route for half an hour and a prefix for addresses.
fn advertisement(prefix: &str) -> Vec<u8> {
    const ROUTER_ADVERTISEMENT: u8 = 134;
    let from: Ipv6Addr = "fe80::bad".parse().expect("an address");
    let all_nodes: Ipv6Addr = "ff02::1".parse().expect("an address");
    let prefix: Ipv6Addr = prefix.parse().expect("an address");
    let (half_an_hour, hours) = (1800_u16.to_be_bytes(), 7200_u32.to_be_bytes());
    let header = [64, 0, half_an_hour[0], half_an_hour[1]];
    let timers = [0; 8];
    // Flags: on-link, and autonomous address configuration.
    let information = [&[3, 4, 64, 0xc0][..], &hours, &hours, &[0; 4], &prefix.octets()].concat();
    let body = [&timers[..], &information].concat();
    let ether = PacketBuilder::ethernet2([2, 0, 0, 0, 0xb, 0xad], [0x33, 0x33, 0, 0, 0, 1]);
    let packet =
        ether.ipv6(from.octets(), all_nodes.octets(), 255).icmpv6_raw(ROUTER_ADVERTISEMENT, 0, header);
    let mut frame = Vec::new();
    packet.write(&mut frame, &body).expect("a vector takes all");
    frame
}

/// The value of an IPv6 counter of one of the host's interfaces.
fn snmp6_counter(host: &Host, interface: &str, counter: &str) -> u64 {
    let text = host.run(format!("cat /proc/net/dev_snmp6/{interface}")).ok().stdout;
    let line = text.lines().find(|line| line.starts_with(counter));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or_default()
}

/// Sends an advertisement from a namespace, and waits until the host has counted it.
#[track_caller]
fn advertise(host: &Host, (namespace, interface): (&str, &str), prefix: &str, seen_on: &str) {
    let netns = Netns::open(&host.path(&format!("/run/netns/{namespace}")), namespace).expect("it is there");
    let wire = netns.run(|| Wire::on(interface)).expect("it can be entered").expect("a packet socket");
    let before = snmp6_counter(host, seen_on, "Icmp6InRouterAdvertisements");
    wire.send(&advertisement(prefix));
    wait_for(SLACK, "the host has not seen it", || {
        snmp6_counter(host, seen_on, "Icmp6InRouterAdvertisements") > before
    });
}

fn has_address_and_route(host: &Host, interface: &str) -> (bool, bool) {
    let addresses = host.run(format!("ip -o -6 addr show dev {interface}")).ok().stdout;
    let routes = host.run(format!("ip -6 route show default dev {interface}")).ok().stdout;
    (addresses.contains("dynamic"), routes.contains("proto ra"))
}

/// Sent through a bridge with an address, one without, a cable, and a port that was taken off its bridge.
#[test]
fn router_advertisements_of_a_lab_do_not_configure_the_machine() {
    let host = Host::new();
    let bridges = "[bridge.br0]\naddresses = [\"10.0.0.1/24\", \"fd00::1/64\"]\n[bridge.br1]\n";
    let namespace = "[namespace.evil.interface.eth0]\nlink = \"br0\"\n[namespace.evil.interface.eth1]\nlink = \"br1\"\n\
        [namespace.evil.interface.eth2]\nlink = \"host:v0\"\n[namespace.host.interface.v0]\nlink = \"evil:eth2\"\n";
    let lab = host.lab("empty").named("evil").and(bridges).and(namespace).up();
    let paths = [("eth0", "br0"), ("eth1", "br1"), ("eth2", "v0")];
    for (n, (from, to)) in paths.iter().enumerate() {
        advertise(&host, ("evil", from), &format!("2001:db8:{n}::"), to);
        assert_eq!(has_address_and_route(&host, to), (false, false), "{to}");
    }
    let port = lab.port("evil:eth0");
    let _ = host.run(format!("ip link set {port} nomaster")).ok();
    advertise(&host, ("evil", "eth0"), "2001:db8:9::", &port);
    assert_eq!(has_address_and_route(&host, &port), (false, false));
    // `accept_ra` that was switched on by hand is switched off again by `up`.
    let _ = host.run("sysctl -w net.ipv6.conf.br1.accept_ra=1").ok();
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    advertise(&host, ("evil", "eth1"), "2001:db8:1::", "br1");
    assert_eq!(has_address_and_route(&host, "br1"), (false, false));
    for (_, to) in paths {
        assert_eq!(snmp6_counter(&host, to, "Icmp6OutRouterSolicits"), 0, "{to} solicits");
    }
    // Where the file sets `accept_ra`, advertisements are accepted, also on a host that forwards.
    let bridges = bridges.replace("[bridge.br1]\n", "[bridge.br1]\naccept_ra = true\n");
    let file = host.lab("empty").named("evil").and(&bridges).and(namespace).and("accept_ra = true\n").write();
    let _ = host.vethpath(format!("up {file}")).ok();
    let _ = host.run("sysctl -w net.ipv6.conf.all.forwarding=1").ok();
    for (n, (from, to)) in paths.iter().enumerate() {
        advertise(&host, ("evil", from), &format!("2001:db8:{n}::"), to);
        wait_for(SLACK, "it is not taken", || {
            has_address_and_route(&host, to) == (*to != "br0", *to != "br0")
        });
    }
    let _ = host.run("sysctl -w net.ipv6.conf.all.forwarding=0").ok();
    lab.down();
    host.finish();
}

/// The machine has its address and its default route from a router advertisement, and receives more of them while the
/// lab is up.
#[test]
fn a_machine_keeps_its_advertised_route_when_a_lab_forwards() {
    let mut host = Host::new();
    for command in [
        "ip netns add router",
        "ip link add up0 type veth peer name eth0 netns router",
        "ip link add up1 type veth peer name eth1 netns router",
        "ip link set up0 up",
        "ip link set up1 up",
        "ip -n router link set eth0 up",
        "ip -n router link set eth1 up",
    ] {
        let _ = host.run(command).ok();
    }
    host.wait_for_link("up0");
    advertise(&host, ("router", "eth0"), "2001:db8::", "up0");
    wait_for(SLACK, "the host takes none", || has_address_and_route(&host, "up0") == (true, true));
    host.set_baseline();
    let value = |interface: &str| {
        let output = host.run(format!("sysctl -n net.ipv6.conf.{interface}.accept_ra")).ok();
        output.stdout.trim().to_owned()
    };
    let text = "[bridge.br0]\naddresses = [\"fd00::1/64\"]\nnat = true\n";
    let lab = host.lab("empty").named("nat6").and(text).up();
    assert_eq!(has_address_and_route(&host, "up0"), (true, true));
    assert_eq!([value("up0"), value("up1"), value("br0")], ["2", "1", "0"]);
    advertise(&host, ("router", "eth0"), "2001:db8:1::", "up0");
    wait_for(SLACK, "none is taken any more", || {
        host.run("ip -o -6 addr show dev up0").ok().stdout.contains("2001:db8:1:")
    });
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().stdout_has("nothing to change");
    lab.down();
    assert_eq!(has_address_and_route(&host, "up0"), (true, true));
    assert_eq!(value("up0"), "1");
    // A single forwarding interface does not remove the route either, nor does a lab after `accept_ra` was set to 0.
    let cable = "[namespace.n.interface.eth0]\nlink = \"host:v0\"\n[namespace.host.interface.v0]\nlink = \"n:eth0\"\n\
        sysctls = { \"net.ipv6.conf.v0.forwarding\" = 1 }\n";
    for (accept_ra, text) in [("1", cable), ("0", cable), ("0", text)] {
        let _ = host.run(format!("sysctl -q -w net.ipv6.conf.up0.accept_ra={accept_ra}")).ok();
        let lab = host.lab("empty").named("nat6").and(text).up();
        assert_eq!(
            (has_address_and_route(&host, "up0").1, value("up0").as_str()),
            (true, accept_ra),
            "{text}"
        );
        lab.down();
        assert_eq!(
            (has_address_and_route(&host, "up0").1, value("up0").as_str()),
            (true, accept_ra),
            "{text}"
        );
    }
    let _ = host.run("sysctl -q -w net.ipv6.conf.up0.accept_ra=1").ok();
    host.finish();
}
