//! Keeping the bridge's entries young for stations whose frames it no longer sees.
//!
//! A source that the fast path saw is refreshed through netlink, at most four times in an ageing
//! time; a silent one never is, so it ages out as on a plain bridge.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use netlink_packet_route::link::InfoBridge;
use vethpath_common::SourceKey;

use super::facts::Facts;
use crate::kernel::{FdbEntry, watch::Event};

/// `IFLA_BR_AGEING_TIME` counts in hundredths of a second (USER_HZ).
const TICKS_PER_SECOND: u64 = 100;

/// The kernel's default ageing time (`BR_DEFAULT_AGEING_TIME`).
const DEFAULT_AGEING: Duration = Duration::from_secs(300);

/// What was refreshed when.
#[derive(Default)]
pub struct Refresher {
    done: HashMap<SourceKey, Done>,
}

struct Done {
    at: Instant,
    seen_ns: u64,
}

impl Refresher {
    /// Whether the entry of this source is due, given when the fast path last saw it.
    #[must_use]
    pub fn is_due(&self, key: &SourceKey, seen_ns: u64, ageing: Duration, now: Instant) -> bool {
        match self.done.get(key) {
            _ if seen_ns == 0 => false,
            None => true,
            Some(done) => seen_ns != done.seen_ns && now.duration_since(done.at) >= ageing / 4,
        }
    }

    /// Notes that it was refreshed.
    pub fn note(&mut self, key: SourceKey, seen_ns: u64, now: Instant) {
        self.done.insert(key, Done { at: now, seen_ns });
    }

    /// Forgets sources that are no stations any more.
    pub fn keep(&mut self, is_station: impl Fn(&SourceKey) -> bool) {
        self.done.retain(|key, _| is_station(key));
    }
}

/// Where a station has moved in the very moment in which it was refreshed at its old port.
///
/// `meanwhile` are the bridge's events from just before the refresh was sent until it was acknowledged.
/// If they tell "moved to B" and then "moved to A", where A is the port of the refresh, the second move
/// is the refresh's own doing: the station is at B.
#[must_use]
pub fn moved_meanwhile(meanwhile: &[Event], refreshed: FdbEntry) -> Option<FdbEntry> {
    let mut moves = meanwhile.iter().filter_map(|event| match event {
        Event::Learned(entry) => Some(*entry),
        _ => None,
    });
    let is_it = |entry: &FdbEntry| {
        (entry.bridge, entry.mac, entry.vlan) == (refreshed.bridge, refreshed.mac, refreshed.vlan)
    };
    let mut away = None;
    let mut pulled_back = false;
    for entry in moves.by_ref().filter(is_it) {
        pulled_back = entry.port == refreshed.port;
        if !pulled_back {
            away = Some(entry);
        }
    }
    away.filter(|_| pulled_back)
}

/// The ageing time of the bridge that an entry is of.
#[must_use]
pub fn ageing_time(facts: &Facts, bridge: u32) -> Duration {
    let attributes = facts.links.get(&bridge).and_then(|link| link.bridge.as_ref());
    let ticks = attributes.into_iter().flatten().find_map(|attribute| match attribute {
        InfoBridge::AgeingTime(ticks) => Some(u64::from(*ticks)),
        _ => None,
    });
    ticks.map_or(DEFAULT_AGEING, |ticks| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: SourceKey = SourceKey { ifindex: 5, mac: [2, 0, 0, 0, 0, 1], domain: 0 };

    fn entry(port: u32) -> FdbEntry {
        FdbEntry { bridge: 3, port, mac: KEY.mac, vlan: 0, ages: true, trusted: true }
    }

    #[test]
    fn only_sources_that_were_seen_are_refreshed() {
        let mut refresher = Refresher::default();
        let start = Instant::now();
        let ageing = Duration::from_secs(10);
        assert!(!refresher.is_due(&KEY, 0, ageing, start), "never seen");
        assert!(refresher.is_due(&KEY, 7, ageing, start));
        refresher.note(KEY, 7, start);
        assert!(!refresher.is_due(&KEY, 7, ageing, start + ageing), "silent since");
        assert!(!refresher.is_due(&KEY, 8, ageing, start + ageing / 8), "too soon");
        assert!(refresher.is_due(&KEY, 8, ageing, start + ageing / 4));
    }

    #[test]
    fn a_move_that_our_refresh_undid_is_found() {
        let (home, away) = (Event::Learned(entry(5)), Event::Learned(entry(9)));
        let moved = |events: &[Event]| moved_meanwhile(events, entry(5)).map(|entry| entry.port);
        assert_eq!(moved(&[]), None, "nothing happened");
        assert_eq!(moved(std::slice::from_ref(&home)), None, "learned where it is");
        assert_eq!(moved(std::slice::from_ref(&away)), None, "moved after the refresh: the bridge knows");
        assert_eq!(moved(&[away.clone(), home.clone()]), Some(9));
        assert_eq!(moved(&[home, away]), None, "the last word is its own");
    }
}
