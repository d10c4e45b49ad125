//! Netfilter rules, and br_netfilter without any: their effect on fast frames is that on bridged frames.

use etherparse::PacketBuilder;

use crate::{
    harness::{
        Host, NetfilterProgram, SLACK, Stats, Stream, Wire, iperf, lacks, of_this_kernel, wait_for,
        wait_until,
    },
    hazards::{A, A_SECOND, B, fast_datapaths, lab_by, link_counter, mac_bytes, on_all},
    traffic::with_nearly_all_fast,
};

/// A chain of priority 0 would miss IP packets where br_netfilter calls iptables: hooks after its own continue at a
/// greater priority (`br_nf_hook_thresh` in net/bridge/br_netfilter_hooks.c, Linux 6.1).
#[test]
fn a_bridge_family_rule_takes_effect() {
    for datapath in fast_datapaths() {
        let host = Host::new();
        let lab = lab_by(datapath, &host);
        for command in [
            "nft add table bridge guard",
            "nft add chain bridge guard forward { type filter hook forward priority filter ; }",
            "nft add rule bridge guard forward ip saddr 172.17.0.101 ip daddr 172.17.0.102 drop",
        ] {
            let _ = host.run(command).ok();
        }
        lab.loses_within(A_SECOND, "ns0", B);
        lab.reaches("ns0", "172.17.0.103");
        let _ = host.run("nft delete table bridge guard").ok();
        lab.reaches_within(A_SECOND, "ns0", B);
        lab.is_fast("ns0:eth0", B);
        let _ = lab.assert_counters_match();
        lab.down();
        host.finish();
    }
}

#[test]
fn a_bpf_program_on_a_netfilter_hook_takes_effect() {
    on_all(|host, lab, is_fast| {
        // A kernel without br_netfilter has no such setting, and its bridges call no IPv4 hook.
        let calls = host.run("sysctl -q -w net.bridge.bridge-nf-call-iptables=1").succeeded();
        if is_fast && calls {
            lab.is_fast("ns0:eth0", B);
        }
        let program = NetfilterProgram::forward(&host.netns(), 0);
        let program =
            program.unwrap_or_else(|error| lacks(&format!("BPF programs for netfilter hooks: {error}")));
        if calls {
            lab.loses_within(A_SECOND, "ns0", B);
        }
        drop(program);
        lab.reaches_within(A_SECOND, "ns0", B);
    });
}

#[test]
fn a_netdev_rule_at_a_port_takes_effect() {
    for datapath in fast_datapaths() {
        let host = Host::new();
        let lab = lab_by(datapath, &host);
        let port = lab.port("ns0:eth0");
        let hook = format!("{{ type filter hook ingress device {port} priority 0 ; }}");
        let _ = host.run("nft add table netdev guard").ok();
        let _ = host.run(format!("nft add chain netdev guard in {hook}")).ok();
        let _ = host.run("nft add rule netdev guard in ip daddr 172.17.0.102 drop").ok();
        lab.loses_within(A_SECOND, "ns0", B);
        let _ = host.run("nft delete table netdev guard").ok();
        lab.reaches_within(A_SECOND, "ns0", B);
        lab.is_fast("ns0:eth0", B);
        lab.down();
        host.finish();
    }
}

/// With br_netfilter, iptables' FORWARD rules apply to bridged frames too.
#[test]
fn a_forward_rule_takes_effect_by_br_netfilter() {
    for datapath in fast_datapaths() {
        let host = Host::new();
        let _ = host.run("sysctl net.bridge.bridge-nf-call-iptables").ok().stdout_has("= 1");
        let lab = lab_by(datapath, &host);
        for command in [
            "nft add table ip guard",
            "nft add chain ip guard forward { type filter hook forward priority 0 ; }",
            "nft add rule ip guard forward ip daddr 172.17.0.102 drop",
        ] {
            let _ = host.run(command).ok();
        }
        lab.loses_within(A_SECOND, "ns0", B);
        let _ = host.run("nft delete table ip guard").ok();
        lab.reaches_within(A_SECOND, "ns0", B);
        lab.is_fast("ns0:eth0", B);
        lab.down();
        host.finish();
    }
}

/// With br_netfilter a bridge checks IP packets even where there is no rule. What a host sees of that is the same
/// with a fast path as on a plain bridge.
#[test]
fn packets_are_checked_as_br_netfilter_does() {
    for datapath in of_this_kernel(&["tc", "xdp", "bridge"]) {
        let host = Host::new();
        let netfilter = |called: u8| {
            for family in ["iptables", "ip6tables"] {
                let _ = host.run(format!("sysctl -w net.bridge.bridge-nf-call-{family}={called}")).ok();
            }
        };
        netfilter(1);
        let lab = host.lab("three-hosts").with("\"tc\"", &format!("\"{datapath}\"")).up();
        let is_fast = datapath != "bridge";
        if is_fast {
            lab.is_fast("ns0:eth0", B);
            lab.is_fast("ns1:eth0", A);
            with_nearly_all_fast(&lab, || drop(iperf(&lab, "ns0", ("ns1", B), "--time 1")));
        } else {
            lab.reaches("ns0", B);
        }
        let wires = [lab.wire("ns0:eth0"), lab.wire("ns1:eth0")];
        let frames = TestFrames::between(mac_bytes(&lab, "ns0"), mac_bytes(&lab, "ns1"));
        let (before, after) = lab.with_a_lease(|| {
            let before = lab.stats();
            // The wrong one is dropped, both padded ones are trimmed, and the right one is unchanged.
            wires[0].send(&frames.wrong);
            for (sent, length) in [(&frames.padded4, 46), (&frames.padded6, 66), (&frames.right, 46)] {
                wires[0].send(sent);
                let arrived = frames.arrival(&wires[1]);
                assert_eq!(arrived, sent[..length], "{datapath}");
            }
            (before, lab.stats())
        });
        if is_fast {
            let slow = |stats: &Stats| stats.pair("ns0:eth0").slow("netfilter-check");
            assert_eq!(slow(&after) - slow(&before), 3, "the last one was fast");
        }
        // Where br_netfilter is not called, all frames arrive unchanged.
        netfilter(0);
        let wait_for_padded = |length: usize| {
            wait_until(A_SECOND, || {
                wires[0].send(&frames.padded4);
                let arrived = frames.arrival(&wires[1]).len();
                if arrived == length { Ok(()) } else { Err(format!("{arrived} bytes came on {datapath}")) }
            });
        };
        wait_for_padded(60);
        for sent in [&frames.wrong, &frames.padded6] {
            wires[0].send(sent);
            let arrived = frames.arrival(&wires[1]);
            assert_eq!(arrived, *sent, "{datapath}");
        }
        // A single bridge may enable the calls.
        let _ = host.run("ip link set docker0 type bridge nf_call_iptables 1").ok();
        wait_for_padded(46);
        drop(wires);
        lab.down();
        host.finish();
    }
}

/// Connection tracking reassembles fragments that cross a bridge, even if its only rule is one that no bridged frame
/// passes. A fragment whose others never arrive goes no further.
#[test]
fn fragments_are_reassembled_where_connections_are_tracked() {
    on_all(|host, lab, is_fast| {
        let called = host.run("sysctl -q -w net.bridge.bridge-nf-call-iptables=1").succeeded();
        let wires = [lab.wire("ns0:eth0"), lab.wire("ns1:eth0")];
        let frames = TestFrames::between(mac_bytes(lab, "ns0"), mac_bytes(lab, "ns1"));
        let fragment_arrives = || {
            wires[0].send(&frames.fragment);
            wires[0].send(&frames.right);
            // The paths do not differ so much in speed that one frame overtakes the other.
            let arrived = frames.arrival(&wires[1]);
            let has_arrived = arrived == frames.fragment;
            if has_arrived {
                assert_eq!(frames.arrival(&wires[1]), frames.right);
            }
            has_arrived
        };
        assert!(fragment_arrives(), "nothing tracks connections here");
        for command in [
            "nft add table ip guard",
            // Nothing jumps to this chain.
            "nft add chain ip guard unused",
            "nft add rule ip guard unused ct state established accept",
        ] {
            let _ = host.run(command).ok();
        }
        if called {
            wait_until(A_SECOND, || {
                if fragment_arrives() { Err("a lone fragment arrives".to_owned()) } else { Ok(()) }
            });
        }
        let _ = lab.run("ns0", "ping -c 2 -i 0.1 -s 4000 172.17.0.102").ok();
        if is_fast {
            lab.is_fast("ns0:eth0", B);
        }
        let _ = host.run("nft delete table ip guard").ok();
        wait_until(
            A_SECOND,
            || {
                if fragment_arrives() { Ok(()) } else { Err("a fragment is kept".to_owned()) }
            },
        );
    });
}

/// UDP packets between two hosts, each with 4 bytes of data.
struct TestFrames {
    from: [u8; 6],
    /// IPv4, valid.
    right: Vec<u8>,
    /// The same with a wrong checksum in the IPv4 header.
    wrong: Vec<u8>,
    /// The valid one as the first of several fragments.
    fragment: Vec<u8>,
    /// The valid one with zeros behind it, up to the minimum length of Ethernet.
    padded4: Vec<u8>,
    /// IPv6, with zeros behind it.
    padded6: Vec<u8>,
}

impl TestFrames {
    const PORTS: (u16, u16) = (4242, 9);

    fn between(from: [u8; 6], to: [u8; 6]) -> Self {
        let ethernet = || PacketBuilder::ethernet2(from, to);
        let address = |text: &str| text.parse::<std::net::Ipv4Addr>().expect("an address").octets();
        let mut right = Vec::new();
        let builder = ethernet().ipv4(address(A), address(B), 64).udp(Self::PORTS.0, Self::PORTS.1);
        builder.write(&mut right, b"data").expect("it fits");
        let mut padded6 = Vec::new();
        let hosts = [1, 2].map(|n| std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n).octets());
        let builder = ethernet().ipv6(hosts[0], hosts[1], 64).udp(Self::PORTS.0, Self::PORTS.1);
        builder.write(&mut padded6, b"data").expect("it fits");
        padded6.resize(100, 0);
        let (mut wrong, mut padded4) = (right.clone(), right.clone());
        wrong[14 + 10] ^= 1;
        padded4.resize(60, 0);
        let mut fragment = right.clone();
        (fragment[14 + 6], fragment[14 + 10], fragment[14 + 11]) = (0x20, 0, 0);
        let sum: u32 =
            fragment[14..34].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
        let check = !((sum & 0xffff) + (sum >> 16));
        fragment[14 + 10..14 + 12].copy_from_slice(&check.to_be_bytes()[2..]);
        Self { from, right, wrong, fragment, padded4, padded6 }
    }

    /// Waits for the next of these frames.
    #[track_caller]
    fn arrival(&self, wire: &Wire) -> Vec<u8> {
        wait_until(SLACK, || self.next(wire).ok_or("nothing came".to_owned()))
    }

    /// The next of these frames that has arrived. Others are skipped.
    fn next(&self, wire: &Wire) -> Option<Vec<u8>> {
        let ports = [Self::PORTS.0.to_be_bytes(), Self::PORTS.1.to_be_bytes()].concat();
        loop {
            let (_, frame) = wire.next()?;
            let transport = if frame[12] == 0x08 { 34 } else { 54 };
            if frame[6..12] == self.from && frame.get(transport..transport + 4) == Some(&ports[..]) {
                return Some(frame);
            }
        }
    }
}

/// Rules that are added during a stream: it is cut within a second, although all its frames were fast.
#[test]
fn rules_added_while_traffic_flows_take_effect_within_a_second() {
    for datapath in fast_datapaths() {
        let host = Host::new();
        let lab = lab_by(datapath, &host);
        let ingress = format!("{{ type filter hook ingress device {} priority 0 ; }}", lab.port("ns0:eth0"));
        for (table, hook) in [
            ("bridge", "{ type filter hook forward priority filter ; }"),
            ("netdev", ingress.as_str()),
            ("ip", "{ type filter hook forward priority 0 ; }"),
        ] {
            let stream = Stream::start(&lab, ("ns0", A), ("ns1", B), std::time::Duration::from_millis(1));
            let before = lab.stats().fast();
            wait_until(SLACK, || {
                if lab.stats().fast() > before + 200 { Ok(()) } else { Err("not fast".to_owned()) }
            });
            let _ = host.run(format!("nft add table {table} guard")).ok();
            let _ = host.run(format!("nft add chain {table} guard c {hook}")).ok();
            let _ = host
                .run(format!("nft add rule {table} guard c ip daddr 172.17.0.102 udp dport 7007 drop"))
                .ok();
            let departures = || link_counter(&host, "ns0", "eth0", ("tx", "packets"));
            let arrivals = || link_counter(&host, "ns1", "eth0", ("rx", "packets"));
            wait_until(A_SECOND, || {
                let (sent, before) = (departures(), arrivals());
                wait_for(SLACK, "the stream stands still", || departures() >= sent + 100);
                let more = arrivals() - before;
                // Without the rule a hundred and more would arrive. Address resolution may go on.
                if more < 20 { Ok(()) } else { Err(format!("{more} frames of the stream came past {table}")) }
            });
            let _ = host.run(format!("nft delete table {table} guard")).ok();
            lab.is_fast("ns0:eth0", B);
            let [there, back] = stream.end();
            assert!(
                there.lost() > 0 && there.duplicated + back.duplicated == 0 && back.lost() == 0,
                "{there:?} {back:?}"
            );
        }
        let _ = lab.assert_counters_match();
        lab.down();
        host.finish();
    }
}

/// As docker sets it up: forwarded packets are dropped unless a rule accepts them.
const DOCKER: [&str; 3] = [
    "nft add table ip filter",
    "nft add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }",
    "nft add rule ip filter FORWARD ip saddr 172.17.0.0/16 accept",
];

#[test]
fn dockers_rules_are_obeyed_and_a_workaround_is_reported() {
    let mut host = Host::new();
    let _ = host.run("sysctl net.bridge.bridge-nf-call-iptables").ok().stdout_has("= 1");
    for command in DOCKER {
        let _ = host.run(command).ok();
    }
    host.set_baseline();
    let lab = host.lab("three-hosts").up();
    lab.reaches("ns0", B);
    lab.wait_for_state("ns0:eth0", "FORWARD");
    assert_eq!(lab.stats().fast(), 0);
    let _ = host.vethpath("doctor").stdout_has("fabric = true");
    // What docker's rules drop is dropped.
    let _ = host.run("nft flush chain ip filter FORWARD").ok();
    lab.loses_within(A_SECOND, "ns0", B);
    let _ = host.run(DOCKER[2]).ok();
    lab.reaches_within(A_SECOND, "ns0", B);
    lab.down();

    let lab = host.lab("fabric").up();
    lab.is_fast("ns0:eth0", "10.2.0.11");
    lab.down();
    host.finish();
}
