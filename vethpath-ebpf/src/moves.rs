//! Stations that move: the bridge learns from the first frame on another port, and so do the programs.

use core::ptr::NonNull;

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use vethpath_common::{AWAY_NS, MacWords, Source, Station, UNCONFIRMED};

use crate::{
    maps::CONFIG,
    packet::{Context, Frame},
    stations::{self, field},
};

/// Checks whether a frame that is passed to the bridge is from a station that is known on another port. The bridge
/// learns from it before the agent gets the event: frames to and from the old port go to the bridge until the agent has
/// written the new one, or for [`AWAY_NS`].
/// Minimum kernel: Linux 5.11 (`bpf_ktime_get_coarse_ns`).
#[inline(always)]
pub fn mark_moved<C: Context>(frame: &Frame<C>, bridge: u32) {
    let Ok(ethernet) = frame.ethernet() else { return };
    let Some(mut entry) = stations::any_station(bridge, ethernet.src) else { return };
    // SAFETY: entries are only freed after a grace period (see agent/map_sync.rs).
    let station = unsafe { entry.as_mut() };
    if station.exit == frame.context.ifindex() {
        return;
    }
    // SAFETY: a helper without arguments.
    let until = unsafe { bpf_ktime_get_coarse_ns() } + AWAY_NS;
    station.away_until_ns = until;
    if let Some(entry) = stations::any_source(station.ifindex, ethernet.src) {
        // SAFETY: as above.
        unsafe { (*entry.as_ptr()).away_until_ns = until };
    }
}

/// Whether one of the two was recently seen on a port other than that of its entry, or is not confirmed. Both are rare.
/// Minimum kernel: Linux 5.11 (`bpf_ktime_get_coarse_ns`).
#[inline(always)]
pub fn is_one_away(source: NonNull<Source>, station: NonNull<Station>, mac: MacWords) -> bool {
    let marks = field!(source, away_until_ns) | field!(station, away_until_ns);
    (marks | u64::from(field!(station, path))) != 0 && is_still_away(source, station, mac)
}

/// The same with the time. The receiver may have been seen by a bridge on the path, while the sender's bridge still has
/// it behind the same trunk. That is marked in its source entry at its former port.
#[inline(never)]
fn is_still_away(source: NonNull<Source>, station: NonNull<Station>, mac: MacWords) -> bool {
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let confirmed = CONFIG.get_ptr(0).map_or(0, |config| {
        // SAFETY: array elements live as long as the map.
        unsafe { (&raw const (*config).confirmed).read_volatile() }
    });
    let is_away = |until| until > if until < UNCONFIRMED { now } else { UNCONFIRMED | u64::from(confirmed) };
    if is_away(field!(source, away_until_ns)) || is_away(field!(station, away_until_ns)) {
        return true;
    }
    field!(station, path) != 0
        && stations::any_source(field!(station, ifindex), mac)
            .is_some_and(|home| is_away(field!(home, away_until_ns)))
}
