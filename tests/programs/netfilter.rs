//! Frames that br_netfilter drops or trims, from a port whose bridge calls it and from one whose bridge does not.

use vethpath_common::Reason;

use super::{
    case::{Case, Verdict, case, fast, pass},
    frames::Frame,
    world::Port,
};

pub(crate) fn cases() -> Vec<Case> {
    let wrong = [wrong_ipv4(), wrong_ipv6()].into_iter().flatten().flat_map(|(what, frame)| {
        [pass(what, Reason::Unchecked, frame.clone().at(Port::Checked)), fast(what, frame)]
    });
    let apart =
        [(wrong_ipv4(), Port::Checked4, Port::Checked6), (wrong_ipv6(), Port::Checked6, Port::Checked4)];
    let apart = apart.into_iter().flat_map(|(wrong, of_it, of_the_other)| {
        wrong.into_iter().flat_map(move |(what, frame)| {
            [pass(what, Reason::Unchecked, frame.clone().at(of_it)), fast(what, frame.at(of_the_other))]
        })
    });
    let right = right().into_iter().map(|(what, frame)| fast(what, frame.at(Port::Checked)));
    wrong.chain(apart).chain(right).chain(others()).collect()
}

/// Offsets of words in the headers: IPv4's length and checksum, IPv6's payload length.
const TOT_LEN: usize = 2;
const CHECK: usize = 10;
const PAYLOAD_LEN: usize = 4;

fn wrong_ipv4() -> Vec<(&'static str, Frame)> {
    // 20 and 8 bytes of headers.
    let frame = || Frame::udp4(64);
    let length = |length| frame().word(TOT_LEN, length).with_checksum();
    let gso = || Frame::tcp4(3000).gso(1000, 3);
    vec![
        ("a checksum of 0", frame().word(CHECK, 0)),
        ("a checksum of 0xffff", frame().word(CHECK, 0xffff)),
        ("a TTL that is not in the checksum", frame().with(8, 63)),
        ("an address that is not in the checksum", frame().with(19, 77)),
        ("version 5", frame().with(0, 0x55).with_checksum()),
        ("version 6 in IPv4", frame().with(0, 0x65).with_checksum()),
        ("version 0", frame().with(0, 0x05).with_checksum()),
        ("an IPv4 header of 16 bytes", frame().with(0, 0x44).with_checksum()),
        ("an IPv4 header of 24 bytes, which may be right", frame().with(0, 0x46).with_checksum()),
        ("an IPv4 header of no bytes", frame().with(0, 0x40)),
        ("a length that is one short", length(91)),
        ("a length that is one long", length(93)),
        ("a length of the header alone", length(20)),
        ("a length of less than the header", length(19)),
        ("no length", length(0)),
        ("the greatest length", length(0xffff)),
        ("padding to what Ethernet wants", Frame::udp4(4).sized(60)),
        ("one byte of padding", frame().sized(14 + 93)),
        ("a cut packet", frame().cut(14 + 91)),
        ("GSO with a wrong checksum", gso().word(CHECK, 0)),
        ("GSO with the length of a segment", gso().word(TOT_LEN, 1052).with_checksum()),
        ("GSO without a length", gso().word(TOT_LEN, 0).with_checksum()),
    ]
}

fn wrong_ipv6() -> Vec<(&'static str, Frame)> {
    let frame = || Frame::udp6(64);
    let length = |length| frame().word(PAYLOAD_LEN, length);
    let gso = || Frame::tcp6(3000).gso(1000, 3);
    vec![
        ("version 4 in IPv6", frame().with(0, 0x40)),
        ("version 7", frame().with(0, 0x70)),
        ("a payload that is one short", length(71)),
        ("a payload that is one long", length(73)),
        ("no payload length", length(0)),
        ("the greatest payload", length(0xffff)),
        ("padding behind IPv6", Frame::udp6(4).sized(60 + 14)),
        ("a cut packet of IPv6", frame().cut(14 + 111)),
        ("GSO with the payload of a segment", gso().word(PAYLOAD_LEN, 1032)),
        ("GSO without a payload length", gso().word(PAYLOAD_LEN, 0)),
    ]
}

fn right() -> Vec<(&'static str, Frame)> {
    vec![
        ("UDP in IPv4", Frame::udp4(64)),
        ("TCP in IPv4", Frame::tcp4(64)),
        ("ICMP in IPv4", Frame::ip4(1, &[8, 0, 0, 0])),
        ("an odd length", Frame::udp4(65)),
        ("a bare IPv4 header", Frame::ip4(253, &[])),
        ("as long as the MTU", Frame::udp4(1500 - 28)),
        ("another TTL", Frame::udp4(64).with(8, 1).with_checksum()),
        ("a fragment of IPv4", Frame::ip4(17, &[0; 64]).with(6, 0x20).with_checksum()),
        (
            "all ones in the header",
            (0..5).fold(Frame::udp4(64), |f, n| f.word(4 + 2 * n, 0xffff)).with_checksum(),
        ),
        ("UDP in IPv6", Frame::udp6(64)),
        ("TCP in IPv6", Frame::tcp6(64)),
        ("an echo request in IPv6", Frame::icmp6(128)),
        ("a flow label and a traffic class", Frame::udp6(64).with(0, 0x6f).with(1, 0xff)),
        ("no payload", Frame::ip6(59, &[])),
        ("the shortest payload of IPv6", Frame::ip6(253, &[0])),
        ("GSO of TCP in IPv4", Frame::tcp4(3000).gso(1000, 3)),
        ("GSO of TCP in IPv6", Frame::tcp6(3000).gso(1000, 3)),
        ("GSO of UDP in IPv4", Frame::udp4(3000).gso(1000, 3)),
        ("GSO of UDP in IPv6", Frame::udp6(3000).gso(1000, 3)),
        ("no IP", Frame::raw(0x88b5, &[0; 46])),
        ("MPLS", Frame::raw(0x8847, &[0; 46])),
        ("discovery of PPPoE", Frame::raw(0x8863, &[0; 46])),
    ]
}

fn others() -> Vec<Case> {
    let checked = || Frame::udp4(64).at(Port::Checked);
    let tracked = |frame: Frame| frame.at(Port::Tracked);
    let fragment4 = |flags, offset| Frame::ip4(17, &[0; 64]).with(6, flags).with(7, offset).with_checksum();
    let fragment6 = || Frame::ip6(44, &[17, 0, 0, 1, 0, 0, 0, 9, 0, 0]);
    vec![
        // The sender's flag applies: both are on one bridge.
        case(
            "wrong, and to where it is checked",
            Frame::udp4(64).word(CHECK, 0).to(Port::Checked.mac(1)),
            Verdict::Peer(Port::Checked),
        ),
        pass("a fragment where connections are tracked", Reason::Unchecked, tracked(fragment4(0x20, 0))),
        pass("its last one", Reason::Unchecked, tracked(fragment4(0, 16))),
        fast("what must not be fragmented", tracked(fragment4(0x40, 0))),
        pass("a fragment of IPv6", Reason::Unchecked, tracked(fragment6())),
        fast("TCP of IPv6", tracked(Frame::tcp6(64))),
        fast("a fragment where nothing is tracked", fragment6().at(Port::Checked)),
        // The sender's flag applies, as above.
        case(
            "a fragment to where connections are tracked",
            fragment6().to(Port::Tracked.mac(1)),
            Verdict::Peer(Port::Tracked),
        ),
        pass("PPPoE", Reason::Unchecked, Frame::raw(0x8864, &[0; 46]).at(Port::Checked)),
        pass(
            "PPPoE where IPv6 is checked",
            Reason::Unchecked,
            Frame::raw(0x8864, &[0; 46]).at(Port::Checked6),
        ),
        pass("wrong, and to nobody", Reason::UnknownDestination, checked().word(CHECK, 0).to([2; 6])),
        pass("wrong, and too big", Reason::TooBig, Frame::udp4(1473).word(CHECK, 0).at(Port::Checked)),
    ]
}
