//! GSO frames that are too large for a port are segmented there. Those of more than 64 KiB that are not segmented
//! cross it whole (`gso_features_check` in net/core/dev.c).

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use vethpath::{agent::status, kernel::Netns};

use super::{
    super::common::{A_SECOND, B, listening, on_both},
    offloads::transfer,
};
use crate::harness::{Host, Iperf, Lab, SLACK, wait_for, wait_until};

/// A frame of several segments, but not of many.
const FEW: u64 = 8_000;

/// The longest frame of more than `most` bytes that arrives at ns1 during `work`; 0 if there is none. A ping behind
/// all of them shows that they have been seen.
fn longest_above(lab: &Lab<'_>, most: u64, work: impl FnOnce()) -> u64 {
    let filter = format!("greater {} or icmp", most + 1);
    let capture = format!("tcpdump -l -n -e -s 96 --immediate-mode -Q in -i eth0 {filter}");
    let capture = listening(lab.spawn("ns1", capture));
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
fn agent_looks(host: &Host, lab: &Lab<'_>) {
    let socket = host.path(&format!("/run/vethpath/{}/agent.sock", lab.name));
    let looks = || status::query(&socket).map(|status| status.looks).unwrap_or_default();
    for _ in 0..2 {
        let before = looks();
        let _ = host.run(format!("kill -HUP {}", lab.pid())).ok();
        wait_for(SLACK, "the agent does not look", || looks() > before);
    }
}

/// Checks that no frame that arrives at ns1 during a transfer is longer.
#[track_caller]
fn is_at_most(lab: &Lab<'_>, most: u64) {
    let longest = longest_above(lab, most, || transfer(lab));
    assert_eq!(longest, 0, "a frame of so many bytes arrives at ns1");
}

/// Waits until there is a longer frame: TCP begins with short ones.
#[track_caller]
fn is_more_than(lab: &Lab<'_>, least: u64) {
    wait_until(SLACK, || match longest_above(lab, least, || transfer(lab)) {
        0 => Err(format!("no frame has more than {least} bytes: nothing is there to be cut")),
        _ => Ok(()),
    });
}

/// Sets both GSO size limits of a device. `ip` does not support the one of IPv4 before iproute2 6.3.
#[track_caller]
fn limit(netns: &Netns, device: &str, size: u32) {
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
fn frames_are_cut_as_a_port_wants_them() {
    on_both(|host, lab, fast| {
        is_more_than(lab, FEW);
        let port = lab.port("ns1:eth0");
        let set = |what: &str| {
            let _ = host.run(format!("ip link set {port} {what}")).ok();
        };
        for limit in ["gso_max_size 8000", "gso_max_segs 3"] {
            set(limit);
            if fast {
                agent_looks(host, lab);
            }
            is_at_most(lab, FEW);
            set("gso_max_size 65536 gso_max_segs 65535");
        }
    });
}

/// The same for a trunk, which is then crossed through the bridges.
#[test]
fn frames_are_cut_as_a_trunk_wants_them() {
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
        is_more_than(&lab, FEW);
        let port = lab.stats().trunk("b1 - b2").port.clone();
        let _ = host.run(format!("ip link set {port} gso_max_size 8000")).ok();
        if datapath == "tc" {
            agent_looks(&host, &lab);
        }
        is_at_most(&lab, FEW);
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
fn frames_of_more_than_64_kib_go_the_way_of_their_flow() {
    const LARGE: u32 = 196_608;
    on_both(|host, lab, fast| {
        let hosts = [("ns0", "fd00::1"), ("ns1", "fd00::2")];
        for (namespace, address) in hosts {
            let _ = lab.run(namespace, format!("ip addr add {address}/64 dev eth0 nodad")).ok();
            limit(&lab.netns(namespace), "eth0", LARGE);
        }
        // BBR builds no frames of more than 64 KiB (`bbr_tso_segs_goal`).
        let larger = |to: &str| {
            longest_above(lab, 65_536, || {
                drop(Iperf::start(lab, "ns0", ("ns1", to), "--bytes 60M --congestion cubic").report());
            })
        };
        for to in ["fd00::2", B] {
            wait_until(A_SECOND, || match larger(to) {
                0 => Ok(()),
                longest => Err(format!("{longest} bytes to {to} are not cut at a port that takes 64 KiB")),
            });
        }
        for pair in ["ns0:eth0", "ns1:eth0"] {
            limit(&host.netns(), &lab.port(pair), LARGE);
        }
        for to in ["fd00::2", B] {
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
