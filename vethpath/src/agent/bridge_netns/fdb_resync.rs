//! Reads FDB entries: those that are known, after events were lost, and those of each port.
//!
//! A host may fill the FDB with any number of addresses. So what is known is asked for entry by entry, which makes wrong
//! entries impossible however long the FDB is. Entries that are missing here only make a station slow. They are found by
//! one dump of all ports, or by a dump of each port, which ends as soon as the port has too many.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::BridgeNetns;
use crate::{
    agent::{
        fdb::{MOST_LEARNED, is_learned},
        netns_state::NetnsState,
    },
    kernel::{FdbEntry, Result, watch::Event},
    topology::IfName,
};

/// How long ports are dumped at once. The main loop dumps the others, one at a time.
const AT_ONCE: Duration = Duration::from_millis(50);

/// Fewer ports are dumped one by one.
const MANY: usize = 16;

/// A dump of all ports ends with so many entries. Then a port floods the FDB, or many of them are on bridges of others.
const MOST_DUMPED: usize = 32_768;

/// More entries are not asked for one by one. Those of other addresses than of inner ends are dropped then: they are
/// slow until the dumps find them.
const MOST_LOOKED_UP: usize = 8192;

/// Entries that the kernel surely sends in one part. If an entry is removed between two parts, it may skip another.
const ONE_PART: usize = 200;

impl BridgeNetns {
    /// Reads the known entries again, and those of inner ends at home. Then every port is to be dumped.
    pub(super) fn verify_fdb(&mut self) -> Result<()> {
        self.state.dirty.fdb_overrun = false;
        if self.state.fdb.iter().count() > MOST_LOOKED_UP {
            self.state.fdb.drop_foreign();
            self.state.dirty.ports = true;
        }
        let known = self.state.fdb.iter().map(|entry| (entry.bridge, entry.mac, entry.vlan));
        let mut known: Vec<_> = known.chain(self.state.homes()).collect();
        known.sort_unstable();
        known.dedup();
        self.look_up(&known)?;
        let NetnsState { links, dirty, .. } = &mut self.state;
        let ports = self.reader.layout.all_ports().filter_map(|(port, _)| links.named(port.as_str()));
        dirty.undumped.extend(ports.map(|port| port.ifindex));
        Ok(())
    }

    /// Takes over the addresses of inner ends, if they have changed, and looks up the entries of the new ones.
    pub(super) fn follow_own_macs(&mut self) -> Result<()> {
        let own = self.state.own_macs();
        if own == *self.state.fdb.own() {
            return Ok(());
        }
        let former = self.state.fdb.set_own(own);
        // Their entries count as learned now.
        let others = former.difference(self.state.fdb.own()).flat_map(|mac| self.state.fdb.of(*mac));
        self.state.dirty.undumped.extend(others.map(|entry| entry.port));
        let new: Vec<_> = self.state.homes().filter(|(_, mac, _)| !former.contains(mac)).collect();
        self.look_up(&new)
    }

    /// Reads entries, by bridge, address and VLAN. Events about them that are received later are as old, or newer.
    fn look_up(&mut self, keys: &[(u32, [u8; 6], u16)]) -> Result<()> {
        for (&(bridge, mac, vlan), found) in keys.iter().zip(self.reader.socket.fdb_entries(keys)?) {
            let gone = FdbEntry { bridge, mac, vlan, ..FdbEntry::default() };
            let is_changed = match found {
                Some(entry) => self.state.fdb.insert(entry),
                None => self.state.fdb.remove(&gone),
            };
            if is_changed {
                self.state.dirty.stations.insert(mac);
            }
        }
        self.follow_fdb_state();
        Ok(())
    }

    /// Dumps ports that are to be dumped, as many as that is quick. None while a port floods the FDB: the kernel looks
    /// at all entries for each port.
    pub(super) fn dump_ports_at_once(&mut self) -> Result<()> {
        let began = Instant::now();
        if self.is_flooded() {
            return Ok(());
        }
        if self.state.dirty.undumped.len() > MANY {
            let ports = std::mem::take(&mut self.state.dirty.undumped);
            self.dump(ports, None)?;
        }
        while !self.state.dirty.undumped.is_empty() && began.elapsed() < AT_ONCE {
            self.dump_port()?;
        }
        Ok(())
    }

    /// Dumps one of the ports that are to be dumped: the next one after the last, by ifindex.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn dump_port(&mut self) -> Result<()> {
        let undumped = &mut self.state.dirty.undumped;
        let next = undumped.range(self.last_dumped.saturating_add(1)..).next().or(undumped.first()).copied();
        let Some(port) = next else { return Ok(()) };
        undumped.remove(&port);
        self.last_dumped = port;
        self.dump(BTreeSet::from([port]), Some(port))
    }

    /// Dumps ports: `only` one, or all of the namespace in one dump. If that would take long, they stay to be dumped one
    /// by one.
    fn dump(&mut self, ports: BTreeSet<u32>, only: Option<u32>) -> Result<()> {
        self.drain_events()?;
        let (mut entries, mut learned, mut all) = (Vec::new(), 0, 0);
        let own = self.state.fdb.own();
        let is_whole = self.reader.socket.fdb(only, |entry| {
            all += 1;
            if ports.contains(&entry.port) {
                learned += usize::from(is_learned(own, &entry));
                entries.push(entry);
            }
            if only.is_some() { learned <= MOST_LEARNED } else { all <= MOST_DUMPED }
        })?;
        if !is_whole && only.is_none() {
            self.state.dirty.undumped.extend(ports);
            return Ok(());
        }
        self.state.dirty.stations.extend(self.state.fdb.set_ports(&ports, &entries, is_whole));
        self.follow_fdb_state();
        // Some are older than the dump. They are applied in order, so the last one about an entry decides.
        let events = self.events_of_fdb.drain()?;
        let has_removed = events.iter().any(|event| matches!(event, Event::Forgot(_)));
        if all > ONE_PART && has_removed {
            self.skipped.extend(ports);
        }
        self.apply_fdb_events(&events);
        Ok(())
    }

    /// Whether dumps of ports are due that are made soon.
    #[must_use]
    pub fn is_being_dumped(&self) -> bool {
        !self.state.dirty.undumped.is_empty() && !self.is_flooded()
    }

    /// Whether a port of the lab floods the FDB. Others are no reason to treat the lab's differently.
    #[must_use]
    pub fn is_flooded(&self) -> bool {
        let flooding = self.state.fdb.flooding();
        let is_flooding =
            |port: &IfName| self.state.link(port).is_some_and(|port| flooding.contains(&port.ifindex));
        !flooding.is_empty() && self.reader.layout.all_ports().any(|(port, _)| is_flooding(port))
    }

    /// Called once a second. The numbers of addresses behind flooding ports drift while events are lost. Where few are
    /// left of them, the port does not flood any more.
    pub(super) fn poll_fdb(&mut self) {
        self.state.fdb.begin_second();
        self.state.dirty.undumped.append(&mut self.skipped);
        self.state.dirty.undumped.extend(self.state.fdb.flooding());
    }
}
