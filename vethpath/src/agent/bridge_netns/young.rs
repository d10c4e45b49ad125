//! Keeping a bridge namespace's FDB entries young: which, and doing it.

use std::{collections::BTreeMap, time::Instant};

use vethpath_common::{MOST_BRIDGES, SourceKey};

use super::BridgeNetns;
use crate::{
    agent::{
        layout::LabBridge,
        map_sync::MapSync,
        refresh::{moved_meanwhile, revived_meanwhile},
    },
    kernel::{FdbEntry, Result},
    state::events::Kind,
    topology::Mac,
};

impl BridgeNetns {
    /// The bridge's entries that are to be kept young for stations that the fast path saw.
    #[must_use]
    pub fn due(&mut self, sync: &MapSync) -> Vec<FdbEntry> {
        let now = Instant::now();
        let bridge =
            |bridge: &LabBridge| Some(((bridge.segment, bridge.bit), self.state.link(&bridge.name)?.ifindex));
        let by_bit: BTreeMap<_, _> = self.reader.layout.bridges.iter().filter_map(bridge).collect();
        let segments: BTreeMap<_, _> =
            by_bit.iter().map(|((segment, _), bridge)| (*bridge, *segment)).collect();
        for entry in self.state.fdb.values().filter(|entry| entry.trusted && entry.vlan == 0) {
            let key = SourceKey::new(entry.port, entry.mac.into(), self.reader.layout.domain);
            let Some(segment) = segments.get(&entry.bridge) else { continue };
            if !sync.current().sources.contains_key(&key) {
                continue;
            }
            let seen = sync.seen(&key);
            for bit in (0..MOST_BRIDGES).filter(|bit| seen & (1 << bit) != 0) {
                let bridge = by_bit.get(&(*segment, bit));
                let there = bridge.and_then(|bridge| self.state.fdb.get(&(*bridge, entry.mac, 0)));
                if let Some(there) = there.filter(|there| there.ages) {
                    self.refresher.saw((there.bridge, there.mac));
                }
            }
        }
        self.refresher.due(&self.state, now)
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
        let mut events = self.events_here.drain()?;
        self.apply_events(&events);
        let Ok(mac) = Mac::unicast(entry.mac) else { return Ok(!events.is_empty()) };
        if self.state.fdb.get(&(entry.bridge, entry.mac, entry.vlan)) == Some(&entry) {
            let _ = self.reader.rtnl.learn(entry.port, mac).await;
            let meanwhile = self.events_here.drain()?;
            self.apply_events(&meanwhile);
            if let Some(moved) = moved_meanwhile(&meanwhile, entry) {
                let (from, to) = (self.port_label(entry.port), self.port_label(moved.port));
                self.events.push(Kind::StationMoved { mac: mac.to_string(), from, to });
                let _ = self.reader.rtnl.learn(moved.port, mac).await;
            } else if revived_meanwhile(&meanwhile, entry) {
                let _ = self.reader.rtnl.forget(entry.port, mac).await;
            }
            events.extend(meanwhile);
        }
        Ok(!events.is_empty())
    }
}
