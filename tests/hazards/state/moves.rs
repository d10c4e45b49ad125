//! A MAC that moves to another port: roaming, failover, also while a stream runs to it and from it.

use std::{thread, time::Duration};

use crate::{
    harness::{CpuPin, Host, Lab, LabFile, SLACK, Wire, wait_for, wait_until},
    hazards::{A, A_SECOND, B, has_fdb_entry, mac, mac_bytes, numbered, received_numbers},
};

const VIP_MAC: &str = "02:00:00:00:99:99";
const VIP: &str = "172.17.0.150";

/// A service address with its own MAC fails over, as with VRRP.
#[test]
fn a_mac_moves_to_another_port() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", B);
    let mut home = "ns1";
    take_vip(&lab, home);
    for next in ["ns2", "ns1", "ns2"] {
        lab.reaches_within(A_SECOND, "ns0", VIP);
        let _ = lab.run(home, "ip link del vip").ok();
        take_vip(&lab, next);
        // With its first frame the bridge learns where it is now.
        let _ = lab.run(next, format!("ping -n -q -c 1 -W 5 -I vip {A}")).ok();
        lab.reaches("ns0", VIP);
        let port = lab.port(&format!("{next}:eth0"));
        assert!(has_fdb_entry(&host, &port, VIP_MAC), "the bridge does not know where {VIP_MAC} went");
        lab.is_fast("ns0:eth0", B);
        home = next;
    }
    let _ = lab.assert_counters_match();
    lab.down();
    host.finish();
}

fn take_vip(lab: &Lab<'_>, namespace: &str) {
    for command in [
        format!("ip link add vip link eth0 address {VIP_MAC} type macvlan mode bridge"),
        format!("ip addr add {VIP}/32 dev vip"),
        "ip link set vip up".to_owned(),
        format!("ip route add {A}/32 dev vip src {VIP} metric 10"),
        // The service replies for its own address alone.
        "sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2".to_owned(),
    ] {
        let _ = lab.run(namespace, command).ok();
    }
}

#[test]
fn an_interface_gets_another_mac() {
    let host = Host::new();
    let lab = host.lab("three-hosts").up();
    lab.is_fast("ns0:eth0", B);
    let old = mac(&lab, "ns1");
    for new in ["02:00:00:00:77:01", "02:00:00:00:77:02", old.as_str()] {
        let _ = lab.run("ns1", format!("ip link set eth0 address {new}")).ok();
        lab.reaches_within(A_SECOND, "ns1", A);
        lab.reaches_within(A_SECOND, "ns0", B);
    }
    lab.is_fast("ns0:eth0", B);
    let _ = lab.assert_counters_match();
    lab.down();
    host.finish();
}

const ROAMING: [u8; 6] = [0x02, 0, 0, 0, 0x99, 0x01];
const MOVES: u64 = 40;
/// Frames in each direction between two moves, and the time between two frames.
const FRAMES: u64 = 25;
const PACE: Duration = Duration::from_millis(2);

/// The first frame of a station that has moved.
#[derive(Clone, Copy)]
enum FirstWord {
    /// A frame to its peer.
    Unicast,
    /// A broadcast, as ARP announcements are.
    Broadcast,
}

/// The address is at ns1 and ns2 in turn, and sends first after each move.
fn roam(lab: &Lab<'_>, first_word: FirstWord) {
    let [peer, ns1, ns2] = ["ns0:eth0", "ns1:eth0", "ns2:eth0"].map(|end| lab.wire(end));
    let a = mac_bytes(lab, "ns0");
    let mut numbers = 0..;
    let mut next = || numbers.next().expect("there are enough");
    // The bridge learns ns0 first, so that no later frame of ns0 has to be slow for that.
    let _pin = CpuPin::new();
    peer.send(&numbered([0xff; 6], a, next()));
    for step in 0..MOVES {
        let (here, there) = if step.is_multiple_of(2) { (&ns1, &ns2) } else { (&ns2, &ns1) };
        let first = next();
        let to = match first_word {
            FirstWord::Unicast => a,
            FirstWord::Broadcast => [0xff; 6],
        };
        here.send(&numbered(to, ROAMING, first));
        wait_for(SLACK, "the first frame does not arrive", || received_numbers(&peer).contains(&first));
        let _ = [here, there].map(received_numbers);
        let sent: Vec<_> = (0..FRAMES).map(|_| next()).collect();
        for &number in &sent {
            peer.send(&numbered(ROAMING, a, number));
            here.send(&numbered(a, ROAMING, number));
            thread::sleep(PACE);
        }
        let received = |wire: &Wire| -> Vec<u64> {
            received_numbers(wire).into_iter().filter(|n| *n >= sent[0]).collect()
        };
        let (mut at_peer, mut at_here, mut at_there) = (Vec::new(), Vec::new(), Vec::new());
        wait_until(SLACK, || {
            at_peer.extend(received(&peer));
            at_here.extend(received(here));
            at_there.extend(received(there));
            if at_here == sent && at_peer == sent {
                Ok(())
            } else {
                Err(format!(
                    "move {step}: sent {sent:?}, to it {at_here:?}, where it was {at_there:?}, from it {at_peer:?}"
                ))
            }
        });
        at_there.extend(received(there));
        assert_eq!(at_there, Vec::<u64>::new(), "move {step}: where it was");
    }
}

#[track_caller]
fn check_moves(topology: impl Fn(&Host) -> LabFile<'_>) {
    // Frames are slow until the agent has written and confirmed where the station is now.
    for (datapath, least) in [("tc", MOVES * FRAMES / 8), ("bridge", 0)] {
        let host = Host::new();
        let lab = topology(&host).with("datapath = \"tc\"", &format!("datapath = \"{datapath}\"")).up();
        for first_word in [FirstWord::Unicast, FirstWord::Broadcast] {
            // A run takes two or three seconds, and on a loaded machine the agent may be late for all of it.
            wait_until(SLACK, || {
                let before = lab.stats().fast();
                roam(&lab, first_word);
                let fast = lab.stats().fast() - before;
                if fast >= least { Ok(()) } else { Err(format!("{fast} frames were fast, not {least}")) }
            });
        }
        lab.down();
        host.finish();
    }
}

#[test]
fn a_stream_in_both_directions_follows_a_mac_that_moves() {
    check_moves(|host| host.lab("ageing").with("ageing_time = 10\n", ""));
}

/// The station moves to another bridge: each bridge on the path of its frames learns that, and no other.
#[test]
fn a_stream_follows_a_mac_that_moves_across_a_trunk() {
    const CHAIN: &str = "
[bridge.left]
datapath = \"tc\"
trunks = [\"middle\"]
[bridge.middle]
datapath = \"tc\"
trunks = [\"right\"]
[bridge.right]
datapath = \"tc\"
[namespace.ns0.interface.eth0]
link = \"left\"
[namespace.ns1.interface.eth0]
link = \"middle\"
[namespace.ns2.interface.eth0]
link = \"right\"
";
    check_moves(|host| host.lab("empty").and(CHAIN).named("chain"));
}
