//! Stations that move: the bridge learns from the first frame on another port, and so do we.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use vethpath_common::{AWAY_NS, MacWords, Source, SourceKey, Station, StationKey};

use crate::{
    maps::{SOURCES, STATIONS, domain},
    packet::{Context, Frame},
};

/// Looks whether a frame that the bridge gets comes from a station that is known on another port. The
/// bridge learns from it before the agent hears of that: frames to and from the old port are its own
/// until the agent has written the new one.
#[inline(always)]
pub fn note<C: Context>(frame: &Frame<C>, bridge: u32) {
    let Ok(ethernet) = frame.ethernet() else { return };
    let Some(entry) = STATIONS.get_ptr_mut(StationKey::new(bridge, ethernet.src)) else { return };
    // SAFETY: entries are only freed after a grace period (see agent/sync.rs).
    let station = unsafe { &mut *entry };
    if station.exit == frame.context.ifindex() {
        return;
    }
    // SAFETY: a helper without arguments.
    let until = unsafe { bpf_ktime_get_coarse_ns() } + AWAY_NS;
    station.away_until_ns = until;
    if let Some(entry) = home(station, ethernet.src) {
        // SAFETY: as above.
        unsafe { (*entry).away_until_ns = until };
    }
}

/// Whether a station was just seen on another port than that to which its entry leads.
///
/// It may have been seen by a bridge on the way, for which the sender's bridge has it behind the same
/// trunk as before. Each of them has noted that where the station was at home.
#[inline(always)]
pub fn is_away(station: &Station, mac: MacWords, now: u64) -> bool {
    let mut until = station.away_until_ns;
    if station.path != 0
        && let Some(entry) = home(station, mac)
    {
        // SAFETY: entries are only freed after a grace period (see agent/sync.rs).
        until = until.max(unsafe { (*entry).away_until_ns });
    }
    now < until
}

/// The entry of a station as a sender, on the port that it is known behind.
#[inline(always)]
fn home(station: &Station, mac: MacWords) -> Option<*mut Source> {
    #[expect(clippy::cast_possible_truncation, reason = "a lab has far fewer than 65,536 bridge namespaces")]
    SOURCES.get_ptr_mut(SourceKey::new(station.ifindex, mac, domain() as u16))
}
