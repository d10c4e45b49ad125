//! Frames that fit the MTU: whole frames, and GSO frames by their segments.

use vethpath_common::Reason;

use super::{
    case::{Case, Verdict, case, fast, pass},
    frames::Frame,
    world::{MTU, Port, SMALL_MTU},
};

/// The Ethernet header is not part of an MTU.
const ETH: usize = 14;

pub(crate) fn cases() -> Vec<Case> {
    [whole_frames(), segments(), unknown_headers()].into_iter().flatten().collect()
}

fn whole_frames() -> Vec<Case> {
    let (mtu, small) = (ETH + MTU as usize, ETH + SMALL_MTU as usize);
    let via = |length| Frame::udp4(0).sized(length).to(Port::Via.mac(1));
    vec![
        fast("as long as the MTU", Frame::udp4(0).sized(mtu)),
        pass("a byte longer", Reason::TooBig, Frame::udp4(0).sized(mtu + 1)),
        pass("a VLAN tag longer, which a bridge forwards", Reason::TooBig, Frame::udp4(0).sized(mtu + 4)),
        fast("of any kind", Frame::raw(0x88b5, &[]).sized(mtu)),
        pass("of any kind, a byte longer", Reason::TooBig, Frame::raw(0x88b5, &[]).sized(mtu + 1)),
        case("as long as the receiver's own MTU", via(small), Verdict::Via(Port::Via)),
        pass("longer than the receiver's own MTU", Reason::TooBig, via(small + 1)),
        fast("the sender's MTU does not matter", Frame::udp4(0).sized(mtu).at(Port::Via)),
        pass("too big and isolated", Reason::Isolated, {
            Frame::udp4(0).sized(mtu + 1).at(Port::Alone).to(Port::Lonely.mac(1))
        }),
    ]
}

/// GSO frames with segments of exactly the MTU and of one byte more, by the headers that each segment repeats.
fn segments() -> Vec<Case> {
    let kinds = [
        ("TCP in IPv4 with options: fits", "TCP in IPv4 with options: over", Frame::tcp4(3000), 20 + 32),
        ("TCP in IPv6 with options: fits", "TCP in IPv6 with options: over", Frame::tcp6(3000), 40 + 32),
        // Data offset 5, in the high half of the byte.
        ("TCP without options: fits", "TCP without options: over", Frame::tcp4(3000).with(32, 0x5f), 40),
        ("TCP with all options: fits", "TCP with all options: over", Frame::tcp4(3000).with(32, 0xf0), 80),
        ("UDP in IPv4: fits", "UDP in IPv4: over", Frame::udp4(3000), 28),
        ("UDP in IPv6: fits", "UDP in IPv6: over", Frame::udp6(3000), 48),
        // An IPv4 header of 24 bytes: UDP begins later, with the same length.
        ("IPv4 with options: fits", "IPv4 with options: over", Frame::udp4(3000).with(0, 0x46), 32),
    ];
    let rows = |(fits, over, frame, headers): (_, _, Frame, u32)| {
        let size = MTU - headers;
        [fast(fits, frame.clone().gso(size, 3)), pass(over, Reason::TooBig, frame.gso(size + 1, 3))]
    };
    let mut cases: Vec<_> = kinds.into_iter().flat_map(rows).collect();
    let via = |size| Frame::tcp4(3000).to(Port::Via.mac(1)).gso(size, 3);
    cases.extend([
        case("segments that fit a small MTU", via(SMALL_MTU - 52), Verdict::Via(Port::Via)),
        pass("segments over a small MTU", Reason::TooBig, via(SMALL_MTU - 51)),
        pass("the largest segment size there is", Reason::TooBig, Frame::tcp4(3000).gso(0xffff, 1)),
        fast("segments that nobody has counted are one", Frame::tcp4(3000).gso(1000, 0)),
        fast("the most segments", Frame::tcp4(3000).gso(8, 65_535)),
    ]);
    cases
}

/// GSO frames whose repeated headers are unknown.
fn unknown_headers() -> Vec<Case> {
    let row = |what, frame: Frame| pass(what, Reason::Gso, frame.gso(100, 3));
    vec![
        row("GSO of GRE", Frame::ip4(47, &[0; 300])),
        row("GSO of IP in IP", Frame::ip4(4, &[0; 300])),
        row("GSO of SCTP", Frame::ip4(132, &[0; 300])),
        row("GSO of ESP in IPv6", Frame::ip6(50, &[0; 300])),
        row("GSO of a fragment of IPv6", Frame::ip6(44, &[6; 300])),
        row("GSO with a TCP header of 16 bytes", Frame::tcp4(300).with(32, 0x4f)),
        row("GSO with an IPv4 header of 16 bytes", Frame::udp4(300).with(0, 0x44)),
        row("GSO of what is not IP", Frame::raw(0x88b5, &[0; 300])),
        row("GSO in MPLS", Frame::raw(0x8847, &[0; 300])),
        case("GSO of GRE where it must fit", Frame::ip4(47, &[0; 300]).gso(100, 3).to(Port::Roomy.mac(1)), {
            Verdict::Peer(Port::Roomy)
        }),
        pass("GSO of GRE whose payload alone does not fit", Reason::TooBig, {
            Frame::ip4(47, &[0; 3000]).gso(MTU + 1, 3).to(Port::Roomy.mac(1))
        }),
        pass("GSO of TCP that does not fit, whoever sends it", Reason::TooBig, {
            Frame::tcp4(3000).gso(MTU, 3).to(Port::Roomy.mac(1))
        }),
        pass("GSO behind options", Reason::Options, Frame::ip6(0, &[6; 300]).gso(100, 3)),
        pass("GSO to nobody", Reason::UnknownDestination, {
            Frame::ip4(47, &[0; 300]).gso(100, 3).to([2; 6])
        }),
    ]
}
