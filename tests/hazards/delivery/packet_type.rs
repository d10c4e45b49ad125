//! `bpf_redirect_peer` delivers every frame as `PACKET_HOST`. So only frames to the inner end's own MAC take it. A
//! macvlan or a bridge behind the inner end sees what it sees on a plain bridge.

use nix::libc;

use super::super::common::{A, A_SECOND, BROADCAST, arrives, mac_bytes, numbered, on_all};
use crate::harness::wait_until;

const BEHIND: [u8; 6] = [0x02, 0, 0, 0, 0x55, 0x01];

#[test]
fn only_frames_to_the_inner_ends_own_mac_are_for_this_host() {
    on_all(|_, lab, fast| {
        let [a, b] = ["ns0:eth0", "ns1:eth0"].map(|end| lab.wire(end));
        let (mac_a, mac_b) = (mac_bytes(lab, "ns0"), mac_bytes(lab, "ns1"));
        // A host behind ns1 sends, and is a station from then on.
        b.send(&numbered(BROADCAST, BEHIND, 1));
        let _ = arrives(&a, 1);
        let mut number = 10;
        for (to, kind) in [(mac_b, libc::PACKET_HOST), (BEHIND, libc::PACKET_OTHERHOST)] {
            wait_until(A_SECOND, || {
                let before = lab.stats().pair("ns0:eth0").fast.tx.frames;
                number += 1;
                a.send(&numbered(to, mac_a, number));
                assert_eq!(arrives(&b, number), kind, "to {to:x?}");
                let by_us = lab.stats().pair("ns0:eth0").fast.tx.frames > before;
                if by_us || !fast { Ok(()) } else { Err(format!("the way to {to:x?} is slow")) }
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
