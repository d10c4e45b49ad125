//! Refreshes FDB entries of stations whose frames the bridge no longer sees.
//!
//! A station whose frames take the fast path is refreshed through netlink every few seconds, on each bridge that they
//! would have crossed. A silent station is not refreshed, so it ages out as on a plain bridge.
//!
//! Four times per ageing time would do if that time were constant. But a user may shorten it, and an STP topology
//! change makes it `forward_delay` for a while (`hold_time` in net/bridge/br_fdb.c): entries older than the new time
//! expire at once. On a plain bridge, the entry of a station that sends is never that old.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use log::warn;
use netlink_packet_route::link::InfoBridge;
use vethpath_common::{MOST_BRIDGES, SourceKey};

use super::BridgeNetns;
use crate::{
    agent::{layout::LabBridge, map_sync::MapSync, netns_state::NetnsState},
    datapath::Counters,
    kernel::{FdbEntry, Result, watch::Event},
    state::{events::Kind, test_hooks},
    topology::Mac,
};

/// `IFLA_BR_AGEING_TIME` counts in hundredths of a second (USER_HZ).
const TICKS_PER_SECOND: u64 = 100;

/// Longest refresh interval of a station that sends. With a second until the next tick, and another until the tick
/// has handled every namespace, it is below the shortest ageing time that the fast path accepts.
const LONGEST: Duration = Duration::from_secs(3);

/// When entries were refreshed, by the ifindex of their bridge and their address.
#[derive(Default)]
pub struct Refresher {
    entries: HashMap<(u32, [u8; 6]), State>,
}

#[derive(Default)]
struct State {
    /// By the agent, or by a frame that the bridge has learned from.
    refreshed: Option<Instant>,
    /// Whether a frame was seen since.
    pending: bool,
}

impl Refresher {
    /// Records that the bridge has learned an entry from a frame, which refreshes it. So a station that keeps moving
    /// is never refreshed in between. Otherwise a refresh that waits for the RTNL lock could move it back to its
    /// former port.
    pub fn learned(&mut self, entry: (u32, [u8; 6]), now: Instant) {
        self.entries.insert(entry, State { refreshed: Some(now), pending: false });
    }

    /// Records that a frame of the station would have crossed the bridge.
    pub fn mark_seen(&mut self, entry: (u32, [u8; 6])) {
        self.entries.entry(entry).or_default().pending = true;
    }

    /// Returns the entries to refresh now, and counts them as refreshed. An entry with unknown learning time is
    /// refreshed at once. Entries that the bridges have forgotten are dropped.
    pub fn due(&mut self, facts: &NetnsState, now: Instant) -> Vec<FdbEntry> {
        let mut due = Vec::new();
        self.entries.retain(|(bridge, mac), state| {
            let Some(entry) = facts.fdb.get(*bridge, *mac, 0) else { return false };
            let is_old = |at: Instant| now.duration_since(at) >= interval(facts, *bridge);
            if state.pending && state.refreshed.is_none_or(is_old) {
                *state = State { refreshed: Some(now), pending: false };
                due.push(*entry);
            }
            true
        });
        due
    }
}

/// Where a station has moved while it was refreshed at its old port.
///
/// `meanwhile` are the bridge's events from just before the refresh was sent until it was acknowledged. If they
/// report "moved to B" and then "moved to A", where A is the port of the refresh, the refresh caused the second move:
/// the station is at B.
#[must_use]
pub fn moved_meanwhile(meanwhile: &[Event], refreshed: FdbEntry) -> Option<FdbEntry> {
    let mut moves = meanwhile.iter().filter_map(|event| match event {
        Event::Learned(entry) => Some(*entry),
        _ => None,
    });
    let is_it = |entry: &FdbEntry| entry.is_same(&refreshed);
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

/// Whether the bridge forgot an entry just before it was refreshed, so that the refresh may have created it again:
/// "forgot", and then "learned" at the port of the refresh. A slow frame of the station has the same events.
#[must_use]
pub fn revived_meanwhile(meanwhile: &[Event], refreshed: FdbEntry) -> bool {
    let is_it = |entry: &FdbEntry| entry.is_same(&refreshed);
    let mut forgotten = false;
    let mut revived = false;
    for event in meanwhile {
        match event {
            Event::Forgot(entry) if is_it(entry) => (forgotten, revived) = (true, false),
            // An entry that a user adds does not age.
            Event::Learned(entry) if is_it(entry) => {
                revived = forgotten && entry.port == refreshed.port && entry.ages;
            }
            _ => {}
        }
    }
    revived
}

/// How often entries of a bridge are refreshed.
fn interval(facts: &NetnsState, bridge: u32) -> Duration {
    let attributes = facts.links.get(&bridge).and_then(|link| link.bridge.as_ref());
    let ticks = attributes.into_iter().flatten().filter_map(|attribute| match attribute {
        InfoBridge::AgeingTime(ticks) | InfoBridge::ForwardDelay(ticks) => Some(u64::from(*ticks)),
        _ => None,
    });
    let shortest = ticks.map(|ticks| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND) / 4).min();
    shortest.unwrap_or(LONGEST).min(LONGEST)
}

impl BridgeNetns {
    /// The number of the pair behind which a station is, on this bridge or on another of its segment.
    fn pair_of(&self, entry: &FdbEntry) -> Option<u32> {
        let of_port = |port: u32| {
            let link = self.state.links.get(&port)?;
            self.pairs.get(&link.name).map(|(number, _)| *number)
        };
        let bridges = || {
            let bridges = self.reader.layout.bridges.iter();
            bridges.filter_map(|bridge| Some((bridge.segment, self.state.link(&bridge.name)?.ifindex)))
        };
        let segment = bridges().find(|(_, bridge)| *bridge == entry.bridge)?.0;
        let others = bridges().filter(|(of, _)| *of == segment);
        let mut ports = others.filter_map(|(_, bridge)| Some(self.state.fdb.get(bridge, entry.mac, 0)?.port));
        of_port(entry.port).or_else(|| ports.find_map(of_port))
    }

    /// The entries to refresh for stations that the fast path saw. `has_senders`: whether it saw any since the last call.
    #[must_use]
    pub fn due(&mut self, sync: &MapSync, has_senders: bool) -> Vec<FdbEntry> {
        if has_senders {
            self.mark_seen(sync);
        }
        self.refresher.due(&self.state, Instant::now())
    }

    /// Records for which entries the programs saw a frame of the station.
    fn mark_seen(&mut self, sync: &MapSync) {
        let bridge =
            |bridge: &LabBridge| Some(((bridge.segment, bridge.bit), self.state.link(&bridge.name)?.ifindex));
        let by_bit: BTreeMap<_, _> = self.reader.layout.bridges.iter().filter_map(bridge).collect();
        let segments: BTreeMap<_, _> =
            by_bit.iter().map(|((segment, _), bridge)| (*bridge, *segment)).collect();
        for entry in self.state.fdb.iter().filter(|entry| entry.trusted && entry.vlan == 0) {
            let key = SourceKey::new(entry.port, entry.mac.into(), self.reader.layout.domain);
            let Some(segment) = segments.get(&entry.bridge) else { continue };
            if !sync.has_source((self.reader.layout.domain, entry.mac), &key) {
                continue;
            }
            let seen = sync.seen(&key);
            for bit in (0..MOST_BRIDGES).filter(|bit| seen & (1 << bit) != 0) {
                let bridge = by_bit.get(&(*segment, bit));
                let there = bridge.and_then(|bridge| self.state.fdb.get(*bridge, entry.mac, 0));
                if let Some(there) = there.filter(|there| there.ages) {
                    self.refresher.mark_seen((there.bridge, there.mac));
                }
            }
        }
    }

    /// Refreshes entries. `counters` show whether a station has sent slow frames, from which the bridge learns.
    ///
    /// The kernel refreshes an entry in the port's VLANs too, or adds it there (see [`RouteSocket::learn`]). Those are
    /// deleted.
    ///
    /// # Errors
    /// A watch fails. An entry whose refresh the kernel refuses is left to age: its port is gone.
    ///
    /// [`RouteSocket::learn`]: crate::kernel::RouteSocket::learn
    pub async fn refresh(&mut self, due: &[FdbEntry], counters: &Counters) -> Result<()> {
        let is_due: HashSet<_> = due.iter().map(|entry| (entry.port, entry.mac)).collect();
        // Left by an agent that was killed, or by a former version.
        let left = self.state.fdb.iter().filter(|entry| is_due.contains(&(entry.port, entry.mac)));
        let mut in_vlans: Vec<_> = left.filter(|entry| is_of_refresh(&self.state, entry)).copied().collect();
        for entry in due {
            self.refresh_one(*entry, counters, &mut in_vlans).await?;
        }
        // The bridge may filter by now.
        in_vlans.retain(|entry| is_of_refresh(&self.state, entry));
        if in_vlans.is_empty() {
            return Ok(());
        }
        // An entry that is gone is no error. What could not be deleted is deleted at the next refresh.
        if let Err(error) = self.reader.socket.forget(&in_vlans) {
            warn!("{error}");
        }
        for entry in &in_vlans {
            let _ = self.state.fdb.remove(entry);
        }
        let mut events = self.events_of_fdb.drain()?;
        events.retain(|event| match event {
            Event::Learned(entry) | Event::Forgot(entry) => {
                !in_vlans.iter().any(|in_vlan| in_vlan.is_same(entry))
            }
            _ => true,
        });
        self.apply_fdb_events(&events);
        Ok(())
    }

    async fn refresh_one(
        &mut self,
        entry: FdbEntry,
        counters: &Counters,
        in_vlans: &mut Vec<FdbEntry>,
    ) -> Result<()> {
        let pair = self.pair_of(&entry);
        // Unknown is no reason to delete an entry.
        let slow_frames = || pair.and_then(|pair| counters.slow_frames(pair).ok());
        let before = slow_frames();
        // Pending events come first: a station that has moved must not be moved back.
        self.drain_events()?;
        // What is known may be wrong then.
        if self.state.dirty.fdb_overrun {
            return Ok(());
        }
        let Ok(mac) = Mac::unicast(entry.mac) else { return Ok(()) };
        let known = |state: &NetnsState| state.fdb.get(entry.bridge, entry.mac, entry.vlan).copied();
        if known(&self.state) != Some(entry) {
            return Ok(());
        }
        test_hooks::wait_point("refresh").await;
        let meanwhile = self.learn(entry.port, mac, in_vlans)?;
        if let Some(moved) = moved_meanwhile(&meanwhile, entry) {
            let (from, to) = (self.port_label(entry.port), self.port_label(moved.port));
            self.events.push(Kind::StationMoved { mac: mac.to_string(), from, to });
            let _ = self.learn(moved.port, mac, in_vlans)?;
        } else if revived_meanwhile(&meanwhile, entry) && before.is_some() && slow_frames() == before {
            let _ = self.reader.socket.forget(&[entry])?;
            self.drain_events()?;
            if slow_frames() != before && known(&self.state).is_none() {
                let _ = self.learn(entry.port, mac, in_vlans)?;
            }
        }
        Ok(())
    }

    /// Refreshes the entry of a MAC on a port. Returns the events meanwhile, which are applied. Entries that the request
    /// adds in VLANs are appended to `in_vlans` instead.
    fn learn(&mut self, port: u32, mac: Mac, in_vlans: &mut Vec<FdbEntry>) -> Result<Vec<Event>> {
        let _ = self.reader.socket.learn(&[(port, mac)])?;
        let is_added = |entry: &FdbEntry| {
            (entry.port, entry.mac) == (port, mac.bytes()) && is_of_refresh(&self.state, entry)
        };
        let mut events = Vec::new();
        for event in self.events_of_fdb.drain()? {
            match event {
                Event::Learned(entry) if is_added(&entry) => in_vlans.push(entry),
                other => events.push(other),
            }
        }
        self.apply_fdb_events(&events);
        Ok(events)
    }
}

/// Whether an entry is one that a refresh adds in a VLAN. A bridge that does not filter VLANs learns none there. A user
/// may add one, which is static unless it is asked to age (`bridge fdb add .. dynamic vlan 1`): one that ages cannot be
/// told apart.
fn is_of_refresh(facts: &NetnsState, entry: &FdbEntry) -> bool {
    let bridge = facts.links.get(&entry.bridge).and_then(|link| link.bridge.as_ref());
    let filters = |attribute: &InfoBridge| matches!(attribute, InfoBridge::VlanFiltering(true));
    entry.vlan != 0 && entry.ages && bridge.is_some_and(|bridge| !bridge.iter().any(filters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::LinkFacts;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn entry(port: u32) -> FdbEntry {
        FdbEntry { bridge: 3, port, mac: MAC, vlan: 0, ages: true, trusted: true }
    }

    #[test]
    fn only_stations_that_were_seen_are_refreshed() {
        let (often, ageing) = (LONGEST, Duration::from_secs(300));
        let facts = |entries: &[FdbEntry]| NetnsState {
            fdb: entries.iter().copied().collect(),
            ..NetnsState::default()
        };
        let (known, unknown) = (facts(&[entry(5)]), facts(&[]));
        let mut refresher = Refresher::default();
        let start = Instant::now();
        assert_eq!(refresher.due(&known, start), [], "never seen");
        refresher.mark_seen((3, MAC));
        assert_eq!(refresher.due(&known, start), [entry(5)]);
        assert_eq!(refresher.due(&known, start + ageing), [], "silent since");
        refresher.mark_seen((3, MAC));
        assert_eq!(refresher.due(&known, start + often / 2), [], "too soon");
        assert_eq!(refresher.due(&known, start + often), [entry(5)], "seen since the last time");
        refresher.mark_seen((3, MAC));
        refresher.learned((3, MAC), start + ageing);
        refresher.mark_seen((3, MAC));
        assert_eq!(refresher.due(&known, start + ageing + often / 2), [], "just learned");
        assert_eq!(refresher.due(&known, start + ageing + often), [entry(5)], "learned, and seen since");
        refresher.mark_seen((3, MAC));
        assert_eq!(refresher.due(&unknown, start + ageing), [], "the bridge has forgotten it");
        assert_eq!(refresher.due(&known, start + ageing), [], "and so have we");
    }

    #[test]
    fn entries_are_younger_than_any_time_that_a_bridge_may_soon_forget_after() {
        let every = |attributes: &[InfoBridge]| {
            let link = LinkFacts { bridge: Some(attributes.to_vec()), ..LinkFacts::default() };
            interval(&NetnsState { links: [(3, link)].into(), ..NetnsState::default() }, 3)
        };
        let usual = [InfoBridge::AgeingTime(30_000), InfoBridge::ForwardDelay(1500)];
        assert_eq!(every(&usual), LONGEST);
        assert_eq!(every(&[]), LONGEST);
        let (short, hasty) = (InfoBridge::AgeingTime(600), InfoBridge::ForwardDelay(200));
        assert_eq!(every(&[short]), Duration::from_millis(1500));
        assert_eq!(every(&[InfoBridge::AgeingTime(30_000), hasty]), Duration::from_millis(500));
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

    #[test]
    fn what_a_refresh_has_made_again_is_found() {
        let (forgot, learned) = (Event::Forgot(entry(5)), Event::Learned(entry(5)));
        let other = Event::Learned(FdbEntry { mac: [2, 0, 0, 0, 0, 2], ..entry(5) });
        let revived = |events: &[Event]| revived_meanwhile(events, entry(5));
        assert!(!revived(&[]));
        assert!(!revived(std::slice::from_ref(&learned)), "nobody has forgotten it");
        assert!(!revived(&[learned.clone(), forgot.clone()]), "it is gone");
        assert!(!revived(&[forgot.clone(), other]), "of another station");
        assert!(revived(&[forgot.clone(), learned]));
        let by_hand = Event::Learned(FdbEntry { ages: false, ..entry(5) });
        assert!(!revived(&[forgot.clone(), by_hand]), "somebody wants it");
        assert!(!revived(&[forgot, Event::Learned(entry(9))]), "it has moved");
    }

    #[test]
    fn ageing_entries_in_vlans_are_of_a_refresh_unless_the_bridge_filters() {
        let facts = |filters| {
            let bridge = Some(vec![InfoBridge::AgeingTime(30_000), InfoBridge::VlanFiltering(filters)]);
            let link = LinkFacts { bridge, ..LinkFacts::default() };
            NetnsState { links: [(3, link)].into(), ..NetnsState::default() }
        };
        let in_vlan = FdbEntry { vlan: 1, ..entry(5) };
        assert!(is_of_refresh(&facts(false), &in_vlan));
        assert!(!is_of_refresh(&facts(false), &entry(5)), "the entry that is refreshed");
        assert!(!is_of_refresh(&facts(false), &FdbEntry { ages: false, ..in_vlan }), "a user's");
        assert!(!is_of_refresh(&facts(true), &in_vlan), "the bridge has learned it");
        assert!(!is_of_refresh(&NetnsState::default(), &in_vlan), "of an unknown bridge");
    }
}
