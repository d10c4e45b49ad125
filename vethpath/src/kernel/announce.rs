//! Announces the MAC of an address to neighbours: gratuitous ARP and unsolicited neighbour advertisements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Netns, Result, frames::Sender};
use crate::topology::Mac;

/// An address and the interface that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The interface.
    pub ifindex: u32,
    /// Its MAC.
    pub mac: Mac,
    /// The address.
    pub address: IpAddr,
    /// Whether the namespace forwards IPv6 from that interface: neighbours remove a router that advertises no router
    /// flag (`ndisc_router_discovery`, `rt6_clean_tohost`).
    pub is_router: bool,
}

/// Sends each announcement once, from within `netns`, as the kernel does with `arp_notify` and `ndisc_notify`. Those
/// that an interface refuses are lost: neighbours then update their entries by timeout.
///
/// # Errors
/// The namespace cannot be entered, or a packet socket cannot be opened there.
pub fn announce(netns: &Netns, announcements: &[Announcement]) -> Result<()> {
    if announcements.is_empty() {
        return Ok(());
    }
    netns.run(|| {
        let sender = Sender::open()?;
        for announcement in announcements {
            let _ = sender.send(announcement.ifindex, &frame(announcement));
        }
        Ok(())
    })?
}

fn frame(announcement: &Announcement) -> Vec<u8> {
    match announcement.address {
        IpAddr::V4(address) => gratuitous_arp(announcement.mac, address),
        IpAddr::V6(address) => neighbour_advertisement(announcement.mac, address, announcement.is_router),
    }
}

/// An ARP announcement of RFC 5227, 2.3: a broadcast request for the sender's own address.
fn gratuitous_arp(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    const ETHERNET_IPV4_REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
    let mac = mac.bytes();
    let ether = [[0xff; 6], mac].concat();
    let (address, nobody) = (address.octets(), [0; 6]);
    [&ether[..], &[8, 6], &ETHERNET_IPV4_REQUEST, &mac, &address, &nobody, &address].concat()
}

/// An unsolicited neighbour advertisement of RFC 4861, 7.2.6: to all nodes, with the override flag.
fn neighbour_advertisement(mac: Mac, address: Ipv6Addr, is_router: bool) -> Vec<u8> {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const ICMPV6: u8 = 58;
    const OVERRIDE: u8 = 0x20;
    const ROUTER: u8 = 0x80;
    let flags = OVERRIDE | if is_router { ROUTER } else { 0 };
    let mac = mac.bytes();
    let mut message = [&[136, 0, 0, 0, flags, 0, 0, 0], &address.octets()[..], &[2, 1], &mac].concat();
    let (from, to) = (address.octets(), ALL_NODES.octets());
    let length = u8::try_from(message.len()).unwrap_or(u8::MAX);
    let pseudo = [&from[..], &to, &[0, 0, 0, length, 0, 0, 0, ICMPV6], &message].concat();
    message[2..4].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    let ether = [[0x33, 0x33, 0, 0, 0, 1], mac].concat();
    let header = [0x60, 0, 0, 0, 0, length, ICMPV6, 255];
    [&ether[..], &[0x86, 0xdd], &header, &from, &to, &message].concat()
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    u16::try_from(folded).map_or(0, |sum| !sum)
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv6Slice, NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    fn mac() -> Mac {
        "02:00:00:00:00:0a".parse().expect("a MAC")
    }

    #[test]
    fn an_arp_announcement_asks_all_for_its_own_address() {
        let frame = gratuitous_arp(mac(), Ipv4Addr::new(10, 0, 0, 2));
        let packet = SlicedPacket::from_ethernet(&frame).expect("a frame");
        let Some(NetSlice::Arp(arp)) = packet.net else { panic!("no ARP: {packet:?}") };
        assert_eq!(arp.operation().0, 1);
        assert_eq!(
            (arp.sender_protocol_addr(), arp.target_protocol_addr()),
            (&[10, 0, 0, 2][..], &[10, 0, 0, 2][..])
        );
        assert_eq!((arp.sender_hw_addr(), &frame[..6]), (&mac().bytes()[..], &[0xff; 6][..]));
    }

    #[test]
    fn an_advertisement_overrides_and_has_a_right_checksum() {
        for (is_router, flags) in [(false, 0x20), (true, 0xa0)] {
            let address: Ipv6Addr = "fd00::2".parse().expect("an address");
            let frame = neighbour_advertisement(mac(), address, is_router);
            let packet = SlicedPacket::from_ethernet(&frame).expect("a frame");
            let Some(NetSlice::Ipv6(ip)) = &packet.net else { panic!("no IPv6: {packet:?}") };
            let (from, to) = (ip.header().source(), ip.header().destination());
            let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport else { panic!("{packet:?}") };
            let icmp: &Icmpv6Slice<'_> = icmp;
            assert!(icmp.is_checksum_valid(from, to));
            assert_eq!((icmp.type_u8(), icmp.slice()[4], ip.header().hop_limit()), (136, flags, 255));
            assert_eq!(icmp.slice()[8..24], address.octets());
            assert_eq!(icmp.slice()[24..], [2, 1, 2, 0, 0, 0, 0, 10]);
        }
    }
}
