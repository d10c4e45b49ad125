//! Protocols that only the bridge handles, and those that the fast path may carry.

use vethpath_common::Reason;

use super::{
    case::{Case, fast, pass},
    frames::Frame,
    world::Port,
};

pub(crate) fn cases() -> Vec<Case> {
    [groups(), control(), tags(), ip(), neighbour_discovery(), short()].into_iter().flatten().collect()
}

fn groups() -> Vec<Case> {
    let to = |mac| Frame::udp4(64).to(mac);
    let row = |what, mac| pass(what, Reason::Group, to(mac));
    vec![
        row("broadcast", [0xff; 6]),
        row("IPv4 multicast", [0x01, 0x00, 0x5e, 0, 0, 1]),
        row("IPv6 multicast", [0x33, 0x33, 0, 0, 0, 1]),
        row("the bridge group", [0x01, 0x80, 0xc2, 0, 0, 0]),
        row("the last of the reserved groups", [0x01, 0x80, 0xc2, 0, 0, 0x0f]),
        row("a station, but for the group bit", [0x03, 0, 0, 0, Port::B as u8, 1]),
        pass("an ARP request", Reason::Arp, Frame::raw(0x0806, &[0; 28]).to([0xff; 6])),
        pass(
            "a spanning tree frame",
            Reason::Group,
            Frame::raw(38, &[0x42; 46]).to([1, 0x80, 0xc2, 0, 0, 0]),
        ),
    ]
}

fn control() -> Vec<Case> {
    let row = |what, ethertype| pass(what, Reason::Control, Frame::raw(ethertype, &[0x42; 46]));
    vec![
        row("802.2, no length", 0),
        row("802.2 as spanning tree has it", 38),
        row("802.2, the longest", 1500),
        row("no length and no type", 0x05ff),
        row("pause", 0x8808),
        row("slow protocols (LACP)", 0x8809),
        row("LLDP", 0x88cc),
        row("EAPOL", 0x888e),
        row("MRP", 0x88e3),
        row("CFM", 0x8902),
        row("MACsec", 0x88e5),
        pass("ARP to one", Reason::Arp, Frame::raw(0x0806, &[0; 28])),
        pass("RARP to one", Reason::Arp, Frame::raw(0x8035, &[0; 28])),
        fast("the first EtherType", Frame::raw(0x0600, &[0; 46])),
        fast("an experimental EtherType", Frame::raw(0x88b5, &[0; 46])),
        fast("a bare header", Frame::raw(0x88b5, &[])),
        fast("MPLS", Frame::raw(0x8847, &[0; 46])),
        fast("PPPoE", Frame::raw(0x8864, &[0; 46])),
    ]
}

fn tags() -> Vec<Case> {
    let row = |what, frame| pass(what, Reason::Tagged, frame);
    vec![
        row("802.1Q", Frame::tagged()),
        row("802.1ad", Frame::double_tagged()),
        row("a bare tag", Frame::raw(0x8100, &[0, 7])),
        row("a cut tag", Frame::raw(0x8100, &[])),
        row("0x9100", Frame::raw(0x9100, &[0; 46])),
        row("0x9200", Frame::raw(0x9200, &[0; 46])),
        row("0x9300", Frame::raw(0x9300, &[0; 46])),
    ]
}

fn ip() -> Vec<Case> {
    // Bytes 6 and 7 of IPv4: "more fragments", and the offset.
    let fragment = |flags, offset| Frame::ip4(17, &[0; 64]).with(6, flags).with(7, offset);
    let options =
        |what, next| pass(what, Reason::Options, Frame::ip6(next, &[58, 0, 0, 0, 0, 0, 0, 0, 135, 0]));
    vec![
        fast("UDP in IPv4", Frame::udp4(64)),
        fast("TCP in IPv4", Frame::tcp4(64)),
        fast("ICMP in IPv4", Frame::ip4(1, &[8, 0, 0, 0])),
        fast("the first fragment of IPv4", fragment(0x20, 0)),
        fast("a later fragment of IPv4", fragment(0x20, 8)),
        fast("the last fragment of IPv4", fragment(0, 16)),
        fast("UDP in IPv6", Frame::udp6(64)),
        fast("TCP in IPv6", Frame::tcp6(64)),
        fast("GRE in IPv6", Frame::ip6(47, &[0; 8])),
        fast("ESP in IPv6", Frame::ip6(50, &[0; 8])),
        fast("nothing in IPv6", Frame::ip6(59, &[])),
        fast("a fragment of IPv6", Frame::ip6(44, &[17, 0, 0, 1, 0, 0, 0, 9, 0, 0])),
        options("hop-by-hop options", 0),
        options("a routing header", 43),
        options("an authentication header", 51),
        options("destination options", 60),
    ]
}

fn neighbour_discovery() -> Vec<Case> {
    let row = |what, kind| pass(what, Reason::Nd, Frame::icmp6(kind));
    vec![
        row("router solicitation", 133),
        row("router advertisement", 134),
        row("neighbour solicitation", 135),
        row("neighbour advertisement", 136),
        row("redirect", 137),
        fast("the type before", Frame::icmp6(132)),
        fast("the type after", Frame::icmp6(138)),
        fast("an echo request in IPv6", Frame::icmp6(128)),
        fast("ICMPv6 in IPv4", Frame::ip4(58, &[135, 0, 0, 0])),
    ]
}

fn short() -> Vec<Case> {
    let row = |what, frame| pass(what, Reason::Short, frame);
    vec![
        row("ICMPv6 without its type", Frame::icmp6(128).cut(14 + 40)),
        fast("ICMPv6 with no more than its type", Frame::icmp6(128).cut(14 + 41)),
        row("ND without its type", Frame::icmp6(135).cut(14 + 40)),
        pass("ND with no more than its type", Reason::Nd, Frame::icmp6(135).cut(14 + 41)),
        row("a GSO frame without its TCP header", Frame::tcp4(0).cut(14 + 20 + 12).gso(1000, 2)),
        row("a GSO frame with an IPv6 header only", Frame::tcp6(0).cut(14 + 40).gso(1000, 2)),
        fast(
            "a GSO frame that ends with its TCP header's length",
            Frame::tcp4(0).cut(14 + 20 + 13).gso(9, 2),
        ),
    ]
}
