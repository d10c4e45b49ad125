//! Random frames, compared with a model of the contract. The seeds are fixed.

use std::collections::BTreeMap;

use vethpath_common::Reason;

use super::{
    bench::{Bench, RunResult},
    case::{TC_ACT_REDIRECT, TC_ACT_UNSPEC},
    frames::Frame,
    world::{FOREIGN, GROUP, KNOWN, MTU, Mac, Port, STALE},
};
use crate::harness::sized;

/// The longest frame that `BPF_PROG_TEST_RUN` accepts before Linux 6.19: a page, less headroom and tailroom.
pub(crate) const LONGEST: usize = 3700;

/// Reasons for which the program may leave a frame to the bridge although the contract allows it on the fast path.
const CAUTION: [Reason; 5] = [Reason::Control, Reason::Arp, Reason::Options, Reason::Gso, Reason::Short];

/// splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("it is below a usize")
    }

    fn of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len())]
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

#[test]
fn noise_of_every_length_is_passed() {
    let mut random = Random(1);
    let frames: Vec<_> = (14..=LONGEST)
        .map(|length| Frame::bytes(random.of(&Port::ALL), random.bytes(length)))
        .filter(Frame::is_accepted)
        .collect();
    assert!(frames.len() > 3600);
    for (frame, ran) in frames.iter().zip(Bench::new().run_each(&frames)) {
        assert_eq!(ran.action, TC_ACT_UNSPEC, "{frame:?}");
        assert!(counted_by(&ran).slow.is_some(), "{frame:?}: {ran:?}");
    }
}

#[test]
fn noise_between_stations_is_as_the_model_says() {
    let mut random = Random(2);
    let frames: Vec<_> = (14..=LONGEST)
        .map(|length| Frame::raw(0, &random.bytes(length - 14)).ethertype(random.of(&ETHERTYPES)))
        .filter(Frame::is_accepted)
        .collect();
    compare_with_model(&frames);
}

#[test]
fn mutants_are_as_the_model_says() {
    let mut random = Random(3);
    let frames: Vec<_> =
        (0..sized(10_000, 100_000)).map(|_| mutant(&mut random)).filter(Frame::is_accepted).collect();
    assert!(frames.len() > sized(6_000, 60_000), "{}", frames.len());
    let seen = compare_with_model(&frames);
    // The test is void if no frame is fast, or if a reason never occurs.
    assert!(seen["fast"] > frames.len() / 10, "{seen:?}");
    for reason in Reason::ALL.into_iter().filter(|reason| ![Reason::Lease, Reason::Moved].contains(reason)) {
        assert!(seen.contains_key(reason.name()), "{reason:?} does not come: {seen:?}");
    }
}

/// Runs the frames, and returns the number of fast ones and of slow ones by reason.
#[track_caller]
fn compare_with_model(frames: &[Frame]) -> BTreeMap<&'static str, usize> {
    let mut seen = BTreeMap::new();
    let by_place = Bench::new().run_each(frames);
    for (frame, (ran, hashed)) in
        frames.iter().zip(by_place.into_iter().zip(Bench::hashed().run_each(frames)))
    {
        assert_eq!(ran, hashed, "where stations are kept makes a difference: {frame:?}");
        let Counted { from, to, slow } = counted_by(&ran);
        match (ran.action, receiver(frame)) {
            (TC_ACT_REDIRECT, Some(port)) => {
                let pairs = (Some(frame.port.pair()), Some(port.pair()), None);
                assert_eq!((from, to, slow), pairs, "{frame:?}");
            }
            (TC_ACT_UNSPEC, model) => {
                let (pair, reason) = slow.unwrap_or_else(|| panic!("not counted: {frame:?}"));
                assert_eq!((from, to, pair), (None, None, frame.port.pair()), "{frame:?}");
                assert!(model.is_none() || CAUTION.contains(&reason), "passed, {reason:?}: {frame:?}");
            }
            (action, model) => panic!("action {action}, and the model says {model:?}: {frame:?}"),
        }
        assert_eq!(ran.bytes, frame.bytes);
        *seen.entry(slow.map_or("fast", |(_, reason)| reason.name())).or_default() += 1;
    }
    eprintln!("{} frames: {seen:?}", frames.len());
    seen
}

/// Which pairs counted the frame.
struct Counted {
    from: Option<u32>,
    to: Option<u32>,
    slow: Option<(u32, Reason)>,
}

/// Asserts that each kind of counter has counted the frame at most once.
fn counted_by(ran: &RunResult) -> Counted {
    let mut counted = Counted { from: None, to: None, slow: None };
    for (pair, counters) in (0..).zip(&ran.counted) {
        let fast = [(&mut counted.from, counters.fast_tx), (&mut counted.to, counters.fast_rx)];
        for (place, count) in fast {
            if count.frames != 0 {
                assert_eq!((count.frames, place.replace(pair)), (1, None), "{ran:?}");
            }
        }
        for reason in Reason::ALL {
            let frames = counters.slow[reason as usize].frames;
            if frames != 0 {
                assert_eq!((frames, counted.slow.replace((pair, reason))), (1, None), "{ran:?}");
            }
        }
    }
    counted
}

const ETHERTYPES: [u16; 17] = [
    0x0800, 0x0800, 0x0800, 0x86dd, 0x86dd, 0x86dd, 0x0806, 0x8035, 0x8100, 0x88a8, 0x88cc, 0x8809, 0x05dc,
    0x05ff, 0x0600, 0x88b5, 0x8864,
];

/// A frame as a host might send it, possibly with errors.
fn mutant(random: &mut Random) -> Frame {
    let data = if random.one_in(4) { 1400 + random.below(120) } else { random.below(1600) };
    let mut frame = match random.below(9) {
        0 => Frame::udp4(data),
        1 => Frame::udp6(data),
        2 => Frame::tcp4(data),
        3 => Frame::tcp6(data),
        4 => Frame::icmp6(random.of(&[128, 132, 133, 134, 135, 136, 137, 138])),
        5 => {
            // Extension headers of one unit, in any order, and the start of ICMPv6.
            let mut chain = Vec::new();
            for _ in 0..=random.below(3) {
                chain.extend([random.of(&NEXT), random.of(&[0, 0, 1]), 135, 0, 0, 0, 0, 0]);
            }
            chain.extend([random.of(&[128, 133, 135, 137]), 0, 0, 0]);
            Frame::ip6(random.of(&NEXT), &chain)
        }
        6 => Frame::ip4(random.of(&[1, 4, 6, 17, 47, 50, 132]), &random.bytes(data)),
        7 => Frame::tagged(),
        _ => Frame::raw(random.of(&ETHERTYPES), &random.bytes(data)),
    };
    frame = frame.at(if random.one_in(4) { random.of(&Port::ALL) } else { Port::A });
    frame = frame.to(mac(random));
    if random.one_in(6) {
        frame = frame.from(mac(random));
    } else if random.one_in(8) {
        // One that the other bridges have not learned.
        let second = frame.port.mac(2);
        frame = frame.from(second);
    }
    if random.one_in(3) {
        let near_mtu = MTU - 100 + u32::try_from(random.below(110)).expect("small");
        frame = frame.gso(random.of(&[near_mtu, near_mtu, 536, 0xffff]), random.of(&[0, 1, 2, 44]));
    }
    if random.one_in(12) {
        let length = 14 + random.below(frame.bytes.len() - 13);
        frame = frame.cut(length);
    }
    while random.one_in(3) {
        let at = random.below(frame.bytes.len().min(90));
        frame.bytes[at] = random.byte();
    }
    frame
}

/// Values for the IPv6 "next header" field.
const NEXT: [u8; 9] = [0, 6, 17, 43, 44, 51, 58, 58, 60];

fn mac(random: &mut Random) -> Mac {
    let port = if random.one_in(3) { random.of(&Port::ALL) } else { Port::B };
    let number = random.of(&[1, 1, 1, 2, 3]);
    match random.below(16) {
        0 => port.mac(random.of(&[STALE, FOREIGN])),
        1 => random.of(&[GROUP, [0xff; 6], [0x33, 0x33, 0, 0, 0, 1], [0; 6]]),
        _ => port.mac(number),
    }
}

/// The port that the fast path may deliver a frame to while the lease holds; `None` if it must not.
pub(crate) fn receiver(frame: &Frame) -> Option<Port> {
    let (header, payload) = frame.bytes.split_at_checked(14)?;
    let (dst, src, ethertype) = (&header[..6], &header[6..12], u16::from_be_bytes([header[12], header[13]]));
    // "unicast source and destination"
    if dst[0] & 1 == 1 || src[0] & 1 == 1 {
        return None;
    }
    // "the source is a station on this port"
    station_of(src).filter(|&port| port == frame.port)?;
    // "the destination is a station on another eligible port of the same segment"
    let to = station_of(dst).filter(|&port| port != frame.port && port.is_joined_with(frame.port))?;
    // docs/architecture.md: a bridge on the path that does not know the source must learn it
    if to.bit() & !frame.port.reach(src[5]) != 0 {
        return None;
    }
    // "isolated to isolated is refused"
    if frame.port.flags() & to.flags() & vethpath_common::flags::ISOLATED != 0 {
        return None;
    }
    // "the frame is not tagged, not ARP, not IPv6 ND, not 802.2/BPDU/01:80:c2:*"
    let barred = match ethertype {
        0..0x0600 | 0x8100 | 0x88a8 | 0x0806 => true,
        0x86dd => is_neighbour_discovery(payload),
        _ => false,
    };
    // docs/limitations.md: packets that br_netfilter would drop or trim are left to it
    let checks = match ethertype {
        0x0800 => vethpath_common::flags::VALIDATE_IPV4,
        0x86dd => vethpath_common::flags::VALIDATE_IPV6,
        _ => vethpath_common::flags::VALIDATE,
    };
    let checked = |port: Port| port.flags() & checks != 0;
    let is_checked = checked(frame.port) || to.bridge() != frame.port.bridge() && checked(to);
    if is_checked && !is_right(ethertype, payload) {
        return None;
    }
    // docs/limitations.md: fragments that connection tracking would reassemble are left to it
    let is_tracked = frame.port.flags() & vethpath_common::flags::DEFRAGMENT != 0;
    if is_checked && is_tracked && is_fragment(ethertype, payload) {
        return None;
    }
    // "it fits the receiver's MTU (GSO frames by their segment size)"
    let size = match frame.gso_size {
        0 => payload.len(),
        size => match headers(ethertype, payload) {
            Some(headers) => headers + size as usize,
            // docs/architecture.md: no sender's stack can make it too large
            None if to == Port::Roomy => size as usize,
            None => return None,
        },
    };
    (!barred && size <= to.mtu() as usize).then_some(to)
}

fn station_of(mac: &[u8]) -> Option<Port> {
    Port::ARMED.into_iter().find(|port| KNOWN.into_iter().any(|number| port.mac(number) == mac))
}

/// Whether an IPv6 packet has neighbour discovery behind any headers. A fragment does not count: no node accepts
/// neighbour discovery in one (RFC 6980).
fn is_neighbour_discovery(packet: &[u8]) -> bool {
    let walk = || {
        let (mut header, mut at) = (*packet.get(6)?, 40);
        loop {
            let length = |unit: usize, plus: usize| Some((usize::from(*packet.get(at + 1)?) + plus) * unit);
            let length = match header {
                58 => return packet.get(at).copied(),
                0 | 43 | 60 => length(8, 1)?,
                51 => length(4, 2)?,
                _ => return None,
            };
            header = *packet.get(at)?;
            at += length;
        }
    };
    walk().is_some_and(|kind| (133..=137).contains(&kind))
}

/// Whether an IP packet matches its header, and the header has nothing else that the bridge must parse.
fn is_right(ethertype: u16, packet: &[u8]) -> bool {
    let word =
        |at: usize| packet.get(at..at + 2).map_or(0, |word| usize::from(word[0]) << 8 | usize::from(word[1]));
    match ethertype {
        0x0800 => {
            let sum: usize = (0..10).map(|n| word(2 * n)).sum();
            packet.len() >= 20 && packet[0] == 0x45 && word(2) == packet.len() && sum.is_multiple_of(0xffff)
        }
        0x86dd => packet.len() > 40 && packet[0] >> 4 == 6 && word(4) == packet.len() - 40,
        0x8864 => false,
        _ => true,
    }
}

fn is_fragment(ethertype: u16, packet: &[u8]) -> bool {
    match ethertype {
        0x0800 => packet.get(6..8).is_some_and(|field| field[0] & 0x3f != 0 || field[1] != 0),
        0x86dd => packet.get(6) == Some(&44),
        _ => false,
    }
}

/// The length of the headers that each segment repeats; `None` if it is unknown.
fn headers(ethertype: u16, packet: &[u8]) -> Option<usize> {
    let words = |nibble: u8| (nibble >= 5).then_some(usize::from(nibble) * 4);
    let (network, protocol) = match ethertype {
        0x0800 => (words(packet.first()? & 0x0f)?, *packet.get(9)?),
        0x86dd => (40, *packet.get(6)?),
        _ => return None,
    };
    match protocol {
        6 => Some(network + words(packet.get(network + 12)? >> 4)?),
        17 => Some(network + 8),
        _ => None,
    }
}
