//! Stations that move: the bridge learns from the first frame on another port, and so do we.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use vethpath_common::{AWAY_NS, MacWords, Station};

use crate::{packet::Frame, stations};

/// Looks whether a frame that the bridge gets comes from a station that is known on another port. The
/// bridge learns from it before the agent hears of that: frames to and from the old port are its own
/// until the agent has written the new one.
#[inline(always)]
pub fn note(frame: &Frame, bridge: u32) {
    let Ok(ethernet) = frame.ethernet() else { return };
    let Some(mut entry) = stations::station(bridge, ethernet.src) else { return };
    // SAFETY: entries are only freed after a grace period (see agent/sync.rs).
    let station = unsafe { entry.as_mut() };
    if station.exit == frame.ifindex() {
        return;
    }
    // SAFETY: a helper without arguments.
    let until = unsafe { bpf_ktime_get_coarse_ns() } + AWAY_NS;
    station.away_until_ns = until;
    if let Some(entry) = stations::source(station.ifindex, ethernet.src) {
        // SAFETY: as above.
        unsafe { (*entry.as_ptr()).away_until_ns = until };
    }
}

/// Whether a station was just seen on another port than that to which its entry leads.
///
/// It may have been seen by a bridge on the way, for which the sender's bridge has it behind the same
/// trunk as before. Each of them has noted that where the station was at home.
#[inline(always)]
pub fn is_away(station: &Station, mac: MacWords, now: u64) -> bool {
    now < station.away_until_ns || (station.path != 0 && now < away_from_home(station.ifindex, mac))
}

/// Until when a station is away from the port that it is known behind.
#[inline(never)]
fn away_from_home(port: u32, mac: MacWords) -> u64 {
    // SAFETY: entries are only freed after a grace period (see agent/sync.rs).
    stations::source(port, mac).map_or(0, |entry| unsafe { (*entry.as_ptr()).away_until_ns })
}
