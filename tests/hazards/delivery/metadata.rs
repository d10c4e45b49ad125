//! What the kernel has of a frame beside its bytes: the packet type for the receiver, and the sender's mark, priority
//! and transmit time.

use std::{
    io::IoSlice,
    net::{SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    time::{Duration, SystemTime},
};

use nix::{
    libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt,
        sockopt::{Mark, Priority, ReceiveTimestampns, TxTime},
    },
    time::{ClockId, clock_gettime},
};

use crate::{
    harness::{At, Lab, SLACK, VerdictProgram, XDP_PASS, wait_until},
    hazards::{A, A_SECOND, B, BROADCAST, mac_bytes, numbered, on_all, wait_for_frame},
};

const BEHIND: [u8; 6] = [0x02, 0, 0, 0, 0x55, 0x01];

#[test]
fn only_frames_to_the_inner_ends_own_mac_are_for_this_host() {
    on_all(|_, lab, fast| {
        let [a, b] = ["ns0:eth0", "ns1:eth0"].map(|end| lab.wire(end));
        let (mac_a, mac_b) = (mac_bytes(lab, "ns0"), mac_bytes(lab, "ns1"));
        // A host behind ns1 sends, and is a station from then on.
        b.send(&numbered(BROADCAST, BEHIND, 1));
        let _ = wait_for_frame(&a, 1);
        let mut number = 10;
        for (to, kind) in [(mac_b, libc::PACKET_HOST), (BEHIND, libc::PACKET_OTHERHOST)] {
            wait_until(A_SECOND, || {
                let before = lab.stats().pair("ns0:eth0").fast.tx.frames;
                number += 1;
                a.send(&numbered(to, mac_a, number));
                assert_eq!(wait_for_frame(&b, number), kind, "to {to:x?}");
                let was_fast = lab.stats().pair("ns0:eth0").fast.tx.frames > before;
                if was_fast || !fast { Ok(()) } else { Err(format!("the way to {to:x?} is slow")) }
            });
        }
    });
}

/// A bridge behind the inner end, and a host behind that.
#[test]
fn a_bridge_behind_an_inner_end_forwards() {
    on_all(|host, lab, fast| {
        for command in [
            "ip netns add leaf",
            "ip -n ns1 link add inner type bridge",
            "ip -n ns1 link set inner up",
            "ip -n ns1 link add leaf0 type veth peer name leaf1 netns leaf",
            "ip -n ns1 link set leaf0 master inner up",
            "ip -n ns1 link set eth0 master inner",
            "ip -n leaf addr add 172.17.0.199/16 dev leaf1",
            "ip -n leaf link set leaf1 up",
        ] {
            let _ = host.run(command).ok();
        }
        lab.reaches_within(A_SECOND, "leaf", A);
        lab.reaches_within(A_SECOND, "ns0", "172.17.0.199");
        if fast {
            lab.is_fast("ns0:eth0", "172.17.0.199");
        }
        let _ = lab.run("ns0", "ping -n -q -c 3 -l 3 -W 5 -s 9000 172.17.0.199").ok();
        let _ = lab.run("ns1", "ip link set eth0 nomaster").ok();
        let _ = lab.run("ns1", "ip link del inner").ok();
        let _ = lab.run("ns1", "ip link del leaf0").ok();
        let _ = host.run("ip netns del leaf").ok();
        lab.reaches_within(A_SECOND, "ns1", A);
    });
}

/// ns1's counters of packets to port 9: all; with a mark; with a priority; with neither.
fn counters(lab: &Lab<'_>) -> [u64; 4] {
    let rules = lab.run("ns1", "nft -j list chain inet judge in").ok().json();
    let rules = rules["nftables"].as_array().expect("a list");
    let counts: Vec<u64> = rules
        .iter()
        .filter_map(|rule| rule["rule"]["expr"].as_array())
        .filter_map(|parts| parts.iter().find_map(|part| part["counter"]["packets"].as_u64()))
        .collect();
    counts.try_into().expect("four rules")
}

fn add_counters(lab: &Lab<'_>) {
    for command in [
        "nft add table inet judge",
        "nft add chain inet judge in { type filter hook prerouting priority -300 ; }",
        "nft add rule inet judge in udp dport 9 counter",
        "nft add rule inet judge in udp dport 9 meta mark != 0 counter",
        "nft add rule inet judge in udp dport 9 meta priority != 0:0 counter",
        "nft add rule inet judge in udp dport 9 meta mark 0 meta priority 0:0 counter",
    ] {
        let _ = lab.run("ns1", command).ok();
    }
}

#[test]
fn mark_and_priority_stay_in_the_senders_namespace() {
    on_all(|_, lab, fast| {
        add_counters(lab);
        let sender = lab.netns("ns0").run(|| UdpSocket::bind("172.17.0.101:0")).expect("it can be entered");
        let sender = sender.expect("a socket");
        setsockopt(&sender, Mark, &0x6d).expect("root may");
        setsockopt(&sender, Priority, &5).expect("root may");
        let send = |lab: &Lab<'_>| {
            let (before, fast_before) = (counters(lab), lab.stats().pair("ns0:eth0").fast.tx.frames);
            for _ in 0..5 {
                let _ = sender.send_to(b"marked", (B, 9)).expect("it is sent");
            }
            let after = wait_until(A_SECOND, || {
                let now = counters(lab);
                if now[0] >= before[0] + 5 { Ok(now) } else { Err(format!("{now:?}")) }
            });
            let new = [0, 1, 2, 3].map(|n| after[n] - before[n]);
            assert_eq!(new, [5, 0, 0, 5], "all, marked, of a priority, of neither (fast: {fast})");
            lab.stats().pair("ns0:eth0").fast.tx.frames - fast_before
        };
        wait_until(A_SECOND, || if send(lab) >= 5 || !fast { Ok(()) } else { Err("slow".to_owned()) });
        // The other delivery of the fast path: out of the port.
        let program = VerdictProgram::attach(&lab.netns("ns1"), "eth0", At::NativeXdp, XDP_PASS);
        wait_until(A_SECOND, || if send(lab) >= 5 || !fast { Ok(()) } else { Err("slow".to_owned()) });
        drop(program);
        let _ = lab.run("ns1", "nft delete table inet judge").ok();
        lab.reaches_within(A_SECOND, "ns0", B);
    });
}

/// A frame that its sender schedules for an hour later arrives now, with the present time as its timestamp.
#[test]
fn the_senders_time_stays_in_the_senders_namespace() {
    const HOUR: Duration = Duration::from_secs(3600);
    on_all(|_, lab, fast| {
        let socket = |namespace: &str, address: &str| {
            let bound = lab.netns(namespace).run(|| UdpSocket::bind(address)).expect("it can be entered");
            bound.expect("a socket")
        };
        let (sender, receiver) = (socket("ns0", "172.17.0.101:0"), socket("ns1", "172.17.0.102:9"));
        let clock = libc::sock_txtime { clockid: libc::CLOCK_MONOTONIC, flags: 0 };
        setsockopt(&sender, TxTime, &clock).expect("root may");
        setsockopt(&receiver, ReceiveTimestampns, &true).expect("anybody may");
        receiver.set_read_timeout(Some(SLACK)).expect("not zero");
        // Repeated until the frame takes the path under test. On either path the timestamp must be right.
        wait_until(A_SECOND, || {
            let before = lab.stats().pair("ns0:eth0").fast.tx.frames;
            let in_an_hour = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).expect("it runs")) + HOUR;
            let when = u64::try_from(in_an_hour.as_nanos()).expect("less than 500 years");
            let to: SockaddrIn = "172.17.0.102:9".parse::<SocketAddrV4>().expect("an address").into();
            let data = [IoSlice::new(b"later")];
            let sent = sendmsg(
                sender.as_raw_fd(),
                &data,
                &[ControlMessage::TxTime(&when)],
                MsgFlags::empty(),
                Some(&to),
            );
            assert_eq!(sent, Ok(5));
            let mut space = nix::cmsg_space!(libc::timespec);
            let mut bytes = [0; 16];
            let mut room = [std::io::IoSliceMut::new(&mut bytes)];
            let message = recvmsg::<()>(receiver.as_raw_fd(), &mut room, Some(&mut space), MsgFlags::empty());
            let message = message.expect("it arrives");
            let stamp = message.cmsgs().expect("it fits").find_map(|part| match part {
                ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
                _ => None,
            });
            let now = SystemTime::UNIX_EPOCH.elapsed().expect("it is after 1970");
            let stamp = stamp.expect("a time of arrival");
            assert!(
                stamp <= now && stamp > now - HOUR / 2,
                "arrived at {stamp:?}, now {now:?} (fast: {fast})"
            );
            let was_fast = lab.stats().pair("ns0:eth0").fast.tx.frames > before;
            if was_fast == fast { Ok(()) } else { Err(format!("fast: {was_fast}")) }
        });
    });
}
