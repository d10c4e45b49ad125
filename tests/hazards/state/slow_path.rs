//! What the bridge must see: broadcast, multicast, unknown unicast, ARP, neighbour discovery, control frames, tagged
//! frames, and frames to the bridge itself. They are slow, and delivered as on a plain bridge.

use std::collections::BTreeMap;

use etherparse::{PacketBuilder, VlanId};

use crate::{
    harness::{Host, Lab, parse_mac, wait_for, wait_until},
    hazards::{
        A_SECOND, B, BROADCAST, fast_lab, link_counter, mac_bytes, numbered, on_all, plain_lab, receives,
        with_number,
    },
};

const UNKNOWN: [u8; 6] = [0x02, 0, 0, 0, 0xee, 0xee];

/// Frames that ns0 sends, and the reason why each is slow.
fn frames(lab: &Lab<'_>, bridge: [u8; 6], port: [u8; 6]) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let (a, b) = (mac_bytes(lab, "ns0"), mac_bytes(lab, "ns1"));
    let raw = |to: [u8; 6], ethertype: u16| [&to[..], &a, &ethertype.to_be_bytes(), &[0; 50]].concat();
    let control = |last: u8| [0x01, 0x80, 0xc2, 0, 0, last];
    let llc = |to: [u8; 6]| [&to[..], &a, &[0, 58, 0x42, 0x42, 3], &[0; 47]].concat();
    let udp = |to: [u8; 6], address: [u8; 4]| {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ethernet2(a, to).ipv4([172, 17, 0, 101], address, 1).udp(5353, 5353);
        builder.write(&mut bytes, &[0; 8]).expect("it fits");
        bytes
    };
    let nd = |to: [u8; 6], kind: u8| {
        let mut bytes = Vec::new();
        let here = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        let builder = PacketBuilder::ethernet2(a, to).ipv6(here, [0xff; 16], 255);
        builder.icmpv6_raw(kind, 0, [0; 4]).write(&mut bytes, &[0; 24]).expect("it fits");
        bytes
    };
    let tagged = |to: [u8; 6]| {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ethernet2(a, to).single_vlan(VlanId::try_new(7).expect("in range"));
        builder
            .ipv4([172, 17, 0, 101], [172, 17, 0, 102], 1)
            .udp(1, 9)
            .write(&mut bytes, &[0; 20])
            .expect("it fits");
        bytes
    };
    let mut from_group = numbered(b, a, 0);
    from_group[6] |= 1;
    vec![
        ("known unicast", "", raw(b, 0x88b5)),
        ("broadcast", "group", raw(BROADCAST, 0x88b5)),
        ("multicast", "group", udp([0x01, 0, 0x5e, 0, 0, 0xfb], [224, 0, 0, 251])),
        ("multicast that nobody joined", "group", udp([0x01, 0, 0x5e, 1, 2, 3], [239, 1, 2, 3])),
        ("unknown unicast", "unknown-destination", raw(UNKNOWN, 0x88b5)),
        ("ARP to all", "arp", raw(BROADCAST, 0x0806)),
        ("ARP to one", "arp", raw(b, 0x0806)),
        ("neighbour solicitation", "group", nd([0x33, 0x33, 0xff, 0, 0, 9], 135)),
        ("neighbour advertisement to one", "nd", nd(b, 136)),
        ("BPDU", "group", llc(control(0))),
        ("802.2 to one", "control", llc(b)),
        ("pause", "group", raw(control(1), 0x8808)),
        ("LACP", "group", raw(control(2), 0x8809)),
        ("LACP to one", "control", raw(b, 0x8809)),
        ("LLDP", "group", raw(control(0x0e), 0x88cc)),
        ("LLDP to one", "control", raw(b, 0x88cc)),
        ("tagged to one", "tagged", tagged(b)),
        ("tagged to all", "tagged", tagged(BROADCAST)),
        ("to the bridge", "unknown-destination", raw(bridge, 0x88b5)),
        ("to a port's own address", "unknown-destination", raw(port, 0x88b5)),
        ("from a group", "unknown-source", from_group),
        ("to itself", "same-port", raw(a, 0x88b5)),
    ]
}

/// Which of ns1 and ns2 get each frame. With a fast path, each frame must be counted as slow for its reason.
fn run(fast: bool) -> Vec<(&'static str, Vec<bool>)> {
    let host = Host::new();
    let lab = if fast { fast_lab(&host) } else { plain_lab(&host) };
    let address = |link: &str| {
        let link = host.json(format!("ip -j link show dev {link}"));
        parse_mac(link[0]["address"].as_str().expect("a MAC"))
    };
    let (bridge, port) = (address("docker0"), address(&lab.port("ns1:eth0")));
    let [from, b, c] = ["ns0:eth0", "ns1:eth0", "ns2:eth0"].map(|end| lab.wire(end));
    let slow = || lab.stats().pair("ns0:eth0").slow.clone();
    let mut outcome = Vec::new();
    let mut number = 0;
    for (what, reason, frame) in frames(&lab, bridge, port) {
        let counted = |counts: &BTreeMap<String, u64>| counts.get(reason).copied().unwrap_or_default();
        // The broadcast behind it counts as `group` too.
        let least = 1 + u64::from(reason == "group");
        let mut got = None;
        // Sent again if the agent was late to renew its lease: frames are then slow for that reason.
        wait_until(A_SECOND, || {
            number += 2;
            let before: BTreeMap<_, _> = slow();
            let now = receives(&from, &with_number(frame.clone(), number), number, &[&b, &c]);
            let first = got.get_or_insert_with(|| now.clone());
            assert_eq!(*first, now, "{what}: others get it now");
            let after = slow();
            let is_counted = !fast || reason.is_empty() || counted(&after) >= counted(&before) + least;
            if is_counted { Ok(()) } else { Err(format!("{what}: {before:?}, then {after:?}")) }
        });
        outcome.push((what, got.expect("it was sent")));
    }
    drop([from, b, c]);
    if fast {
        let _ = lab.assert_counters_match();
    }
    lab.down();
    host.finish();
    outcome
}

#[test]
fn broadcast_multicast_control_and_tagged_frames_go_where_a_plain_bridge_sends_them() {
    let (fast, plain) = (run(true), run(false));
    assert_eq!(fast, plain);
    let gets = |what: &str| plain.iter().find(|(name, _)| *name == what).map(|(_, who)| who.clone());
    assert_eq!(gets("known unicast"), Some(vec![true, false]), "the test sees who gets what");
    assert_eq!(gets("broadcast"), Some(vec![true, true]));
    assert_eq!(gets("LLDP"), Some(vec![false, false]));
}

const GATEWAY: &str = "172.17.0.1";

#[test]
fn the_bridges_own_mac_is_no_station_and_it_is_reached() {
    on_all(|host, lab, fast| {
        let slow = || lab.stats().pair("ns0:eth0").slow("unknown-destination");
        // Retried if the agent was late to renew its lease: frames are then slow for that reason.
        wait_for(A_SECOND, "what is for the bridge goes to the bridge", || {
            let before = slow();
            lab.reaches("ns0", GATEWAY);
            let _ = host.run(format!("ping -n -q -c 3 -l 3 -W 5 {B}")).ok();
            !fast || slow() >= before + 3
        });
        // Another MAC, which no host has learned yet.
        let _ = host.run("ip link set docker0 address 02:00:00:00:77:77").ok();
        for namespace in ["ns0", "ns1"] {
            let _ = lab.run(namespace, "ip neigh flush dev eth0").ok();
        }
        lab.reaches_within(A_SECOND, "ns0", GATEWAY);
        lab.reaches("ns0", B);
        let _ = host.run("ip addr add 172.17.0.2/16 dev docker0").ok();
        lab.reaches_within(A_SECOND, "ns1", "172.17.0.2");
    });
}

#[test]
fn a_promiscuous_bridge_gets_everything() {
    on_all(|host, lab, fast| {
        let _ = host.run("ip link set docker0 promisc on").ok();
        if fast {
            lab.wait_for_state("ns0:eth0", "the bridge is promiscuous");
            lab.wait_for_state("ns1:eth0", "the bridge is promiscuous");
        }
        // Frames between hosts are also passed up to the bridge device.
        let received = || link_counter(host, "", "docker0", ("rx", "packets"));
        wait_for(A_SECOND, "the bridge gets no copy", || {
            let before = received();
            lab.reaches("ns0", B);
            received() >= before + 6
        });
        let _ = host.run("ip link set docker0 promisc off").ok();
    });
}
