//! What br_netfilter asks of an IP packet before it shows it to any rule: what is not so is dropped,
//! or trimmed of what lies behind its end (`br_validate_ipv4` in net/bridge/br_netfilter_hooks.c,
//! `br_validate_ipv6` in net/bridge/br_netfilter_ipv6.c).

use vethpath_common::Reason;

use crate::packet::{Context, ETH_LEN, Frame};

/// Where the IP header begins.
const IP: usize = ETH_LEN as usize;
/// Bytes of IPv6's header.
const IPV6_LEN: u32 = 40;
/// The next header of a fragment of IPv6 (RFC 8200, section 4.5).
const IPV6_FRAGMENT: u8 = 44;

/// Refuses an IP packet that br_netfilter might not let through as it is. `defragments`: connection tracking
/// reassembles fragments (`nf_ct_defrag_user` in include/net/netfilter/br_netfilter.h).
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
        // With `bridge-nf-filter-pppoe-tagged`, it looks at the IP packet inside.
        0x8864 => false,
        _ => true,
    };
    if is_right { Ok(()) } else { Err(Reason::Unchecked) }
}

/// Options are the bridge's: it parses them too.
#[inline(always)]
fn ipv4(header: &[u8; 20], packet_len: u32) -> bool {
    header[0] == 0x45 && word16(header[2], header[3]) == told(packet_len) && sums_up(header)
}

/// Whether "more fragments" or an offset is set (`ip_is_fragment` in include/net/ip.h).
#[inline(always)]
fn is_ipv4_fragment(header: &[u8; 20]) -> bool {
    word16(header[6], header[7]) & 0x3fff != 0
}

/// Extension headers were looked for before.
#[inline(always)]
fn ipv6(header: &[u8; 7], packet_len: u32) -> bool {
    header[0] >> 4 == 6 && word16(header[4], header[5]) == told(packet_len.wrapping_sub(IPV6_LEN))
}

/// What a header of 16 bits says of a length: nothing of a GSO frame of more than 64 KiB (`iph_totlen` in
/// include/linux/ip.h, `ipv6_gro_complete` in net/ipv6/ip6_offload.c).
#[inline(always)]
fn told(len: u32) -> u32 {
    if len > 0xffff { 0 } else { len }
}

/// Whether the header's checksum is right (RFC 1071): its words, carries added, make 0xffff.
#[inline(always)]
fn sums_up(header: &[u8; 20]) -> bool {
    let mut sum = 0;
    for word in header.as_chunks::<2>().0 {
        sum += word16(word[0], word[1]);
    }
    // Ten words carry less than 10: if that carries once more, it is not 0xffff, nor will it be.
    (sum & 0xffff) + (sum >> 16) == 0xffff
}

/// Of the whole frame less its Ethernet header; of a GSO frame too, whose IP header has it so.
#[inline(always)]
fn packet_len<C: Context>(frame: &Frame<C>) -> u32 {
    frame.context.len().saturating_sub(ETH_LEN)
}

#[inline(always)]
fn word16(high: u8, low: u8) -> u32 {
    u32::from(u16::from_be_bytes([high, low]))
}
