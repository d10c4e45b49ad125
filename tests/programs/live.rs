//! The program on real ports: where a frame arrives, and frames that `BPF_PROG_TEST_RUN` cannot make (with a tag in the
//! metadata, truncated, longer than a page).

use std::process;

use aya::programs::{TcAttachType, tc::qdisc_add_clsact};
use nix::libc;
use vethpath::kernel::Netns;
use vethpath_common::{Count, PairCounters, Reason};

use super::{
    bench::{Bench, ip, program},
    frames::Frame,
    random::Random,
    world::Port,
};
use crate::harness::{SLACK, Wire, wait_until};

/// Ports that run the program, and their inner ends in a namespace of their own.
struct Live {
    bench: Bench,
    wires: Vec<Wire>,
}

impl Live {
    fn new() -> Self {
        let inside = Netns::create("inside").expect("a namespace");
        let place = format!("netns /proc/{}/fd/{}", process::id(), inside.raw_fd());
        let mut bench = Bench::with_inner_ends(|_| place.clone());
        let netns = bench.netns.clone();
        netns
            .run(|| {
                for port in Port::ALL {
                    // May fail on a kernel with tcx, which needs no clsact.
                    let _ = qdisc_add_clsact(&port.name());
                    let program = program(&mut bench.object);
                    program.attach(&port.name(), TcAttachType::Ingress).expect("it attaches");
                }
            })
            .expect("it is there");
        let wires = inside.run(|| Port::ALL.map(wire).into()).expect("it is there");
        // The kernel sends nothing on a link until it has processed that the link is up.
        for (netns, name) in [(&netns, "port"), (&inside, "inner")] {
            wait_until(SLACK, || {
                let links = netns.run(links).expect("it is there");
                let down = links.lines().find(|link| link.starts_with(name) && !link.contains(" UP "));
                down.map_or(Ok(()), |link| Err(link.to_owned()))
            });
        }
        Self { bench, wires }
    }

    fn wire(&self, port: Port) -> &Wire {
        &self.wires[port as usize]
    }

    /// Sends from the inner end of the frame's port.
    fn send(&self, frame: &Frame) {
        self.wire(frame.port).send(&frame.bytes);
    }

    /// Sends one frame, and waits until it is counted for this reason, at its own pair only.
    #[track_caller]
    fn assert_passed(&self, frame: &Frame, reason: Reason, bytes: usize) {
        let before = self.bench.counters();
        self.send(frame);
        let count = Count { frames: 1, packets: 1, bytes: bytes as u64 };
        let mut expected = before.clone();
        let pair = &mut expected[frame.port.pair() as usize];
        pair.slow[reason as usize] = pair.slow[reason as usize].plus(count);
        self.wait_for_counters(&expected);
    }

    #[track_caller]
    fn wait_for_counters(&self, expected: &[PairCounters]) {
        wait_until(SLACK, || {
            let counters = self.bench.counters();
            if counters == expected { Ok(()) } else { Err(format!("{counters:?}\nnot {expected:?}")) }
        });
    }
}

/// All links of the calling thread's namespace.
fn links() -> String {
    let output = process::Command::new("ip").args(["-br", "link"]).output().expect("ip is installed");
    String::from_utf8(output.stdout).expect("plain names")
}

/// The inner end of a port.
fn wire(port: Port) -> Wire {
    let name = format!("inner{}", port as u32);
    let [a, b, c, d, e, f] = port.mac(1);
    // Without an address, the interface sends nothing by itself.
    ip(&format!("link set {name} addrgenmode none"));
    ip(&format!("link set {name} address {a:x}:{b:x}:{c:x}:{d:x}:{e:x}:{f:x} up"));
    Wire::on(&name).expect("a packet socket")
}

#[test]
fn a_frame_comes_out_at_its_receiver_and_nowhere_else() {
    let live = Live::new();
    for to in [Port::B, Port::Via, Port::Lonely] {
        let frame = Frame::udp4(100).to(to.mac(1));
        live.send(&frame);
        let arrived = wait_until(SLACK, || live.wire(to).next().ok_or(format!("nothing came to {to:?}")));
        assert_eq!(arrived, (libc::PACKET_HOST, frame.bytes), "{to:?}");
        for port in Port::ALL {
            assert_eq!(live.wire(port).next(), None, "sent to {to:?}, and {port:?} had it");
        }
    }
    // There is no bridge behind the ports: frames that the program passes arrive nowhere.
    live.assert_passed(&Frame::udp4(100).to(Port::A.mac(2)), Reason::SamePort, 142);
    assert!(Port::ALL.into_iter().all(|port| live.wire(port).next().is_none()));
}

#[test]
fn a_tag_is_beside_the_packet() {
    let live = Live::new();
    for frame in [Frame::tagged(), Frame::double_tagged(), Frame::tagged().with(0, 0).with(1, 0)] {
        // The kernel has removed the outer tag before any program runs (skb_vlan_untag).
        live.assert_passed(&frame, Reason::Tagged, frame.bytes.len() - 4);
    }
}

#[test]
fn cut_short() {
    let live = Live::new();
    for length in 14..=14 + 6 {
        live.assert_passed(&Frame::udp6(0).cut(length), Reason::Short, length);
    }
    let fast = [Frame::udp6(0).cut(14 + 7), Frame::udp4(0).cut(14), Frame::raw(0x88b5, &[])];
    for frame in fast {
        live.send(&frame);
        let arrived = wait_until(SLACK, || live.wire(Port::B).next().ok_or("nothing came".to_owned()));
        assert_eq!(arrived, (libc::PACKET_HOST, frame.bytes));
    }
}

#[test]
fn longer_than_a_page() {
    let live = Live::new();
    // A packet socket leaves no more than the Ethernet header in the linear part.
    live.assert_passed(&Frame::udp6(0).sized(9014), Reason::Short, 9014);
    live.assert_passed(&Frame::udp4(0).sized(9014), Reason::TooBig, 9014);
}

#[test]
fn noise_up_to_9000_bytes_is_passed() {
    let live = Live::new();
    let mut random = Random(4);
    let lengths = 14..=9000;
    lengths.clone().for_each(|length| live.send(&Frame::bytes(Port::A, random.bytes(length))));
    wait_until(SLACK, || {
        let counters = live.bench.counters();
        let frames: u64 = counters.iter().flat_map(|pair| pair.slow).map(|count| count.frames).sum();
        let fast = counters.iter().any(|pair| pair.fast_tx.frames + pair.fast_rx.frames != 0);
        assert!(!fast, "{counters:?}");
        if frames == lengths.clone().count() as u64 { Ok(()) } else { Err(format!("{frames} were counted")) }
    });
}
