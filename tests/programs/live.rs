//! The program on real ports: where a frame comes out, and frames that `BPF_PROG_TEST_RUN` cannot
//! make (with a tag beside the packet, cut short, longer than a page).

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process,
};

use aya::programs::{TcAttachType, tc::qdisc_add_clsact};
use nix::{errno::Errno, libc, net::if_::if_nametoindex, unistd};
use vethpath::kernel::Netns;
use vethpath_common::{Count, PairCounters, Reason};

use super::{
    bench::{Bench, ip, program},
    frames::Frame,
    random::Random,
    world::Port,
};
use crate::harness::{SLACK, wait_until};

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
                    // Fails where the kernel has tcx and needs none.
                    let _ = qdisc_add_clsact(&port.name());
                    let program = program(&mut bench.object);
                    program.attach(&port.name(), TcAttachType::Ingress).expect("it attaches");
                }
            })
            .expect("it is there");
        let wires = inside.run(|| Port::ALL.map(Wire::open).into()).expect("it is there");
        Self { bench, wires }
    }

    fn wire(&self, port: Port) -> &Wire {
        &self.wires[port as usize]
    }

    /// Sends from the inner end of the frame's port.
    fn send(&self, frame: &Frame) {
        let sent = unistd::write(&self.wire(frame.port).0, &frame.bytes);
        assert_eq!(sent, Ok(frame.bytes.len()), "{frame:?}");
    }

    /// Sends one frame, and waits until it is counted at its pair, and there alone, for this reason.
    #[track_caller]
    fn is_passed(&self, frame: &Frame, reason: Reason, bytes: usize) {
        let before = self.bench.counters();
        self.send(frame);
        let count = Count { frames: 1, packets: 1, bytes: bytes as u64 };
        let mut expected = before.clone();
        let pair = &mut expected[frame.port.pair() as usize];
        pair.slow[reason as usize] = pair.slow[reason as usize].plus(count);
        self.counts(&expected);
    }

    #[track_caller]
    fn counts(&self, expected: &[PairCounters]) {
        wait_until(SLACK, || {
            let counters = self.bench.counters();
            if counters == expected { Ok(()) } else { Err(format!("{counters:?}\nnot {expected:?}")) }
        });
    }
}

/// A packet socket on an inner end.
struct Wire(OwnedFd);

impl Wire {
    fn open(port: Port) -> Self {
        let name = format!("inner{}", port as u32);
        let [a, b, c, d, e, f] = port.mac(1);
        // No address, and so no word of its own.
        ip(&format!("link set {name} addrgenmode none"));
        ip(&format!("link set {name} address {a:x}:{b:x}:{c:x}:{d:x}:{e:x}:{f:x} up"));
        let ifindex = if_nametoindex(name.as_str()).expect("it is here");
        Self::on(ifindex).expect("a packet socket")
    }

    fn on(ifindex: u32) -> io::Result<Self> {
        let all = u16::try_from(libc::ETH_P_ALL).expect("it is 3").to_be();
        let flags = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: takes integers only.
        let fd = unsafe { libc::socket(libc::AF_PACKET, flags, all.into()) };
        Errno::result(fd)?;
        // SAFETY: it was just made, and nobody else knows of it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: plain integers, of which zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).expect("it is 17");
        address.sll_protocol = all;
        address.sll_ifindex = ifindex.cast_signed();
        let length = u32::try_from(size_of_val(&address)).expect("it is 20");
        // SAFETY: the address is as long as is said.
        let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        Errno::result(done)?;
        Ok(Self(socket))
    }

    /// The next frame that came in, and its type, such as `PACKET_HOST`; not what was sent here.
    fn next(&self) -> Option<(u8, Vec<u8>)> {
        loop {
            let mut bytes = vec![0; 16_384];
            // SAFETY: plain integers, of which zero is valid.
            let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            let mut length = u32::try_from(size_of_val(&from)).expect("it is 20");
            let (buffer, room, fd) = (bytes.as_mut_ptr().cast(), bytes.len(), self.0.as_raw_fd());
            // SAFETY: buffer and address are as long as is said.
            let read =
                unsafe { libc::recvfrom(fd, buffer, room, 0, (&raw mut from).cast(), &raw mut length) };
            bytes.truncate(usize::try_from(read).ok()?);
            if from.sll_pkttype != libc::PACKET_OUTGOING {
                return Some((from.sll_pkttype, bytes));
            }
        }
    }
}

#[test]
fn a_frame_comes_out_at_its_receiver_and_nowhere_else() {
    let live = Live::new();
    for to in [Port::B, Port::Via, Port::Lonely] {
        let frame = Frame::udp4(100).to(to.mac(1));
        live.send(&frame);
        let came = wait_until(SLACK, || live.wire(to).next().ok_or(format!("nothing came to {to:?}")));
        assert_eq!(came, (libc::PACKET_HOST, frame.bytes), "{to:?}");
        for port in Port::ALL {
            assert_eq!(live.wire(port).next(), None, "sent to {to:?}, and {port:?} had it");
        }
    }
    // Nobody is behind the ports but the program: what it passes comes out nowhere.
    live.is_passed(&Frame::udp4(100).to(Port::A.mac(2)), Reason::SamePort, 142);
    assert!(Port::ALL.into_iter().all(|port| live.wire(port).next().is_none()));
}

#[test]
fn a_tag_is_beside_the_packet() {
    let live = Live::new();
    for frame in [Frame::tagged(), Frame::double_tagged(), Frame::tagged().with(0, 0).with(1, 0)] {
        // The kernel has taken the outer tag out (skb_vlan_untag), before any program.
        live.is_passed(&frame, Reason::Tagged, frame.bytes.len() - 4);
    }
}

#[test]
fn cut_short() {
    let live = Live::new();
    for length in 14..=14 + 6 {
        live.is_passed(&Frame::udp6(0).cut(length), Reason::Short, length);
    }
    let fast = [Frame::udp6(0).cut(14 + 7), Frame::udp4(0).cut(14), Frame::raw(0x88b5, &[])];
    for frame in fast {
        live.send(&frame);
        let came = wait_until(SLACK, || live.wire(Port::B).next().ok_or("nothing came".to_owned()));
        assert_eq!(came, (libc::PACKET_HOST, frame.bytes));
    }
}

#[test]
fn longer_than_a_page() {
    let live = Live::new();
    // A packet socket leaves no more than the Ethernet header in the linear part.
    live.is_passed(&Frame::udp6(0).sized(9014), Reason::Short, 9014);
    live.is_passed(&Frame::udp4(0).sized(9014), Reason::TooBig, 9014);
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
