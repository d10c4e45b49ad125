//! What other people attach to the devices: rules, filters, shapers and sniffers keep working.

use std::time::Duration;

use etherparse::PacketBuilder;
use serde_json::Value;

use crate::{
    harness::{Host, Lab, SLACK, Wire, iperf, received, wait_for, wait_until},
    traffic::nearly_all_fast,
};

const A: &str = "172.17.0.101";
const B: &str = "172.17.0.102";
/// What `vethpath` promises, and what a loaded machine may add.
const A_SECOND: Duration = Duration::from_secs(1).saturating_add(SLACK);

/// A lab whose traffic between ns0 and ns1 is fast, both ways.
fn fast_lab(host: &Host) -> Lab<'_> {
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", B);
    lab.is_fast("ns1:eth0", A);
    lab
}

#[test]
fn a_bridge_family_rule_takes_effect() {
    let host = Host::new();
    let lab = fast_lab(&host);
    for command in [
        "nft add table bridge guard",
        "nft add chain bridge guard forward { type filter hook forward priority 0 ; }",
        "nft add rule bridge guard forward ip saddr 172.17.0.101 ip daddr 172.17.0.102 drop",
    ] {
        let _ = host.run(command).ok();
    }
    lab.loses_within(A_SECOND, "ns0", B);
    lab.reaches("ns0", "172.17.0.103");
    let _ = host.run("nft delete table bridge guard").ok();
    lab.reaches_within(A_SECOND, "ns0", B);
    lab.is_fast("ns0:eth0", B);
    let _ = lab.accounts_balance();
    lab.down();
    host.finish();
}

#[test]
fn a_netdev_rule_at_a_port_takes_effect() {
    let host = Host::new();
    let lab = fast_lab(&host);
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

/// With br_netfilter, iptables' FORWARD rules apply to bridged frames too.
#[test]
fn a_forward_rule_takes_effect_by_br_netfilter() {
    let host = Host::new();
    let _ = host.run("sysctl net.bridge.bridge-nf-call-iptables").ok().prints("= 1");
    let lab = fast_lab(&host);
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

/// With br_netfilter a bridge checks IP packets even where no rule is: what a host sees of it is the
/// same on a lab with a fast path and on a plain bridge.
#[test]
fn what_br_netfilter_checks_is_checked() {
    for datapath in ["\"tc\"", "\"bridge\""] {
        let host = Host::new();
        let netfilter = |called: u8| {
            for family in ["iptables", "ip6tables"] {
                let _ = host.run(format!("sysctl -w net.bridge.bridge-nf-call-{family}={called}")).ok();
            }
        };
        netfilter(1);
        let lab = host.lab("three-hosts").with("\"tc\"", datapath).up();
        let is_fast = datapath == "\"tc\"";
        if is_fast {
            lab.is_fast("ns0:eth0", B);
            lab.is_fast("ns1:eth0", A);
            let before = lab.stats();
            let _ = iperf(&lab, "ns0", ("ns1", B), "--time 1");
            nearly_all_fast(&before, &lab.accounts_balance());
        } else {
            lab.reaches("ns0", B);
        }
        let wires = [lab.wire("ns0:eth0"), lab.wire("ns1:eth0")];
        let frames = TestFrames::between(mac(&host, "ns0"), mac(&host, "ns1"));
        let slow = |lab: &Lab<'_>| lab.stats().pair("ns0:eth0").slow("netfilter-check");
        let before = slow(&lab);
        // Dropped; trimmed, both; as it was.
        wires[0].send(&frames.wrong);
        for (sent, comes) in [(&frames.padded4, 46), (&frames.padded6, 66), (&frames.right, 46)] {
            wires[0].send(sent);
            let came = frames.arrival(&wires[1]);
            assert_eq!(came, sent[..comes], "{datapath}");
        }
        if is_fast {
            assert_eq!(slow(&lab) - before, 3, "the last one was fast");
        }
        // And not where it is not called: then all comes as it is.
        netfilter(0);
        let padded_comes_as = |length: usize| {
            wait_until(A_SECOND, || {
                wires[0].send(&frames.padded4);
                let came = frames.arrival(&wires[1]).len();
                if came == length { Ok(()) } else { Err(format!("{came} bytes came on {datapath}")) }
            });
        };
        padded_comes_as(60);
        for sent in [&frames.wrong, &frames.padded6] {
            wires[0].send(sent);
            let came = frames.arrival(&wires[1]);
            assert_eq!(came, *sent, "{datapath}");
        }
        // A bridge may call it by itself.
        let _ = host.run("ip link set docker0 type bridge nf_call_iptables 1").ok();
        padded_comes_as(46);
        drop(wires);
        lab.down();
        host.finish();
    }
}

/// UDP packets between two hosts, each with 4 bytes of data.
struct TestFrames {
    from: [u8; 6],
    /// Of IPv4, as it should be.
    right: Vec<u8>,
    /// The same with a wrong checksum in the IPv4 header.
    wrong: Vec<u8>,
    /// The same with as many zeros behind it as Ethernet wants.
    padded4: Vec<u8>,
    /// Of IPv6, with zeros behind it.
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
        Self { from, right, wrong, padded4, padded6 }
    }

    /// Waits for the next of these that comes.
    #[track_caller]
    fn arrival(&self, wire: &Wire) -> Vec<u8> {
        wait_until(SLACK, || self.next(wire).ok_or("nothing came".to_owned()))
    }

    /// The next of these that has come, among what else there is.
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

fn mac(host: &Host, namespace: &str) -> [u8; 6] {
    let link = host.json(format!("ip -n {namespace} -j link show dev eth0"));
    let address = link[0]["address"].as_str().expect("a MAC");
    let bytes: Vec<_> = address.split(':').map(|b| u8::from_str_radix(b, 16).expect("a byte")).collect();
    bytes.try_into().expect("six")
}

#[test]
fn a_shaper_shapes() {
    let host = Host::new();
    let lab = fast_lab(&host);
    let port = lab.port("ns1:eth0");
    let _ = host.run(format!("tc qdisc add dev {port} root tbf rate 8mbit burst 20kb latency 50ms")).ok();
    let through = || {
        let qdiscs = host.json(format!("tc -s -j qdisc show dev {port} root"));
        qdiscs[0]["packets"].as_u64().expect("a counter")
    };
    wait_until(A_SECOND, || {
        let before = through();
        lab.reaches("ns0", B);
        let passed = through() - before;
        if passed >= 3 { Ok(()) } else { Err(format!("{passed} of 3 pings went through the shaper")) }
    });
    let report = iperf(&lab, "ns0", ("ns1", B), "--time 2");
    // 8 Mbit/s for two seconds are 2 MB; a fast path around it would carry gigabytes.
    assert!(received(&report) < 8_000_000, "{:#}", report["end"]);
    let qdiscs = host.json(format!("tc -j qdisc show dev {port} root"));
    assert_eq!(qdiscs[0]["kind"], "tbf");
    let _ = host.run(format!("tc qdisc del dev {port} root")).ok();
    lab.is_fast("ns0:eth0", B);
    let _ = lab.accounts_balance();
    lab.down();
    host.finish();
}

#[test]
fn somebodys_filter_at_the_egress_of_a_port() {
    let mut host = Host::new();
    sink(&mut host);
    let lab = fast_lab(&host);
    let port = lab.port("ns1:eth0");
    filter(&host, &port, "egress", "mirred egress redirect dev sink0");
    // Redirected away: ns1 does not get them.
    lab.loses_within(A_SECOND, "ns0", B);
    lab.reaches("ns0", "172.17.0.103");
    let _ = host.run(format!("tc filter show dev {port} egress")).ok().prints("mirred");
    let _ = host.run(format!("tc qdisc del dev {port} clsact")).ok();
    lab.reaches_within(A_SECOND, "ns0", B);
    lab.is_fast("ns0:eth0", B);
    lab.down();
    host.finish();
}

#[test]
fn somebodys_filter_at_the_ingress_of_a_port() {
    let mut host = Host::new();
    sink(&mut host);
    let lab = fast_lab(&host);
    let port = lab.port("ns0:eth0");
    filter(&host, &port, "ingress", "mirred egress mirror dev sink0");
    let mirrored = || {
        let link = host.json("ip -s -j link show dev sink1");
        link[0]["stats64"]["rx"]["packets"].as_u64().expect("a counter")
    };
    wait_until(A_SECOND, || {
        let before = mirrored();
        lab.reaches("ns0", B);
        let copies = mirrored() - before;
        if copies >= 3 { Ok(()) } else { Err(format!("{copies} of 3 pings were mirrored")) }
    });
    let _ = host.run(format!("tc qdisc del dev {port} clsact")).ok();
    lab.is_fast("ns0:eth0", B);
    let _ = lab.accounts_balance();
    lab.down();
    host.finish();
}

#[test]
fn tcpdump_on_a_port_sees_both_ways() {
    sniffer("ns0:eth0");
    sniffer("ns1:eth0");
}

fn sniffer(pair: &str) {
    let host = Host::new();
    let lab = fast_lab(&host);
    let port = lab.port(pair);
    let capture = host.spawn(format!("tcpdump -l -n --immediate-mode -i {port} icmp"));
    wait_for(SLACK, "tcpdump does not start", || capture.output().contains("listening on"));
    sees_both_ways(&lab, || capture.output());
    // And it goes on to see them, not the first ones alone.
    let count = || capture.output().matches("ICMP echo").count();
    let before = count();
    lab.reaches("ns0", B);
    wait_for(SLACK, "tcpdump sees no more", || count() >= before + 6);
    capture.interrupt();
    let _ = capture.wait(SLACK).ok();
    lab.is_fast("ns0:eth0", B);
    let _ = lab.accounts_balance();
    lab.down();
    host.finish();
}

#[test]
fn tcpdump_on_the_bridge_sees_both_ways() {
    let host = Host::new();
    let lab = fast_lab(&host);
    // tcpdump makes the bridge promiscuous: it then gets a copy of everything.
    let capture = host.spawn("tcpdump -l -n --immediate-mode -i docker0 icmp");
    wait_for(SLACK, "tcpdump does not start", || capture.output().contains("listening on"));
    sees_both_ways(&lab, || capture.output());
    capture.interrupt();
    let _ = capture.wait(SLACK).ok();
    lab.is_fast("ns0:eth0", B);
    lab.down();
    host.finish();
}

/// A sniffer in a namespace has nothing to do with the bridge: the fast path stays, and it sees all.
#[test]
fn tcpdump_inside_a_namespace_sees_both_ways() {
    let host = Host::new();
    let lab = fast_lab(&host);
    let capture = lab.spawn("ns1", "tcpdump -l -n --immediate-mode -i eth0 icmp");
    wait_for(SLACK, "tcpdump does not start", || capture.output().contains("listening on"));
    sees_both_ways(&lab, || capture.output());
    lab.is_fast("ns0:eth0", B);
    drop(capture);
    lab.down();
    host.finish();
}

/// A bridge makes the checksum where the port it sends by cannot offload it.
#[test]
fn offloads_switched_off_on_a_port_are_honoured() {
    let host = Host::new();
    let lab = fast_lab(&host);
    let capture = lab.spawn("ns1", "tcpdump -l -n -vv --immediate-mode -i eth0 udp port 9");
    wait_for(SLACK, "tcpdump does not start", || capture.output().contains("listening on"));
    let send = || lab.run("ns0", ["bash", "-c", &format!("echo hello > /dev/udp/{B}/9")]).ok();
    let _ = send();
    wait_for(SLACK, "the checksum is left to the receiver", || capture.output().contains("bad udp cksum"));
    let _ = host.run(format!("ethtool -K {} tx off", lab.port("ns1:eth0"))).ok();
    wait_for(A_SECOND, "the checksum is made", || {
        let _ = send();
        capture.output().contains("udp sum ok")
    });
    drop(capture);
    lab.down();
    host.finish();
}

#[track_caller]
fn sees_both_ways(lab: &Lab<'_>, seen: impl Fn() -> String) {
    wait_until(A_SECOND, || {
        lab.reaches("ns0", B);
        let seen = seen();
        let both = [format!("{A} > {B}: ICMP echo request"), format!("{B} > {A}: ICMP echo reply")];
        if both.iter().all(|way| seen.contains(way)) { Ok(()) } else { Err(format!("tcpdump saw {seen}")) }
    });
}

/// Somebody's own veth pair to throw frames at.
fn sink(host: &mut Host) {
    for command in [
        "ip link add sink0 type veth peer name sink1",
        "sysctl -q -w net.ipv6.conf.sink0.disable_ipv6=1 net.ipv6.conf.sink1.disable_ipv6=1",
        "ip link set sink0 up",
        "ip link set sink1 up",
    ] {
        let _ = host.run(command).ok();
    }
    let up = |link: &Value| link[0]["operstate"] == "UP";
    wait_for(SLACK, "the sink is not up", || {
        ["sink0", "sink1"].iter().all(|s| up(&host.json(format!("ip -j link show dev {s}"))))
    });
    host.remember();
}

/// Somebody's filter on what goes to ns1.
fn filter(host: &Host, port: &str, way: &str, action: &str) {
    let _ = host.run(format!("tc qdisc replace dev {port} clsact")).ok();
    let matching = "protocol ip u32 match ip dst 172.17.0.102/32";
    let _ = host.run(format!("tc filter add dev {port} {way} {matching} action {action}")).ok();
}

/// Under clsact our filter is known by its priority and handle: a single filter of somebody else at
/// ingress is not taken for it.
#[test]
fn a_clsact_filter_of_somebody_else_is_not_ours() {
    let host = Host::new();
    let file = host.lab("three-hosts").write();
    let _ = host.vethpath(format!("up {file} --hook clsact")).ok().says("3 of 3 pairs armed");
    let lab_stats = || {
        let done = host.vethpath("stats --json").ok();
        let pairs = done.json()["pairs"].clone();
        (pairs[0]["port"].as_str().expect("a port").to_owned(), pairs[0]["state"].as_str().map(str::to_owned))
    };
    let (port, _) = lab_stats();
    let _ = host.run(format!("tc filter del dev {port} ingress")).ok();
    let program = "/sys/fs/bpf/vethpath/three-hosts/port_ingress_0";
    let add = format!(
        "tc filter add dev {port} ingress prio 5 protocol all bpf direct-action object-pinned {program}"
    );
    let _ = host.run(add).ok();
    wait_for(SLACK, "somebody else's filter is not seen", || {
        lab_stats().1.is_some_and(|state| state != "armed")
    });
    // It stays so when the agent has looked once more.
    std::thread::sleep(Duration::from_secs(2));
    assert_ne!(lab_stats().1.as_deref(), Some("armed"));
    let _ = host.vethpath("down").ok();
    host.finish();
}
