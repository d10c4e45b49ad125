//! The first point of the datapath's contract again, implemented from its text and not from the program.

use super::{
    frames::Frame,
    world::{KNOWN, Port},
};

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
