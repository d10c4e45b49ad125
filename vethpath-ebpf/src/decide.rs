//! What becomes of a frame: the datapath's contract, in the order of its cost.

use core::{hint::cold_path, ptr::NonNull};

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use vethpath_common::{Config, Reason, Source, Station, flags};

use crate::{
    count,
    maps::CONFIG,
    moves,
    packet::{ETH_LEN, Ethernet, Frame},
    stations,
    validate::validate,
};

/// What to do with a frame.
pub enum Verdict {
    /// Into the namespace behind this port, at once.
    ToPeer {
        /// The port.
        ifindex: u32,
    },
    /// Out of this port, so that what is attached there runs.
    ToPort {
        /// The port.
        ifindex: u32,
    },
    /// To the bridge.
    Pass {
        /// What it was counted under.
        #[cfg_attr(not(feature = "log"), expect(dead_code, reason = "told only in a build that logs"))]
        reason: Reason,
    },
}

/// Decides and counts. Whatever is not certain goes to the bridge.
#[inline(always)]
pub fn decide(frame: &Frame) -> Verdict {
    let mut sender = None;
    match fast_path(frame, &mut sender) {
        Ok((source, station)) => {
            count::fast(frame, &source, &station);
            match station.flags & flags::VIA_PORT {
                0 => Verdict::ToPeer { ifindex: station.ifindex },
                _ => Verdict::ToPort { ifindex: station.ifindex },
            }
        }
        Err(reason) => {
            cold_path();
            // A copy, so that the frame of the fast path may lie in registers.
            Verdict::Pass { reason: count::slow(&frame.clone(), reason, sender) }
        }
    }
}

/// What is known of both ends of a frame's way, if it takes the fast path. `sender` is the pair of the
/// sender as soon as that is known to be a station on this very port.
#[inline(always)]
fn fast_path(frame: &Frame, sender: &mut Option<u32>) -> Result<(Source, Station), Reason> {
    let config = CONFIG.get(0).ok_or(Reason::Lease)?;
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    if now >= config.lease_until_ns {
        return Err(Reason::Lease);
    }
    let ethernet = frame.ethernet()?;
    known_protocol(frame, &ethernet)?;
    let entry = source(frame, &ethernet, config)?;
    // SAFETY: entries are only freed after a grace period (see agent/sync.rs).
    let source = unsafe { *entry.as_ptr() };
    *sender = Some(source.pair);
    let station = station(&ethernet, source.bridge, config)?;
    if now < source.away_until_ns || moves::is_away(&station, ethernet.dst, now) {
        return Err(Reason::Moved);
    }
    if station.ifindex == frame.ifindex() {
        return Err(Reason::SamePort);
    }
    if source.flags & station.flags & flags::ISOLATED != 0 {
        return Err(Reason::Isolated);
    }
    if station.bridges & !source.reach != 0 {
        return Err(Reason::Unlearned);
    }
    fits(frame, &ethernet, &station)?;
    if (source.flags | station.flags) & flags::VALIDATE != 0 {
        validate(&frame.clone(), ethernet.ethertype)?;
    }
    note(entry, station.bridges, config.epoch);
    Ok((source, station))
}

/// Refuses what the bridge, or a snooping feature of it, wants to see for itself.
#[inline(always)]
fn known_protocol(frame: &Frame, ethernet: &Ethernet) -> Result<(), Reason> {
    if frame.tag_beside() {
        return Err(Reason::Tagged);
    }
    let ethertype = ethernet.ethertype;
    // ARP and RARP, most of which are broadcast: told apart from other broadcasts.
    if matches!(ethertype, 0x0806 | 0x8035) {
        return Err(Reason::Arp);
    }
    if ethernet.dst.is_group() {
        return Err(Reason::Group);
    }
    match ethertype {
        // 802.2, and so spanning tree.
        0..=0x05ff => Err(Reason::Control),
        // 802.1Q, 802.1ad and the tags before it.
        0x8100 | 0x88a8 | 0x9100 | 0x9200 | 0x9300 => Err(Reason::Tagged),
        // Pause, slow protocols (LACP), LLDP, EAPOL, MRP, CFM, MACsec: br_handle_frame takes some.
        0x8808 | 0x8809 | 0x88cc | 0x888e | 0x88e3 | 0x8902 | 0x88e5 => Err(Reason::Control),
        0x86dd => ipv6(frame),
        _ => Ok(()),
    }
}

/// IPv6: neighbour discovery (ICMPv6 types 133 to 137, RFC 4861) is the bridge's; headers that
/// could hide it are too.
#[inline(always)]
fn ipv6(frame: &Frame) -> Result<(), Reason> {
    const NEXT_HEADER: usize = ETH_LEN as usize + 6;
    const PAYLOAD: usize = ETH_LEN as usize + 40;
    match frame.read::<u8>(NEXT_HEADER)? {
        58 => match frame.read::<u8>(PAYLOAD)? {
            133..=137 => Err(Reason::Nd),
            _ => Ok(()),
        },
        // Hop-by-hop, routing, authentication, destination options.
        0 | 43 | 51 | 60 => Err(Reason::Options),
        _ => Ok(()),
    }
}

/// The sender, if it is a station on this very port.
#[inline(always)]
fn source(frame: &Frame, ethernet: &Ethernet, config: &Config) -> Result<NonNull<Source>, Reason> {
    // br_handle_frame drops what a group address sends, whatever the maps say.
    if ethernet.src.is_group() {
        return Err(Reason::UnknownSource);
    }
    let entry = stations::source(frame.ifindex(), ethernet.src).ok_or(Reason::UnknownSource)?;
    // SAFETY: entries are only freed after a grace period (see agent/sync.rs).
    if unsafe { (*entry.as_ptr()).generation } != config.generation {
        return Err(Reason::Stale);
    }
    Ok(entry)
}

/// The receiver, if it is a station of the sender's segment.
#[inline(always)]
fn station(ethernet: &Ethernet, bridge: u32, config: &Config) -> Result<Station, Reason> {
    let entry = stations::station(bridge, ethernet.dst).ok_or(Reason::UnknownDestination)?;
    // SAFETY: entries are only freed after a grace period (see agent/sync.rs).
    let station = unsafe { *entry.as_ptr() };
    if station.generation != config.generation {
        return Err(Reason::Stale);
    }
    Ok(station)
}

/// Notes which bridges a frame of the sender's would have crossed. Most frames of an epoch find that
/// noted already, and dirty no cache line.
#[inline(always)]
fn note(entry: NonNull<Source>, bridges: u64, epoch: u32) {
    // SAFETY: entries are only freed after a grace period (see agent/sync.rs). Two CPUs may race: a
    // bit that is lost comes with the next frame.
    let seen = unsafe { &mut (*entry.as_ptr()).seen[(epoch & 1) as usize] };
    if seen.epoch != epoch {
        (seen.epoch, seen.bridges) = (epoch, bridges);
    } else if bridges & !seen.bridges != 0 {
        seen.bridges |= bridges;
    }
}

/// Whether the frame, or each segment of a GSO frame, fits into the least MTU on the way.
#[inline(always)]
fn fits(frame: &Frame, ethernet: &Ethernet, station: &Station) -> Result<(), Reason> {
    let size = match frame.gso_size() {
        0 => frame.len().saturating_sub(ETH_LEN),
        payload => match headers(frame, ethernet.ethertype) {
            Ok(headers) => headers.saturating_add(payload),
            // A tunnel, say. Its small frames are fast: so are its large ones, or they would overtake.
            Err(Reason::Gso) if station.flags & flags::ROOMY != 0 => payload,
            Err(reason) => return Err(reason),
        },
    };
    if size <= station.mtu { Ok(()) } else { Err(Reason::TooBig) }
}

/// Bytes of layer 3 and 4 headers that each segment of a GSO frame repeats.
#[inline(always)]
fn headers(frame: &Frame, ethertype: u16) -> Result<u32, Reason> {
    const IP: usize = ETH_LEN as usize;
    let (ip, protocol) = match ethertype {
        0x0800 => (u32::from(frame.read::<u8>(IP)? & 15) * 4, frame.read::<u8>(IP + 9)?),
        0x86dd => (40, frame.read::<u8>(IP + 6)?),
        _ => return Err(Reason::Gso),
    };
    let transport = match protocol {
        // The high half of byte 12 is TCP's header length in words.
        6 => u32::from(frame.read::<u8>(IP + ip as usize + 12)? >> 4) * 4,
        17 => 8,
        _ => return Err(Reason::Gso),
    };
    // Shorter than there are: this is not what it says. (Asked here, behind the reads: asked before,
    // LLVM writes the bounds check of the second read in a way that the verifier does not follow.)
    if ip < 20 || (protocol == 6 && transport < 20) {
        return Err(Reason::Gso);
    }
    Ok(ip + transport)
}
