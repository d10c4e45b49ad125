//! IPv6 router advertisements: which interfaces accept them, and what forwarding does to their addresses and routes.

use std::net::Ipv6Addr;

use etherparse::PacketBuilder;
use vethpath::kernel::Netns;

use crate::harness::{Host, SLACK, Wire, wait_for};

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
fn count(host: &Host, interface: &str, counter: &str) -> u64 {
    let text = host.run(format!("cat /proc/net/dev_snmp6/{interface}")).ok().stdout;
    let line = text.lines().find(|line| line.starts_with(counter));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or_default()
}

/// Sends an advertisement from a namespace, and waits until the host has counted it.
#[track_caller]
fn advertise(host: &Host, (namespace, interface): (&str, &str), prefix: &str, seen_on: &str) {
    let netns = Netns::open(&host.path(&format!("/run/netns/{namespace}")), namespace).expect("it is there");
    let wire = netns.run(|| Wire::on(interface)).expect("it can be entered").expect("a packet socket");
    let before = count(host, seen_on, "Icmp6InRouterAdvertisements");
    wire.send(&advertisement(prefix));
    wait_for(SLACK, "the host has not seen it", || {
        count(host, seen_on, "Icmp6InRouterAdvertisements") > before
    });
}

fn came_with_it(host: &Host, interface: &str) -> (bool, bool) {
    let addresses = host.run(format!("ip -o -6 addr show dev {interface}")).ok().stdout;
    let routes = host.run(format!("ip -6 route show default dev {interface}")).ok().stdout;
    (addresses.contains("dynamic"), routes.contains("proto ra"))
}

/// Sent through a bridge with an address, one without, a cable, and a port that was taken off its bridge.
#[test]
fn nobody_in_a_lab_gives_the_machine_an_address_or_a_route() {
    let host = Host::new();
    let bridges = "[bridge.br0]\naddresses = [\"10.0.0.1/24\", \"fd00::1/64\"]\n[bridge.br1]\n";
    let namespace = "[namespace.evil.interface.eth0]\nlink = \"br0\"\n[namespace.evil.interface.eth1]\nlink = \"br1\"\n\
        [namespace.evil.interface.eth2]\nlink = \"host:v0\"\n[namespace.host.interface.v0]\nlink = \"evil:eth2\"\n";
    let lab = host.lab("empty").named("evil").and(bridges).and(namespace).up();
    let ways = [("eth0", "br0"), ("eth1", "br1"), ("eth2", "v0")];
    for (n, (from, to)) in ways.iter().enumerate() {
        advertise(&host, ("evil", from), &format!("2001:db8:{n}::"), to);
        assert_eq!(came_with_it(&host, to), (false, false), "{to}");
    }
    let port = lab.port("evil:eth0");
    let _ = host.run(format!("ip link set {port} nomaster")).ok();
    advertise(&host, ("evil", "eth0"), "2001:db8:9::", &port);
    assert_eq!(came_with_it(&host, &port), (false, false));
    // `accept_ra` that was switched on by hand is switched off again by `up`.
    let _ = host.run("sysctl -w net.ipv6.conf.br1.accept_ra=1").ok();
    let _ = host.vethpath(format!("up {}", lab.file)).ok();
    advertise(&host, ("evil", "eth1"), "2001:db8:1::", "br1");
    assert_eq!(came_with_it(&host, "br1"), (false, false));
    for (_, to) in ways {
        assert_eq!(count(&host, to, "Icmp6OutRouterSolicits"), 0, "{to} solicits");
    }
    // Where the file sets `accept_ra`, advertisements are accepted, also on a host that forwards.
    let bridges = bridges.replace("[bridge.br1]\n", "[bridge.br1]\naccept_ra = true\n");
    let file = host.lab("empty").named("evil").and(&bridges).and(namespace).and("accept_ra = true\n").write();
    let _ = host.vethpath(format!("up {file}")).ok();
    let _ = host.run("sysctl -w net.ipv6.conf.all.forwarding=1").ok();
    for (n, (from, to)) in ways.iter().enumerate() {
        advertise(&host, ("evil", from), &format!("2001:db8:{n}::"), to);
        wait_for(SLACK, "it is not taken", || came_with_it(&host, to) == (*to != "br0", *to != "br0"));
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
    wait_for(SLACK, "up0 is not up", || host.run("ip -o link show up0").ok().stdout.contains("state UP"));
    advertise(&host, ("router", "eth0"), "2001:db8::", "up0");
    wait_for(SLACK, "the host takes none", || came_with_it(&host, "up0") == (true, true));
    host.remember();
    let value = |interface: &str| {
        let done = host.run(format!("sysctl -n net.ipv6.conf.{interface}.accept_ra")).ok();
        done.stdout.trim().to_owned()
    };
    let text = "[bridge.br0]\naddresses = [\"fd00::1/64\"]\nnat = true\n";
    let lab = host.lab("empty").named("nat6").and(text).up();
    assert_eq!(came_with_it(&host, "up0"), (true, true));
    assert_eq!([value("up0"), value("up1"), value("br0")], ["2", "1", "0"]);
    advertise(&host, ("router", "eth0"), "2001:db8:1::", "up0");
    wait_for(SLACK, "none is taken any more", || {
        host.run("ip -o -6 addr show dev up0").ok().stdout.contains("2001:db8:1:")
    });
    let _ = host.vethpath(format!("plan {}", lab.file)).ok().prints("nothing to change");
    lab.down();
    assert_eq!(came_with_it(&host, "up0"), (true, true));
    assert_eq!(value("up0"), "1");
    // A single forwarding interface does not remove the route either, nor does a lab after `accept_ra` was set to 0.
    let cable = "[namespace.n.interface.eth0]\nlink = \"host:v0\"\n[namespace.host.interface.v0]\nlink = \"n:eth0\"\n\
        sysctls = { \"net.ipv6.conf.v0.forwarding\" = 1 }\n";
    for (accept_ra, text) in [("1", cable), ("0", cable), ("0", text)] {
        let _ = host.run(format!("sysctl -q -w net.ipv6.conf.up0.accept_ra={accept_ra}")).ok();
        let lab = host.lab("empty").named("nat6").and(text).up();
        assert_eq!((came_with_it(&host, "up0").1, value("up0").as_str()), (true, accept_ra), "{text}");
        lab.down();
        assert_eq!((came_with_it(&host, "up0").1, value("up0").as_str()), (true, accept_ra), "{text}");
    }
    let _ = host.run("sysctl -q -w net.ipv6.conf.up0.accept_ra=1").ok();
    host.finish();
}
