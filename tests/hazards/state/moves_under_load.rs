//! A MAC that moves while a stream runs to it and from it. From its first frame at the new place on, no frame goes to
//! the old one, on the fast path as on a plain bridge.

use std::{thread, time::Duration};

use super::super::common::{arrived, mac_bytes, numbered};
use crate::harness::{Host, Lab, LabFile, OneCpu, SLACK, Wire, wait_for, wait_until};

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
    let [peer, one, two] = ["ns0:eth0", "ns1:eth0", "ns2:eth0"].map(|end| lab.wire(end));
    let a = mac_bytes(lab, "ns0");
    let mut numbers = 0..;
    let mut next = || numbers.next().expect("there are enough");
    // The bridge learns ns0 first, so that no later frame of ns0 has to be slow for that.
    let _stay = OneCpu::stay();
    peer.send(&numbered([0xff; 6], a, next()));
    for step in 0..MOVES {
        let (here, there) = if step.is_multiple_of(2) { (&one, &two) } else { (&two, &one) };
        let first = next();
        let to = match first_word {
            FirstWord::Unicast => a,
            FirstWord::Broadcast => [0xff; 6],
        };
        here.send(&numbered(to, ROAMING, first));
        wait_for(SLACK, "the first frame does not arrive", || arrived(&peer).contains(&first));
        let _ = [here, there].map(arrived);
        let sent: Vec<_> = (0..FRAMES).map(|_| next()).collect();
        for &number in &sent {
            peer.send(&numbered(ROAMING, a, number));
            here.send(&numbered(a, ROAMING, number));
            thread::sleep(PACE);
        }
        let of = |wire: &Wire| -> Vec<u64> { arrived(wire).into_iter().filter(|n| *n >= sent[0]).collect() };
        let (mut at_peer, mut at_here, mut at_there) = (Vec::new(), Vec::new(), Vec::new());
        wait_until(SLACK, || {
            at_peer.extend(of(&peer));
            at_here.extend(of(here));
            at_there.extend(of(there));
            if at_here == sent && at_peer == sent {
                Ok(())
            } else {
                Err(format!(
                    "move {step}: sent {sent:?}, to it {at_here:?}, where it was {at_there:?}, from it {at_peer:?}"
                ))
            }
        });
        at_there.extend(of(there));
        assert_eq!(at_there, Vec::<u64>::new(), "move {step}: where it was");
    }
}

#[track_caller]
fn follows(topology: impl Fn(&Host) -> LabFile<'_>) {
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
fn a_stream_both_ways_follows_a_mac_that_moves_and_is_whole() {
    follows(|host| host.lab("ageing").with("ageing_time = 10\n", ""));
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
    follows(|host| host.lab("empty").and(CHAIN).named("chain"));
}
