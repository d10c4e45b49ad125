//! Stations that move: the bridge learns from the first frame on another port, and so do we.

use core::ptr::NonNull;

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use vethpath_common::{AWAY_NS, MacWords, Source, Station, UNCONFIRMED};

use crate::{
    maps::CONFIG,
    packet::{Context, Frame},
    stations::{self, field},
};

/// Looks whether a frame that the bridge gets comes from a station that is known on another port. The
/// bridge learns from it before the agent hears of that: frames to and from the old port are its own
/// until the agent has written the new one.
#[inline(always)]
pub fn note<C: Context>(frame: &Frame<C>, bridge: u32) {
    let Ok(ethernet) = frame.ethernet() else { return };
    let Some(mut entry) = stations::any_station(bridge, ethernet.src) else { return };
    // SAFETY: entries are only freed after a grace period (see agent/sync.rs).
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

/// Whether one of the two was just seen on another port than that to which its entry leads, or is not confirmed.
/// Most were never, and are.
#[inline(always)]
pub fn is_one_away(source: NonNull<Source>, station: NonNull<Station>, mac: MacWords) -> bool {
    let noted = field!(source, away_until_ns) | field!(station, away_until_ns);
    (noted | u64::from(field!(station, path))) != 0 && is_still_away(source, station, mac)
}

/// The same with the time. The receiver may have been seen by a bridge on the way, for which the sender's
/// bridge has it behind the same trunk as before. Each of them has noted that where the station was at home.
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
