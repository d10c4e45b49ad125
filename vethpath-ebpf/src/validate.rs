//! The checks of br_netfilter on an IP packet before any rule sees it. A packet that fails is dropped, or trimmed to
//! the length in its header (`br_validate_ipv4` in net/bridge/br_netfilter_hooks.c, `br_validate_ipv6` in
//! net/bridge/br_netfilter_ipv6.c).

use vethpath_common::Reason;

use crate::packet::{Context, ETH_LEN, Frame};

/// Where the IP header begins.
const IP: usize = ETH_LEN as usize;
/// Bytes of the IPv6 header.
const IPV6_LEN: u32 = 40;
/// The next header value of an IPv6 fragment (RFC 8200, section 4.5).
const IPV6_FRAGMENT: u8 = 44;

/// Refuses an IP packet that br_netfilter might drop or change. `defragments`: connection tracking reassembles
/// fragments (`nf_ct_defrag_user` in include/net/netfilter/br_netfilter.h).
#[inline(never)]
pub fn validate<C: Context>(context: C, ethertype: u16, defragments: bool) -> Result<(), Reason> {
    let frame = &Frame::new(context);
    let is_right = match ethertype {
        0x0800 => {
            let header = frame.read(IP)?;
            ipv4(&header, packet_len(frame)) && !(defragments && is_ipv4_fragment(&header))
        }
        0x86dd => {
            let header = frame.read(IP)?;
            ipv6(&header, packet_len(frame)) && !(defragments && header[6] == IPV6_FRAGMENT)
        }
        // With `bridge-nf-filter-pppoe-tagged`, br_netfilter checks the IP packet inside.
        0x8864 => false,
        _ => true,
    };
    if is_right { Ok(()) } else { Err(Reason::Unchecked) }
}

/// Packets with options are passed to the bridge, which parses them.
#[inline(always)]
fn ipv4(header: &[u8; 20], packet_len: u32) -> bool {
    header[0] == 0x45 && word16(header[2], header[3]) == length_field(packet_len) && sums_up(header)
}

/// Whether "more fragments" or an offset is set (`ip_is_fragment` in include/net/ip.h).
#[inline(always)]
fn is_ipv4_fragment(header: &[u8; 20]) -> bool {
    word16(header[6], header[7]) & 0x3fff != 0
}

/// Extension headers were checked before.
#[inline(always)]
fn ipv6(header: &[u8; 7], packet_len: u32) -> bool {
    header[0] >> 4 == 6 && word16(header[4], header[5]) == length_field(packet_len.wrapping_sub(IPV6_LEN))
}

/// The value of a 16-bit length field: 0 for a GSO frame of more than 64 KiB (`iph_totlen` in include/linux/ip.h,
/// `ipv6_gro_complete` in net/ipv6/ip6_offload.c).
#[inline(always)]
fn length_field(len: u32) -> u32 {
    if len > 0xffff { 0 } else { len }
}

/// Whether the header's checksum is right (RFC 1071): its words, with carries added, sum up to 0xffff.
#[inline(always)]
fn sums_up(header: &[u8; 20]) -> bool {
    let mut sum = 0;
    for word in header.as_chunks::<2>().0 {
        sum += word16(word[0], word[1]);
    }
    // The carry of ten words is less than 10. If adding it carries again, the sum is not 0xffff.
    (sum & 0xffff) + (sum >> 16) == 0xffff
}

/// The length of the frame without its Ethernet header. The IP header of a GSO frame has the length of the whole frame
/// too.
#[inline(always)]
fn packet_len<C: Context>(frame: &Frame<C>) -> u32 {
    frame.context.len().saturating_sub(ETH_LEN)
}

#[inline(always)]
fn word16(high: u8, low: u8) -> u32 {
    u32::from(u16::from_be_bytes([high, low]))
}
