//! Keeping a bridge namespace's FDB entries young: which, and doing it.

use std::{collections::BTreeMap, time::Instant};

use vethpath_common::{MOST_BRIDGES, SourceKey};

use super::Domain;
use crate::{
    agent::{
        layout::LabBridge,
        refresh::{moved_meanwhile, revived_meanwhile},
        sync::Sync,
    },
    kernel::{FdbEntry, Result},
    state::events::Kind,
    topology::Mac,
};

impl Domain {
    /// The bridge's entries that are to be kept young for stations that the fast path saw.
    #[must_use]
    pub fn due(&mut self, sync: &Sync) -> Vec<FdbEntry> {
        let now = Instant::now();
        let bridge =
            |bridge: &LabBridge| Some(((bridge.segment, bridge.bit), self.facts.link(&bridge.name)?.ifindex));
        let by_bit: BTreeMap<_, _> = self.looker.layout.bridges.iter().filter_map(bridge).collect();
        let segments: BTreeMap<_, _> =
            by_bit.iter().map(|((segment, _), bridge)| (*bridge, *segment)).collect();
        for entry in self.facts.fdb.values().filter(|entry| entry.trusted && entry.vlan == 0) {
            let key = SourceKey::new(entry.port, entry.mac.into(), self.looker.layout.domain);
            let Some(segment) = segments.get(&entry.bridge) else { continue };
            if !sync.current().sources.contains_key(&key) {
                continue;
            }
            let seen = sync.seen(&key);
            for bit in (0..MOST_BRIDGES).filter(|bit| seen & (1 << bit) != 0) {
                let bridge = by_bit.get(&(*segment, bit));
                let there = bridge.and_then(|bridge| self.facts.fdb.get(&(*bridge, entry.mac, 0)));
                if let Some(there) = there.filter(|there| there.ages) {
                    self.refresher.saw((there.bridge, there.mac));
                }
            }
        }
        self.refresher.due(&self.facts, now)
    }

    /// Keeps entries young. Returns whether anything has happened meanwhile that the maps should follow.
    ///
    /// # Errors
    /// A watch fails. A refresh that the kernel refuses is left to age: the port is gone.
    pub async fn refresh(&mut self, due: &[FdbEntry]) -> Result<bool> {
        let mut happened = false;
        for entry in due {
            happened |= self.refresh_one(*entry).await?;
        }
        Ok(happened)
    }

    async fn refresh_one(&mut self, entry: FdbEntry) -> Result<bool> {
        // A station that has moved must not be pulled back: take in what is already known.
        let mut events = self.here.drain()?;
        self.note(&events);
        let Ok(mac) = Mac::unicast(entry.mac) else { return Ok(!events.is_empty()) };
        if self.facts.fdb.get(&(entry.bridge, entry.mac, entry.vlan)) == Some(&entry) {
            let _ = self.looker.rtnl.learn(entry.port, mac).await;
            let meanwhile = self.here.drain()?;
            self.note(&meanwhile);
            if let Some(moved) = moved_meanwhile(&meanwhile, entry) {
                let (from, to) = (self.behind(entry.port), self.behind(moved.port));
                self.news.push(Kind::StationMoved { mac: mac.to_string(), from, to });
                let _ = self.looker.rtnl.learn(moved.port, mac).await;
            } else if revived_meanwhile(&meanwhile, entry) {
                let _ = self.looker.rtnl.forget(entry.port, mac).await;
            }
            events.extend(meanwhile);
        }
        Ok(!events.is_empty())
    }
}
