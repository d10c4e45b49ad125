//! What a port's transmit path does to frames: checksums and segments that are left to the device, limits on GSO
//! frames, queues, MTUs (`validate_xmit_skb`, `gso_features_check` and `netdev_pick_tx` in net/core/dev.c, `veth_xmit` in
//! drivers/net/veth.c).

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use vethpath::{agent::status, kernel::Netns};

use crate::{
    harness::{Host, Iperf, Lab, SLACK, TIMEOUT, wait_for, wait_until},
    hazards::{A_SECOND, B, fast_lab, on_all, on_both, plain_lab, transfer, uses_port, wait_for_tcpdump},
};

/// A bridge computes the checksum where the egress port cannot offload it.
#[test]
fn offloads_switched_off_on_a_port_are_honoured() {
    let host = Host::new();
    let lab = fast_lab(&host);
    let capture = wait_for_tcpdump(lab.spawn("ns1", "tcpdump -l -n -vv --immediate-mode -i eth0 udp port 9"));
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

/// Offloads that are switched off in turn, at either inner end and at either port.
const OFF: [(&str, &str, &str); 8] = [
    ("ns0", "eth0", "tx off"),
    ("ns0", "eth0", "tso off gso off"),
    ("ns1", "eth0", "rx off"),
    ("ns1", "eth0", "tx off sg off"),
    ("ns1", "eth0", "gro on"),
    ("", "ns1:eth0", "tx off"),
    ("", "ns1:eth0", "tso off gso off"),
    ("", "ns0:eth0", "rx off tx off"),
];

/// TCP in both directions, with each offload off in turn, and then with all off: every byte arrives as it was sent.
#[test]
fn tcp_is_intact_with_any_offload_off() {
    on_all(|host, lab, fast| {
        transfer(lab);
        for (namespace, link, what) in OFF {
            if namespace.is_empty() {
                let _ = host.run(format!("ethtool -K {} {what}", lab.port(link))).ok();
            } else {
                let _ = lab.run(namespace, format!("ethtool -K {link} {what}")).ok();
            }
            transfer(lab);
        }
        let wrong = ["ns0", "ns1"].map(|n| lab.run(n, "nstat -asz TcpInCsumErrors").ok().stdout);
        assert!(wrong.iter().all(|text| text.contains("TcpInCsumErrors                 0 ")), "{wrong:?}");
        if fast {
            lab.is_fast("ns0:eth0", B);
        }
    });
}

/// A frame of several segments, but not of many.
const FEW: u64 = 8_000;

/// The longest frame of more than `most` bytes that arrives at ns1 during `work`; 0 if there is none. A ping behind
/// all of them shows that they have been seen.
fn longest_above(lab: &Lab<'_>, most: u64, work: impl FnOnce()) -> u64 {
    let filter = format!("greater {} or icmp", most + 1);
    let capture = format!("tcpdump -l -n -e -s 96 --immediate-mode -Q in -i eth0 {filter}");
    let capture = wait_for_tcpdump(lab.spawn("ns1", capture));
    work();
    lab.reaches("ns0", B);
    wait_for(SLACK, "no ping is seen", || capture.output().matches("ICMP echo request").count() >= 3);
    let length = |line: &str| line.split_once(", length ")?.1.split_once(':')?.0.parse().ok();
    capture
        .output()
        .lines()
        .filter(|line| !line.contains("ICMP"))
        .filter_map(length)
        .max()
        .unwrap_or_default()
}

/// Has the agent check twice, since a check may be running. (Every tenth check used to be a full one.)
#[track_caller]
fn wait_for_resync(host: &Host, lab: &Lab<'_>) {
    let socket = host.path(&format!("/run/vethpath/{}/agent.sock", lab.name));
    let count = || status::query(&socket).map(|status| status.polls).unwrap_or_default();
    for _ in 0..2 {
        let before = count();
        let _ = host.run(format!("kill -HUP {}", lab.pid())).ok();
        wait_for(SLACK, "the agent does not resync", || count() > before);
    }
}

/// Checks that no frame that arrives at ns1 during a transfer is longer.
#[track_caller]
fn assert_no_frame_above(lab: &Lab<'_>, most: u64) {
    let longest = longest_above(lab, most, || transfer(lab));
    assert_eq!(longest, 0, "a frame of so many bytes arrives at ns1");
}

/// Waits until there is a longer frame: TCP begins with short ones.
#[track_caller]
fn wait_for_frame_above(lab: &Lab<'_>, least: u64) {
    wait_until(SLACK, || match longest_above(lab, least, || transfer(lab)) {
        0 => Err(format!("no frame has more than {least} bytes: nothing is there to be cut")),
        _ => Ok(()),
    });
}

/// Sets both GSO size limits of a device. `ip` does not support the one of IPv4 before iproute2 6.3.
#[track_caller]
fn set_gso_limits(netns: &Netns, device: &str, size: u32) {
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(device.to_owned()),
        LinkAttribute::GsoMaxSize(size),
        LinkAttribute::GsoIpv4MaxSize(size),
    ];
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::SetLink(link));
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let answered = netns.run(|| {
        let socket = Socket::new(NETLINK_ROUTE)?;
        let _ = socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        socket.recv_from_full()
    });
    let (answer, _) = answered.expect("it can be entered").expect("the kernel answers");
    assert_eq!(answer[16..20], [0; 4], "the limit of {device} is refused");
}

/// The kernel sends no event for a changed limit.
#[test]
fn frames_are_segmented_to_a_ports_gso_limits() {
    on_both(|host, lab, fast| {
        wait_for_frame_above(lab, FEW);
        let port = lab.port("ns1:eth0");
        let set = |what: &str| {
            let _ = host.run(format!("ip link set {port} {what}")).ok();
        };
        for gso_limit in ["gso_max_size 8000", "gso_max_segs 3"] {
            set(gso_limit);
            if fast {
                wait_for_resync(host, lab);
            }
            assert_no_frame_above(lab, FEW);
            set("gso_max_size 65536 gso_max_segs 65535");
        }
    });
}

/// The same for a trunk, which is then crossed through the bridges.
#[test]
fn frames_are_segmented_to_a_trunks_gso_limits() {
    for datapath in ["bridge", "tc"] {
        let host = Host::new();
        let text = format!(
            "[bridge.b1]\ntrunks = [\"b2\"]\ndatapath = \"{datapath}\"\n[bridge.b2]\ndatapath = \"{datapath}\"\n\
             [namespace.ns0.interface.eth0]\nlink = \"b1\"\naddresses = [\"172.17.0.101/16\"]\n\
             [namespace.ns1.interface.eth0]\nlink = \"b2\"\naddresses = [\"172.17.0.102/16\"]\n"
        );
        let lab = host.lab("empty").and(&text).named("pair").up();
        lab.reaches("ns0", B);
        if datapath == "tc" {
            lab.is_fast("ns0:eth0", B);
        }
        wait_for_frame_above(&lab, FEW);
        let port = lab.stats().trunk("b1 - b2").port.clone();
        let _ = host.run(format!("ip link set {port} gso_max_size 8000")).ok();
        if datapath == "tc" {
            wait_for_resync(&host, &lab);
        }
        assert_no_frame_above(&lab, FEW);
        if datapath == "tc" {
            let state = lab.stats().trunk("b1 - b2").state.clone();
            assert!(state.contains("gso_max_size"), "{state}");
        }
        let _ = host.run(format!("ip link set {port} gso_max_size 65536")).ok();
        if datapath == "tc" {
            lab.is_fast("ns0:eth0", B);
        }
        lab.down();
        host.finish();
    }
}

/// BIG TCP: frames of more than 64 KiB (for IPv6, with the kernel's own hop-by-hop option) are segmented by a port
/// that does not accept them. They cross one that does unchanged, on the fast path like all others of their flow.
#[test]
fn frames_of_more_than_64_kib_take_the_path_of_their_flow() {
    const LARGE: u32 = 196_608;
    on_both(|host, lab, fast| {
        let hosts = [("ns0", "fd00::1"), ("ns1", "fd00::2")];
        // Linux 6.3 and later have it for IPv4.
        let has_ipv4 = host.json("ip -d -j link show dev lo")[0]["gso_ipv4_max_size"].is_number();
        let receivers = if has_ipv4 { &["fd00::2", B][..] } else { &["fd00::2"] };
        for (namespace, address) in hosts {
            let _ = lab.run(namespace, format!("ip addr add {address}/64 dev eth0 nodad")).ok();
            set_gso_limits(&lab.netns(namespace), "eth0", LARGE);
        }
        // BBR builds no frames of more than 64 KiB (`bbr_tso_segs_goal`).
        let larger = |to: &str| {
            longest_above(lab, 65_536, || {
                drop(Iperf::start(lab, "ns0", ("ns1", to), "--bytes 60M --congestion cubic").report());
            })
        };
        for &to in receivers {
            wait_until(A_SECOND, || match larger(to) {
                0 => Ok(()),
                longest => Err(format!("{longest} bytes to {to} are not cut at a port that takes 64 KiB")),
            });
        }
        for pair in ["ns0:eth0", "ns1:eth0"] {
            set_gso_limits(&host.netns(), &lab.port(pair), LARGE);
        }
        for &to in receivers {
            wait_until(A_SECOND, || {
                let (before, longest, after) = (lab.stats(), larger(to), lab.stats());
                let slow = |reason| {
                    after.pair("ns0:eth0").slow_frames.get(reason).copied().unwrap_or_default()
                        - before.pair("ns0:eth0").slow_frames.get(reason).copied().unwrap_or_default()
                };
                let slow = slow("ipv6-options") + slow("netfilter-check") + slow("gso") + slow("too-big");
                match longest {
                    1.. if !fast || slow == 0 => Ok(()),
                    _ => Err(format!("{longest} bytes are the longest to {to}, {slow} frames were slow")),
                }
            });
        }
    });
}

/// Has ns1 drop all frames whose queue mapping (`SKF_AD_QUEUE`) is not 0, or all others.
fn drop_by_queue(lab: &Lab<'_>, (not_zero, others): (u8, u8)) {
    let bytecode = format!("4,32 0 0 4294963224,21 {others} {not_zero} 0,6 0 0 4294967295,6 0 0 0");
    let filter = format!("bpf bytecode '{bytecode}' action mirred egress redirect dev lo");
    for command in
        ["tc qdisc replace dev eth0 clsact", &format!("tc filter replace dev eth0 ingress pref 1 {filter}")]
    {
        let _ = lab.run("ns1", ["bash", "-c", command]).ok();
    }
}

/// The sender's choice of a queue ends at its port: the bridge chooses again, here among one.
#[test]
fn the_queue_of_the_sender_is_not_the_receivers() {
    on_both(|_, lab, fast| {
        let queues = "/sys/class/net/eth0/queues";
        let second =
            format!("ethtool -L eth0 tx 2; echo 0 > {queues}/tx-0/xps_cpus; echo 3 > {queues}/tx-1/xps_cpus");
        let _ = lab.run("ns0", ["bash", "-c", &second]).ok();
        drop_by_queue(lab, (0, 1));
        if fast {
            lab.is_fast("ns0:eth0", B);
        }
        lab.reaches("ns0", B);
        drop_by_queue(lab, (1, 0));
        assert!(!lab.pings("ns0", B), "nothing is lost: the filter does not match");
        let _ = lab.run("ns1", "tc qdisc del dev eth0 clsact").ok();
    });
}

#[test]
fn frames_leave_by_a_port_with_several_queues() {
    let host = Host::new();
    let lab = fast_lab(&host);
    let port = lab.port("ns1:eth0");
    for (count, by_port) in [(1, false), (2, true), (1, false)] {
        let _ = host.run(format!("ethtool -L {port} tx {count}")).succeeded();
        wait_for(A_SECOND, "frames take the other way", || uses_port(&host, &lab) == by_port);
        lab.is_fast("ns0:eth0", B);
    }
    lab.down();
    host.finish();
}

#[test]
fn bridges_forward_across_a_trunk_with_several_queues() {
    let host = Host::new();
    let lab = host.lab("trunk").up();
    let port = lab.stats().trunk("left - middle").port.clone();
    let state = || lab.stats().trunk("left - middle").state.clone();
    let _ = host.run(format!("ethtool -L {port} tx 2")).ok();
    wait_for(A_SECOND, "the trunk is armed", || state().contains("several transmit queues"));
    lab.reaches("ns0", "10.3.0.11");
    let _ = host.run(format!("ethtool -L {port} tx 1")).ok();
    wait_for(A_SECOND, "the trunk is not armed", || state() == "armed");
    lab.down();
    host.finish();
}

#[test]
fn an_inner_end_gets_a_smaller_mtu() {
    let host = Host::new();
    for datapath in ["\"bridge\"", "\"tc\""] {
        let lab = host.lab("three-hosts").with("\"tc\"", datapath).up();
        let ping =
            |size: u32| lab.run("ns0", format!("ping -n -q -c 1 -W 0.3 -M do -s {size} {B}")).succeeded();
        wait_for(A_SECOND, "ns1 does not get 1500 bytes", || ping(1472));
        let _ = lab.run("ns1", "ip link set eth0 mtu 1300").ok();
        wait_for(A_SECOND, "ns1 still gets 1500 bytes", || !ping(1472));
        wait_for(A_SECOND, "ns1 does not get 1200 bytes", || ping(1200));
        let _ = lab.run("ns1", "ip link set eth0 mtu 1500").ok();
        wait_for(A_SECOND, "ns1 does not get 1500 bytes again", || ping(1472));
        lab.down();
    }
    host.finish();
}

/// Where the MTU is changed: a namespace (or the host), and the link there.
const CHANGES: [(&str, &str, u32); 7] = [
    ("ns1", "eth0", 1300),
    ("ns1", "eth0", 4000),
    ("", "port of ns1", 1300),
    ("", "port of ns1", 4000),
    ("", "docker0", 1300),
    ("ns0", "eth0", 4000),
    ("", "port of ns0", 4000),
];

const SIZES: [u32; 5] = [1200, 1400, 1472, 1600, 3900];

/// Which packets from ns0 to ns1 get through, of these sizes, all sent at once.
fn pings_through(lab: &Lab<'_>, wait: f32) -> [bool; 5] {
    let pings = SIZES.map(|size| lab.spawn("ns0", format!("ping -n -q -c 1 -W {wait} -M do -s {size} {B}")));
    pings.map(|ping| ping.wait(TIMEOUT).succeeded())
}

#[test]
fn packets_pass_different_mtus_as_on_a_plain_bridge() {
    let hosts = [Host::new(), Host::new()];
    let [plain, fast] = [plain_lab(&hosts[0]), fast_lab(&hosts[1])];
    let mut all = Vec::new();
    for (namespace, link, mtu) in CHANGES {
        for (host, lab) in hosts.iter().zip([&plain, &fast]) {
            let link = match link.strip_prefix("port of ") {
                Some(of) => lab.port(&format!("{of}:eth0")),
                None => link.to_owned(),
            };
            let place = if namespace.is_empty() { String::new() } else { format!("-n {namespace} ") };
            let _ = host.run(format!("ip {place}link set {link} mtu {mtu}")).ok();
        }
        // The plain bridge has applied the change. Replies that a loaded machine delays are waited for.
        let expected = pings_through(&plain, 1.0);
        wait_until(A_SECOND, || {
            let now = pings_through(&fast, 0.3);
            if now == expected {
                Ok(())
            } else {
                Err(format!("{namespace} {link} {mtu}: {now:?}, plain {expected:?}"))
            }
        });
        all.extend(expected);
    }
    assert!(all.contains(&false) && all.contains(&true), "{all:?}");
    let _ = fast.assert_counters_match();
    plain.down();
    fast.down();
    hosts.into_iter().for_each(Host::finish);
}
