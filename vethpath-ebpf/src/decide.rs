//! Decides what happens to a frame. The checks are in the order of their cost.
//!
//! BPF has four registers that survive a call, so the common path keeps four values and reads all others again; rare
//! cases are in functions of their own. A program's code and branches are cold when a frame arrives: the fewer, the
//! better (see docs/performance.md).

use core::{hint::cold_path, ptr::NonNull};

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use vethpath_common::{Config, Reason, Source, Station, flags};

use crate::{
    count::{self, Delivery},
    maps::CONFIG,
    moves,
    packet::{Context, ETH_LEN, Ethernet, Frame},
    stations::{self, field},
    validate::validate,
};

/// Bytes of the hop-by-hop header of a jumbogram: see [`is_jumbo`].
const JUMBO_LEN: usize = 8;

/// The EtherType of most frames.
const IPV4: u16 = 0x0800;

/// What to do with a frame.
pub enum Verdict {
    /// Redirect into the namespace behind this port (`bpf_redirect_peer`).
    ToPeer {
        /// The port.
        ifindex: u32,
    },
    /// Redirect out of this port, so that what is attached there runs.
    ToPort {
        /// The port.
        ifindex: u32,
    },
    /// Pass it to the bridge.
    Pass {
        /// The reason that it was counted under.
        #[cfg_attr(not(feature = "log"), expect(dead_code, reason = "used only in a build that logs"))]
        reason: Reason,
    },
}

/// Decides and counts. A frame that fails any check is passed to the bridge.
/// Minimum kernel: Linux 5.11 (`bpf_ktime_get_coarse_ns`).
#[inline(always)]
pub fn decide<C: Context>(context: C) -> Verdict {
    let mut sender = None;
    match fast_path(context, &mut sender) {
        Ok(delivery) => {
            count::fast(context, &delivery);
            let ifindex = field!(delivery.station, ifindex);
            match field!(delivery.station, flags) & flags::VIA_PORT {
                0 => Verdict::ToPeer { ifindex },
                _ => {
                    cold_path();
                    Verdict::ToPort { ifindex }
                }
            }
        }
        Err(reason) => {
            cold_path();
            Verdict::Pass { reason: count::slow(context, reason, sender) }
        }
    }
}

/// The entries of both ends of a frame's path, if it takes the fast path. `sender` is set as soon as the source is
/// known to be a station on this port.
/// Minimum kernel: Linux 5.11 (`bpf_ktime_get_coarse_ns`).
#[inline(always)]
pub fn fast_path<C: Context>(context: C, sender: &mut Option<NonNull<Source>>) -> Result<Delivery, Reason> {
    let (config, ethernet) = plain(context)?;
    let source = stations::source(context.ifindex(), ethernet.src, config.generation)?;
    *sender = Some(source);
    let station = stations::station(field!(source, bridge), ethernet.dst, config.generation)?;
    if moves::is_one_away(source, station, ethernet.dst) {
        return Err(Reason::Moved);
    }
    if field!(station, ifindex) == context.ifindex() {
        return Err(Reason::SamePort);
    }
    if field!(source, flags) & field!(station, flags) & flags::ISOLATED != 0 {
        return Err(Reason::Isolated);
    }
    if field!(station, bridges) & !field!(source, reach) != 0 {
        return Err(Reason::Unlearned);
    }
    let packets = fitting(context, ethernet.ethertype, station)?;
    let flags = field!(source, flags) | field!(station, flags);
    if flags & flags::VALIDATE != 0 && flags & checks_of(ethernet.ethertype) != 0 {
        validate(context, ethernet.ethertype, flags & flags::DEFRAGMENT != 0)?;
    }
    record_bridges(source, field!(station, bridges), config.epoch);
    Ok(Delivery { source, station, packets })
}

/// The configuration and the Ethernet header, if the lease holds and a bridge would only forward a frame of this kind.
/// Minimum kernel: Linux 5.11 (`bpf_ktime_get_coarse_ns`).
#[inline(always)]
pub fn plain<C: Context>(context: C) -> Result<(&'static Config, Ethernet), Reason> {
    let config = CONFIG.get(0).ok_or(Reason::Lease)?;
    // SAFETY: a helper without arguments.
    if unsafe { bpf_ktime_get_coarse_ns() } >= config.lease_until_ns {
        return Err(Reason::Lease);
    }
    let ethernet = Frame::new(context).ethernet()?;
    if context.tag_beside() {
        return Err(Reason::Tagged);
    }
    if ethernet.ethertype != IPV4 {
        known_protocol(context, ethernet.ethertype)?;
    }
    if ethernet.dst.is_one_group(ethernet.src) {
        cold_path();
        // br_handle_frame drops frames with a group address as source, whatever the maps contain.
        return Err(if ethernet.dst.is_group() { Reason::Group } else { Reason::UnknownSource });
    }
    Ok((config, ethernet))
}

/// Refuses protocols that the bridge, or one of its snooping features, must process itself.
#[inline(never)]
fn known_protocol<C: Context>(context: C, ethertype: u16) -> Result<(), Reason> {
    // ARP and RARP, most of which are broadcast: counted apart from other broadcasts.
    if matches!(ethertype, 0x0806 | 0x8035) {
        return Err(Reason::Arp);
    }
    let frame = Frame::new(context);
    if frame.ethernet()?.dst.is_group() {
        return Err(Reason::Group);
    }
    match ethertype {
        // 802.2, and so spanning tree.
        0..=0x05ff => Err(Reason::Control),
        // 802.1Q, 802.1ad and the tags before it.
        0x8100 | 0x88a8 | 0x9100 | 0x9200 | 0x9300 => Err(Reason::Tagged),
        // Pause, slow protocols (LACP), LLDP, EAPOL, MRP, CFM, MACsec: br_handle_frame consumes some.
        0x8808 | 0x8809 | 0x88cc | 0x888e | 0x88e3 | 0x8902 | 0x88e5 => Err(Reason::Control),
        0x86dd => ipv6(&frame),
        _ => Ok(()),
    }
}

/// IPv6: neighbour discovery (ICMPv6 types 133 to 137, RFC 4861) is passed to the bridge. So are extension headers that
/// could hide it.
#[inline(always)]
fn ipv6<C: Context>(frame: &Frame<C>) -> Result<(), Reason> {
    const NEXT_HEADER: usize = ETH_LEN as usize + 6;
    const PAYLOAD: usize = ETH_LEN as usize + 40;
    match frame.read::<u8>(NEXT_HEADER)? {
        58 => match frame.read::<u8>(PAYLOAD)? {
            133..=137 => Err(Reason::Nd),
            _ => Ok(()),
        },
        0 if is_jumbo(frame) => Ok(()),
        // Hop-by-hop, routing, authentication, destination options.
        0 | 43 | 51 | 60 => Err(Reason::Options),
        _ => Ok(()),
    }
}

/// Whether an IPv6 frame with a hop-by-hop header is a jumbogram of more than 64 KiB as the kernel makes them: that
/// header has the packet's length and no other option, and TCP follows (`struct hop_jumbo_hdr` in include/net/ipv6.h).
/// Only GSO frames of that size fit into an MTU.
#[inline(always)]
fn is_jumbo<C: Context>(frame: &Frame<C>) -> bool {
    /// TCP follows; the header has 8 bytes; a jumbo payload option of four bytes.
    const OPTION: u64 = 0x0600_c204;
    let headers = ETH_LEN + 40;
    let (Ok(payload), Ok(option)) =
        (frame.read::<[u8; 2]>(ETH_LEN as usize + 4), frame.read::<[u8; JUMBO_LEN]>(headers as usize))
    else {
        return false;
    };
    let (option, len) = (u64::from_be_bytes(option), u64::from(frame.context.len().wrapping_sub(headers)));
    option ^ (OPTION << 32 | len) | u64::from(u16::from_ne_bytes(payload)) == 0 && len > 0xffff
}

/// The flags of [`flags::VALIDATE`] that apply to an EtherType. Packets other than IP may have either inside.
#[inline(always)]
fn checks_of(ethertype: u16) -> u32 {
    match ethertype {
        IPV4 => flags::VALIDATE_IPV4,
        0x86dd => flags::VALIDATE_IPV6,
        _ => flags::VALIDATE,
    }
}

/// Records the bridges on the frame's path in the sender's entry. Most frames of an epoch find them recorded already,
/// and dirty no cache line.
#[inline(always)]
fn record_bridges(entry: NonNull<Source>, bridges: u64, epoch: u32) {
    // SAFETY: entries are only freed after a grace period (see agent/map_sync.rs). Two CPUs may race: the next frame
    // sets a bit that is lost.
    let seen = unsafe { &mut (*entry.as_ptr()).seen[(epoch & 1) as usize] };
    if seen.epoch != epoch {
        (seen.epoch, seen.bridges) = (epoch, bridges);
    } else if bridges & !seen.bridges != 0 {
        seen.bridges |= bridges;
    }
}

/// The number of packets in the frame, if it fits the smallest MTU on the path.
#[inline(always)]
fn fitting<C: Context>(context: C, ethertype: u16, station: NonNull<Station>) -> Result<u64, Reason> {
    if context.gso_size() == 0 {
        let fits = u64::from(context.len()) <= u64::from(field!(station, mtu)) + u64::from(ETH_LEN);
        return if fits { Ok(1) } else { Err(Reason::TooBig) };
    }
    segments_fit(context, ethertype, field!(station, mtu), field!(station, flags))?;
    Ok(context.packets())
}

/// Whether each segment of a GSO frame fits the smallest MTU on the path.
#[inline(never)]
fn segments_fit<C: Context>(context: C, ethertype: u16, mtu: u32, flags: u32) -> Result<(), Reason> {
    let payload = context.gso_size();
    let size = match headers(&Frame::new(context), ethertype) {
        Ok(headers) => headers.saturating_add(payload),
        // A tunnel, for example. Its small frames are fast, so its large ones must be too, or frames are reordered.
        Err(Reason::Gso) if flags & flags::MTU_ANY != 0 => payload,
        Err(reason) => return Err(reason),
    };
    if size <= mtu { Ok(()) } else { Err(Reason::TooBig) }
}

/// Bytes of layer 3 and 4 headers that each segment of a GSO frame repeats.
#[inline(always)]
fn headers<C: Context>(frame: &Frame<C>, ethertype: u16) -> Result<u32, Reason> {
    const IP: usize = ETH_LEN as usize;
    let (ip, protocol) = match ethertype {
        0x0800 => (u32::from(frame.read::<u8>(IP)? & 15) * 4, frame.read::<u8>(IP + 9)?),
        0x86dd => match frame.read::<u8>(IP + 6)? {
            // A jumbogram of TCP: others do not get here. Its segments do not have the jumbo option
            // (`ipv6_hopopt_jumbo_remove` in include/net/ipv6.h).
            0 => return Ok(40 + u32::from(frame.read::<u8>(IP + 40 + JUMBO_LEN + 12)? >> 4) * 4),
            protocol => (40, protocol),
        },
        _ => return Err(Reason::Gso),
    };
    let transport = match protocol {
        // The high four bits of byte 12 are TCP's header length in words.
        6 => u32::from(frame.read::<u8>(IP + ip as usize + 12)? >> 4) * 4,
        17 => 8,
        _ => return Err(Reason::Gso),
    };
    // Too short for the protocol. (Checked after the reads: before, LLVM emits the bounds check of the second read in a
    // form that the verifier does not follow.)
    if ip < 20 || (protocol == 6 && transport < 20) {
        return Err(Reason::Gso);
    }
    Ok(ip + transport)
}
