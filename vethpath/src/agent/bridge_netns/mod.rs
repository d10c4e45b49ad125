//! One bridge namespace as the agent follows it: events in, facts kept, FDB entries refreshed.

mod fdb_refresh;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use log::warn;

use fdb_refresh::Refresher;

use super::{
    interference::Interference,
    layout::{LabPort, Layout},
    netns_state::{Blocker, NetnsState},
    reader::Reader,
};
use crate::{
    datapath::{self, Hook, Pins, Receivers},
    kernel::{
        Netns, Result,
        watch::{Event, Watch},
    },
    state::events::Kind,
    topology::{Bridge, IfName, Masquerade, Place, Topology},
};

/// A bridge namespace.
pub struct BridgeNetns {
    place: Place,
    reader: Reader,
    interference: Interference,
    /// The lab's pairs here, by their ports.
    pairs: BTreeMap<String, String>,
    /// What has happened and is not told yet.
    events: Vec<Kind>,
    /// The tables that labs have here for `nat`.
    own_tables: Vec<Masquerade>,
    /// Events of the namespace itself.
    events_here: Watch,
    /// Events of the namespaces at the other ends of its veths.
    events_of_peers: Watch,
    /// Changes of nftables, where they can be watched.
    rule_events: Option<Watch>,
    /// Ports that the XDP program may redirect to, where there is one.
    receivers: Option<Receivers>,
    state: NetnsState,
    refresher: Refresher,
    resync_needed: bool,
    overrun: bool,
    /// Whether features of devices could not be asked for when they were last looked at.
    devices_unreadable: bool,
    /// Whether the facts may have changed since somebody asked.
    changed: bool,
    /// Whether anything happened while the FDB was read, so that entries may be missing.
    fdb_incomplete: bool,
}

impl BridgeNetns {
    /// Opens the namespace of `place`.
    ///
    /// # Errors
    /// It is not there, or no sockets can be had in it.
    pub fn open(
        number: u16,
        place: &Place,
        topology: &Topology,
        pins: &Pins,
        hook: Hook,
        receivers: Option<Receivers>,
    ) -> Result<Self> {
        let netns = Netns::of(place)?;
        Ok(Self {
            place: place.clone(),
            events_here: Watch::bridges(&netns)?,
            events_of_peers: Watch::peers(&netns)?,
            rule_events: None,
            pairs: pairs(topology, place),
            events: Vec::new(),
            interference: Interference::new(&netns),
            own_tables: own_tables(topology, place),
            reader: Reader::open(&netns, number, place, topology, pins, hook)?,
            receivers,
            state: NetnsState::default(),
            refresher: Refresher::default(),
            resync_needed: true,
            overrun: false,
            devices_unreadable: false,
            changed: true,
            fdb_incomplete: false,
        })
    }

    /// Whether it is the namespace of `place`, by this number.
    #[must_use]
    pub fn is(&self, number: u16, place: &Place) -> bool {
        self.reader.layout.domain == number && &self.place == place
    }

    /// Goes on as a part of what the lab has become. What is known stays known; links are looked at again.
    pub fn reload(&mut self, topology: &Topology, receivers: Option<Receivers>) {
        self.receivers = receivers;
        self.pairs = pairs(topology, &self.place);
        self.own_tables = own_tables(topology, &self.place);
        self.reader.layout = Layout::of(topology, self.reader.layout.domain, &self.place);
        self.state.losing.retain(|pair| self.reader.layout.ports.iter().any(|port| port.counter == *pair));
        (self.resync_needed, self.changed) = (true, true);
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> String {
        self.reader.rtnl.netns().to_string()
    }

    /// Whether the namespace has lost its name: then it is to be let go, or it would live on with us.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let Place::Namespace(name) = &self.place else { return false };
        !self.reader.rtnl.netns().has_name(name)
    }

    /// Waits until something has happened and takes it in, or until nothing where something that was taken in
    /// meanwhile ([`Domain::take_in`], [`Domain::look_anew`]) is not followed yet. Dropping the future loses nothing.
    ///
    /// # Errors
    /// A socket fails.
    pub async fn wait(&mut self) -> Result<()> {
        if self.overrun || self.resync_needed || self.changed {
            return Ok(());
        }
        tokio::select! {
            events = self.events_here.next() => {
                let events = events?;
                self.apply_events(&events);
            }
            events = self.events_of_peers.next() => {
                events?;
                self.resync_needed = true;
            }
            events = next_of(&mut self.rule_events) => {
                events?;
                self.rescan_interference();
            }
        }
        Ok(())
    }

    /// Looks at once at what else is looked at each second: it may have changed.
    pub fn rescan_interference(&mut self) {
        self.changed = true;
        self.watch_rules();
        self.interference.scan(&self.reader.layout, &self.own_tables, &mut self.state);
    }

    /// Watches nftables, if the kernel has it by now. What changes until then is seen within a second.
    fn watch_rules(&mut self) {
        if self.rule_events.is_none() {
            self.rule_events = Watch::rules(self.reader.rtnl.netns()).ok();
        }
    }

    fn apply_events(&mut self, events: &[Event]) {
        self.changed |= !events.is_empty();
        let now = Instant::now();
        for event in events {
            self.overrun |= *event == Event::Lost;
            if let Event::Learned(entry) = event {
                self.refresher.learned((entry.bridge, entry.mac), now);
            }
            self.resync_needed |= self.state.apply_event(event);
        }
    }

    /// Takes in what has been told until now.
    ///
    /// # Errors
    /// A socket fails.
    pub fn drain_events(&mut self) -> Result<()> {
        let events = self.events_here.drain()?;
        self.apply_events(&events);
        Ok(())
    }

    /// Whether events were lost since the last [`Domain::look_anew`].
    #[must_use]
    pub fn has_overrun(&self) -> bool {
        self.overrun
    }

    /// Forgets everything and looks. Events that arrive meanwhile are older than what is seen, or
    /// tell it again: they are taken in before anybody acts on the facts. Returns whether any were lost
    /// since the last time.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn full_resync(&mut self) -> Result<bool> {
        self.changed = true;
        let mut have_lost = false;
        loop {
            have_lost |= std::mem::take(&mut self.overrun);
            self.resync_needed = false;
            self.events_of_peers.drain()?;
            self.read_fdb().await?;
            let _ = self.reader.read_links(&mut self.state, |_| false).await?;
            self.resync_devices();
            self.rescan_interference();
            let events = self.events_here.drain()?;
            self.apply_events(&events);
            if !self.overrun {
                return Ok(have_lost);
            }
        }
    }

    /// Whether an event has asked for a look at links and what is attached to them.
    #[must_use]
    pub fn needs_resync(&self) -> bool {
        self.resync_needed
    }

    /// Looks at links and what is attached to them, if an event asked for it. Returns whether it did.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn resync_links(&mut self) -> Result<bool> {
        if !std::mem::take(&mut self.resync_needed) {
            return Ok(false);
        }
        self.changed = true;
        let _ = self.reader.read_links(&mut self.state, |_| false).await?;
        self.resync_devices();
        Ok(true)
    }

    /// What the kernel tells of with a link's other changes, and not in them.
    fn resync_devices(&mut self) {
        let offloads = self.interference.read_offloads(&mut self.state);
        let xdp = self.interference.read_xdp(&self.reader.layout, &self.reader.direct, &mut self.state);
        let failed = offloads.and(xdp);
        if let (Err(error), false) = (&failed, self.devices_unreadable) {
            warn!("{error}");
        }
        self.devices_unreadable = failed.is_err();
    }

    /// Has the XDP program redirect to these ports, of all domains, as far as they are here.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_receivers(&mut self, ports: &BTreeSet<(u16, u32)>) -> datapath::Result<()> {
        let Some(receivers) = &mut self.receivers else { return Ok(()) };
        let here = self.reader.layout.domain;
        let ports = ports.iter().filter(|(domain, _)| *domain == here).map(|&(_, ifindex)| ifindex).collect();
        receivers.set(self.reader.rtnl.netns(), &ports)
    }

    /// Whether the map of receivers is not as it was left.
    fn receivers_have_changed(&mut self) -> bool {
        let changed = self.receivers.as_mut().map(Receivers::has_changed);
        changed.is_some_and(|changed| changed.inspect_err(|error| warn!("{error}")).unwrap_or(true))
    }

    /// Reads the FDB, and takes in what has happened before and meanwhile. The kernel goes on with a
    /// dump where it was by counting (`br_fdb_dump` in net/bridge/br_fdb.c): an entry that is removed
    /// meanwhile makes it skip another, of which no event will ever tell. So a reading during which
    /// anything happened is done once more, a second later.
    async fn read_fdb(&mut self) -> Result<()> {
        let before = self.events_here.drain()?;
        self.apply_events(&before);
        self.reader.read_fdb(&mut self.state).await?;
        let meanwhile = self.events_here.drain()?;
        self.apply_events(&meanwhile);
        self.fdb_incomplete = !meanwhile.is_empty();
        self.changed = true;
        Ok(())
    }

    /// Takes in what has been told until now, and looks at what tells nothing by itself: limits of links, programs,
    /// packet sockets, rules, what inner ends of pairs that are `busy` count; and at the FDB once more, if
    /// entries may have been skipped.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn poll(&mut self, busy: impl Fn(u32) -> bool) -> Result<()> {
        self.drain_events()?;
        if self.fdb_incomplete {
            self.read_fdb().await?;
        }
        let look_needed = std::mem::take(&mut self.resync_needed);
        self.changed |= self.reader.read_links(&mut self.state, busy).await? || look_needed;
        if look_needed || self.devices_unreadable {
            self.changed = true;
            self.resync_devices();
        }
        self.changed |= self.receivers_have_changed();
        self.watch_rules();
        self.changed |= self.interference.rescan(&self.reader.layout, &self.own_tables, &mut self.state);
        Ok(())
    }

    /// The ports that are to have our filter, are there, and do not have it.
    #[must_use]
    pub fn removed_filters(&self, topology: &Topology) -> Vec<IfName> {
        if self.reader.hook != Hook::Clsact || self.state.unreadable.contains_key(&Blocker::Programs) {
            return Vec::new();
        }
        let is_removed =
            |port: &&IfName| self.state.link(port).is_some() && !self.state.attached.contains(port.as_str());
        topology.ports_with_programs(&self.place).filter(is_removed).cloned().collect()
    }

    /// Attaches those filters. Returns the ports that had none.
    ///
    /// # Errors
    /// The kernel refuses a port; those before it have theirs.
    pub fn put_filters_back(&mut self, topology: &Topology) -> datapath::Result<Vec<IfName>> {
        self.resync_needed = true;
        let (ports, domain) = (self.removed_filters(topology), self.reader.layout.domain.into());
        let ports: Vec<_> = ports.iter().collect();
        datapath::attach(self.reader.rtnl.netns(), &self.reader.pins, domain, self.reader.hook, &ports)
    }

    /// Whether the facts may have changed since this was last asked.
    #[must_use]
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// By counter of the pair: ifindex of the inner end, and frames that it received.
    #[must_use]
    pub fn inner_ends(&self) -> Vec<(u32, u32, u64)> {
        let received = |port: &LabPort| {
            let inner = self.state.inner.get(&self.state.link(&port.port)?.ifindex)?;
            // What was counted as dropped is no riddle.
            Some((port.counter, inner.ifindex, inner.received.0.saturating_add(inner.dropped)))
        };
        self.reader.layout.ports.iter().filter_map(received).collect()
    }

    /// Records whether a pair loses redirected frames.
    pub fn set_losing(&mut self, pair: u32, losing: bool) {
        self.changed |= if losing { self.state.losing.insert(pair) } else { self.state.losing.remove(&pair) };
    }

    /// What the lab has here, and what is known of it.
    #[must_use]
    pub fn known(&self) -> (&Layout, &NetnsState) {
        (&self.reader.layout, &self.state)
    }

    /// Whether a bridge of the lab is there.
    #[must_use]
    pub fn has(&self, bridge: &Bridge) -> bool {
        bridge.place == self.place && self.state.link(&bridge.name).is_some()
    }

    /// What has happened and was not told yet, apart from what can be seen from the lab's standing.
    #[must_use]
    pub fn take_events(&mut self) -> Vec<Kind> {
        std::mem::take(&mut self.events)
    }

    /// The pair that a port is of, or its device name, or its ifindex where it is gone.
    fn port_label(&self, port: u32) -> String {
        let Some(link) = self.state.links.get(&port) else { return format!("port {port}") };
        self.pairs.get(&link.name).unwrap_or(&link.name).clone()
    }
}

/// The lab's pairs in a place, by their ports.
fn pairs(topology: &Topology, place: &Place) -> BTreeMap<String, String> {
    let here = topology.pairs.iter().filter(|pair| &pair.place == place);
    here.map(|pair| (pair.port.to_string(), pair.name())).collect()
}

/// The tables of a lab in a place.
fn own_tables(topology: &Topology, place: &Place) -> Vec<Masquerade> {
    Masquerade::of(topology).into_iter().filter(|own| &own.place == place).collect()
}

/// The next events of a watch that may not be there.
async fn next_of(watch: &mut Option<Watch>) -> Result<Vec<Event>> {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}
