//! One bridge namespace: its events, its known state, and the refresh of its FDB entries.

mod fdb_refresh;
mod fdb_resync;
mod guest_ports;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use fdb_refresh::Refresher;
pub use guest_ports::Which;
use log::warn;

use super::{
    budget::until,
    drops::Drops,
    guests::GuestNumbers,
    layout::{LabPort, Layout, counted_pairs},
    netns_state::{Blocker, Dirty, NetnsState},
    reader::Reader,
    segments::{MOST_CHANGED, Segments},
};
use crate::{
    datapath::{self, Hook, Pins, Receivers},
    kernel::{
        LinkChange, Netns, Result, UnknownDefaults,
        watch::{Event, Watch},
    },
    state::{Directory, events::Kind},
    topology::{IfName, Place, Topology},
};

/// A bridge namespace.
pub struct BridgeNetns {
    reader: Reader,
    /// Number and name of each of the lab's pairs here, by the name of its port.
    pairs: BTreeMap<String, (u32, String)>,
    /// Guest ports to which attaching the program was tried in this second, by ifindex, and whether it succeeded. It is
    /// tried once a second.
    tried: BTreeMap<u32, bool>,
    /// Guest ports that were removed, by ifindex. Another port may have that by now.
    departed: BTreeSet<u32>,
    /// Events that are not logged yet.
    events: Vec<Kind>,
    /// Events of the links of the namespace itself.
    events_of_links: Watch,
    /// Events of its FDBs.
    events_of_fdb: Watch,
    /// Events of the namespaces at the other ends of its veths.
    events_of_peers: Watch,
    /// Events of nftables; `None` if they cannot be watched.
    rule_events: Option<Watch>,
    /// Ports that the XDP program may redirect to; `None` without such a program.
    receivers: Option<Receivers>,
    state: NetnsState,
    /// What follows from `state` for its ports.
    segments: Segments,
    refresher: Refresher,
    /// Whether the last attempt to read device features failed.
    devices_unreadable: bool,
    /// Ports of which a dump may have skipped an entry.
    skipped: BTreeSet<u32>,
    /// The port that was dumped last, by ifindex.
    last_dumped: u32,
    /// Whether events were lost, which is not logged yet.
    has_overrun: bool,
    /// The packets of the lab that rules certainly drop here.
    drops: Drops,
}

impl BridgeNetns {
    /// Opens the namespace of `place`.
    ///
    /// # Errors
    /// It does not exist, or no socket can be opened in it.
    pub fn open(
        number: u16,
        place: &Place,
        topology: &Topology,
        pins: &Pins,
        hook: Hook,
        receivers: Option<Receivers>,
        harmless: &UnknownDefaults,
    ) -> Result<Self> {
        let netns = Netns::of(place)?;
        Ok(Self {
            events_of_links: Watch::links(&netns)?,
            events_of_fdb: Watch::fdb(&netns)?,
            events_of_peers: Watch::peers(&netns)?,
            rule_events: None,
            pairs: pairs(topology, place),
            tried: BTreeMap::new(),
            departed: BTreeSet::new(),
            events: Vec::new(),
            reader: Reader::open(&netns, number, place, topology, pins, hook)?,
            receivers,
            state: NetnsState { harmless: harmless.clone(), dirty: Dirty::all(), ..NetnsState::default() },
            segments: Segments::default(),
            refresher: Refresher::default(),
            devices_unreadable: false,
            skipped: BTreeSet::new(),
            last_dumped: 0,
            has_overrun: false,
            drops: Drops::new(place, &netns),
        })
    }

    /// Whether this is the namespace of `place` with this number.
    #[must_use]
    pub fn is(&self, number: u16, place: &Place) -> bool {
        self.reader.layout.domain == number && self.place() == place
    }

    /// Applies a changed topology. Known state stays; links are read again.
    pub fn reload(&mut self, topology: &Topology, receivers: Option<Receivers>) {
        self.receivers = receivers;
        self.pairs = pairs(topology, self.place());
        self.reader.reload(topology);
        self.state.losing.retain(|pair| self.reader.layout.ports.iter().any(|port| port.counter == *pair));
        // Entries of new ports may be unknown.
        let dirty = &mut self.state.dirty;
        (dirty.links, dirty.ports, dirty.fdb_overrun) = (true, true, true);
        self.drops.mark_due();
        self.scan_interference();
    }

    /// The place that it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.reader.layout.place
    }

    /// The name of the namespace in events.
    #[must_use]
    pub fn name(&self) -> String {
        self.reader.socket.netns().to_string()
    }

    /// Whether the namespace has lost its name. Then it must be released: the agent's sockets would keep it alive.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let Place::Namespace(name) = self.place() else { return false };
        !self.reader.socket.netns().has_name(name)
    }

    /// Waits for events, and applies them to the known state. Those of the FDB, and all others, are not received before
    /// these times. Returns whether they are of the FDB. Dropping the future loses nothing.
    ///
    /// # Errors
    /// A socket fails.
    pub async fn wait(&mut self, fdb_not_before: Instant, not_before: Instant) -> Result<bool> {
        tokio::select! {
            events = next_after(&mut self.events_of_links, not_before) => self.apply_link_events(&events?),
            events = next_after(&mut self.events_of_fdb, fdb_not_before) => {
                self.apply_fdb_events(&events?);
                return Ok(true);
            }
            events = self.events_of_peers.next() => self.apply_peer_events(&events?),
            events = next_of(&mut self.rule_events) => {
                events?;
                self.state.dirty.rules = true;
            }
        }
        Ok(false)
    }

    /// Watches nftables once the kernel has it. Until then, changes are seen within a second.
    fn watch_rules(&mut self) {
        if self.rule_events.is_none() {
            self.rule_events = Watch::rules(self.reader.socket.netns()).ok();
        }
    }

    fn apply_link_events(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Link(link) => self.reader.forget_reply(link.ifindex),
                Event::Gone { ifindex } => {
                    self.reader.forget_reply(*ifindex);
                    let is_guest = self.reader.layout.guests().any(|port| port.guest == Some(*ifindex));
                    self.departed.extend(is_guest.then_some(*ifindex));
                }
                Event::Port { ifindex, .. } | Event::Released { ifindex } => {
                    self.reader.forget_reply(*ifindex);
                }
                Event::Lost => self.has_overrun = true,
                _ => {}
            }
            self.state.apply_link_event(event);
        }
    }

    fn apply_peer_events(&mut self, events: &[Event]) {
        events.iter().for_each(|event| self.state.apply_peer_event(event));
    }

    fn apply_fdb_events(&mut self, events: &[Event]) {
        let now = Instant::now();
        for event in events {
            if *event == Event::Lost {
                (self.has_overrun, self.state.dirty.fdb_overrun) = (true, true);
                // While a port floods, this goes on. The others must not become slow by it.
                self.state.dirty.overrun |= !self.is_flooded();
            }
            if let Event::Learned(entry) | Event::Forgot(entry) = event
                && self.state.fdb.apply_event(event)
            {
                self.state.dirty.stations.insert(entry.mac);
            }
            // Entries that are not kept are never refreshed.
            if let Event::Learned(entry) = event
                && self.state.fdb.get(entry.bridge, entry.mac, entry.vlan) == Some(entry)
            {
                self.refresher.learned((entry.bridge, entry.mac), now);
            }
        }
        self.follow_fdb_state();
    }

    /// Records what follows from changed entries for ports.
    fn follow_fdb_state(&mut self) {
        let NetnsState { fdb, dirty, .. } = &mut self.state;
        dirty.ports |= fdb.take_flooding_changed();
        dirty.undumped.append(&mut fdb.take_incomplete());
    }

    /// Applies pending events. Those of the FDB are read last: what they show is as new as the links.
    ///
    /// # Errors
    /// A socket fails.
    pub fn drain_events(&mut self) -> Result<()> {
        let events = self.events_of_links.drain()?;
        self.apply_link_events(&events);
        let events = self.events_of_fdb.drain()?;
        self.apply_fdb_events(&events);
        Ok(())
    }

    /// Whether events were lost since the last call.
    #[must_use]
    pub fn take_has_overrun(&mut self) -> bool {
        std::mem::take(&mut self.has_overrun)
    }

    /// What is to be done.
    #[must_use]
    pub fn dirty(&self) -> &Dirty {
        &self.state.dirty
    }

    /// The same, to be changed.
    pub fn dirty_mut(&mut self) -> &mut Dirty {
        &mut self.state.dirty
    }

    /// Reads what is dirty; everything but the FDB, if events of links were lost. After events of few links, these alone are
    /// read. Events that arrive meanwhile are older than what is read, or repeat it: they are applied before the state is
    /// used, and may make something dirty again.
    ///
    /// # Errors
    /// The kernel refuses. What is dirty is then unknown.
    pub fn read_dirty(&mut self, numbers: &mut GuestNumbers) -> Result<()> {
        let dirty = &mut self.state.dirty;
        if std::mem::take(&mut dirty.overrun) {
            (dirty.links, dirty.rules, dirty.ports) = (true, true, true);
        }
        if dirty.links || !dirty.some_links.is_empty() {
            let events = self.events_of_peers.drain()?;
            self.apply_peer_events(&events);
            self.read_dirty_links(numbers)?;
        }
        if self.state.dirty.fdb_overrun {
            self.verify_fdb()?;
        }
        self.dump_ports_at_once()?;
        if std::mem::take(&mut self.state.dirty.rules) {
            self.scan_interference();
            self.drops.mark_due();
        }
        self.drain_events()?;
        self.state.dirty.unread_events = false;
        Ok(())
    }

    /// Reads all links, or some of them, and what is attached to them.
    fn read_dirty_links(&mut self, numbers: &mut GuestNumbers) -> Result<()> {
        let some = std::mem::take(&mut self.state.dirty.some_links);
        let is_all = std::mem::take(&mut self.state.dirty.links) || !self.can_be_read_alone(&some);
        let before = self.state.netfilter_calls(&self.reader.layout);
        match is_all {
            true => self.reader.read_links(&mut self.state)?,
            false => self.reader.read_some_links(&mut self.state, &some)?,
        }
        self.state.dirty.rules |= before != self.state.netfilter_calls(&self.reader.layout);
        let has_other_guests = self.follow_guests(numbers);
        if is_all {
            let all: Vec<usize> = (0..self.reader.layout.ports.len()).collect();
            self.reader.read_inner_ends(&mut self.state, &all, |_| false)?;
            self.resync_devices();
        } else {
            // Nothing of a guest's port was read before it was known as one.
            self.state.dirty.links |= has_other_guests;
            let offloads = self.reader.read_offloads_of(&mut self.state, &some);
            self.state.dirty.ports |= offloads.is_err();
            self.follow_failure_of_devices(offloads);
        }
        self.follow_own_macs()
    }

    /// Whether reading some links after their events finds all that these are about. XDP needs more of an inner end, which
    /// is read in its namespace, and where something could not be read before, everything is read.
    fn can_be_read_alone(&self, some: &BTreeSet<u32>) -> bool {
        some.len() <= MOST_CHANGED
            && !self.reader.layout.has_xdp()
            && !self.devices_unreadable
            && self.state.unreadable.is_empty()
    }

    fn scan_interference(&mut self) {
        self.watch_rules();
        if self.reader.scan_interference(&mut self.state) {
            self.drops.mark_due();
        }
    }

    /// Follows what rules do to the lab's packets: see [`Drops::follow`].
    pub fn follow_drops(&mut self, topology: &Topology, directory: &Directory) {
        let is_known = !self.state.unreadable.contains_key(&Blocker::Rules);
        let has_rules = !is_known || !self.state.rules.is_empty();
        self.events.extend(self.drops.follow(topology, directory, has_rules));
    }

    /// The packets of the lab that rules certainly drop here, each with a sentence that says so.
    #[must_use]
    pub fn drops(&self) -> &BTreeMap<String, String> {
        self.drops.found()
    }

    /// Reads what the kernel reports by a link event that does not contain it: offloads, queues, XDP features.
    fn resync_devices(&mut self) {
        let of = |state: &NetnsState| {
            let NetnsState { reduced_offloads, multiqueue, xdp_takers, ready, .. } = state;
            (reduced_offloads.clone(), multiqueue.clone(), xdp_takers.clone(), ready.clone())
        };
        let before = of(&self.state);
        let offloads = self.reader.read_offloads(&mut self.state);
        let xdp = self.reader.read_xdp(&mut self.state);
        self.follow_failure_of_devices(offloads.and(xdp));
        self.state.dirty.ports |= before != of(&self.state);
    }

    /// Records whether device features can be read, and reports once that they cannot.
    fn follow_failure_of_devices(&mut self, read: Result<()>) {
        if let (Err(error), false) = (&read, self.devices_unreadable) {
            warn!("{error}");
        }
        self.devices_unreadable = read.is_err();
    }

    /// Writes the ports here that the XDP program may redirect to.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_receivers(&mut self) -> Result<()> {
        let Some(receivers) = &mut self.receivers else { return Ok(()) };
        receivers.set(self.reader.socket.netns(), &self.segments.receivers())
    }

    /// Whether the map of receivers has changed since it was last written or read.
    fn receivers_have_changed(&mut self) -> bool {
        let changed = self.receivers.as_mut().map(Receivers::has_changed);
        changed.is_some_and(|changed| changed.inspect_err(|error| warn!("{error}")).unwrap_or(true))
    }

    /// Reads the inner ends of the ports with these numbers in the layout, with counters for pairs that are `busy`.
    /// `with_links`: the ports too.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn poll_ports(
        &mut self,
        ports: &[usize],
        with_links: bool,
        busy: impl Fn(u32) -> bool,
    ) -> Result<()> {
        if with_links {
            self.reader.read_ports(&mut self.state, ports)?;
        }
        self.reader.read_inner_ends(&mut self.state, ports, busy)
    }

    /// Reads what else the kernel sends no events for: bridges, programs, packet sockets, rules. `with_links`: all links,
    /// inner ends and offloads too. And what is dirty.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn poll(&mut self, with_links: bool, numbers: &mut GuestNumbers) -> Result<()> {
        self.drain_events()?;
        if with_links {
            self.state.dirty.links = true;
            self.read_dirty(numbers)?;
        } else {
            self.reader.read_bridges(&mut self.state)?;
            self.reader.read_programs(&mut self.state);
            if self.devices_unreadable {
                self.resync_devices();
            }
        }
        self.state.dirty.ports |= self.receivers_have_changed();
        self.poll_fdb();
        self.scan_interference();
        self.read_dirty(numbers)
    }

    /// The ports that should have our filter, exist, and do not have it.
    #[must_use]
    pub fn removed_filters(&self, topology: &Topology) -> Vec<IfName> {
        if self.reader.hook != Hook::Clsact || self.state.unreadable.contains_key(&Blocker::Programs) {
            return Vec::new();
        }
        let is_removed = |port: &&IfName| {
            self.state.link(port).is_some_and(|link| !self.state.attached.contains(&link.ifindex))
        };
        topology.ports_with_programs(self.place()).filter(is_removed).cloned().collect()
    }

    /// Attaches those filters again. Returns the ports that had none.
    ///
    /// # Errors
    /// The kernel refuses a port. Ports before it have their filters.
    pub fn put_filters_back(&mut self, topology: &Topology) -> Result<Vec<IfName>> {
        self.state.dirty.links = true;
        let (ports, domain) = (self.removed_filters(topology), self.reader.layout.domain.into());
        let ports: Vec<_> = ports.iter().collect();
        datapath::attach(self.reader.socket.netns(), &self.reader.pins, domain, self.reader.hook, &ports)
    }

    /// Evaluates the ports that may have changed. Returns whether these are all.
    pub fn evaluate(&mut self) -> bool {
        let Self { segments, state, reader, .. } = self;
        if !state.dirty.ports {
            if state.dirty.changed.is_empty() {
                return false;
            }
            if let Some(ports) = segments.update(&reader.layout, state) {
                state.mark_stations_behind(&ports);
                return false;
            }
        }
        state.dirty.ports = false;
        *segments = Segments::new(&reader.layout, state);
        true
    }

    /// What desired contents of the maps follow from: see [`Desired::add`](super::desired::Desired::add).
    pub fn evaluated(&mut self) -> (&Layout, &Segments, &mut NetnsState) {
        (&self.reader.layout, &self.segments, &mut self.state)
    }

    /// What is armed here, and why other ports are not.
    #[must_use]
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// For each pair: its counter, the ifindex of its inner end, and the frames that it received.
    #[must_use]
    pub fn inner_ends(&self) -> Vec<(u32, u32, u64)> {
        let received = |port: &LabPort| {
            let inner = self.state.inner.get(&self.state.link_of(port)?.ifindex)?;
            // Frames that were counted as dropped are accounted for.
            Some((port.counter, inner.ifindex, inner.received.0.saturating_add(inner.dropped)))
        };
        self.reader.layout.ports.iter().filter_map(received).collect()
    }

    /// Records whether a pair loses redirected frames.
    pub fn set_losing(&mut self, pair: u32, losing: bool) {
        let losing_pairs = &mut self.state.losing;
        self.state.dirty.ports |= if losing { losing_pairs.insert(pair) } else { losing_pairs.remove(&pair) };
    }

    /// Records the pairs in whose namespaces no process is left, and takes the ports of new ones down: the addresses of a
    /// container that is gone must not go on answering. A port that cannot be taken down is reported.
    pub fn set_deserted(&mut self, pairs: &BTreeSet<u32>) {
        let here = self.reader.layout.ports.iter().map(|port| port.counter);
        let now: BTreeSet<u32> = here.filter(|pair| pairs.contains(pair)).collect();
        if now == self.state.deserted {
            return;
        }
        let is_new =
            |port: &&LabPort| now.contains(&port.counter) && !self.state.deserted.contains(&port.counter);
        for port in self.reader.layout.ports.iter().filter(is_new) {
            let down = LinkChange::Down { link: port.port.as_str() };
            if let Err(error) = self.reader.socket.change_links(&[down]) {
                warn!("{error}");
            }
        }
        self.state.deserted = now;
        self.state.dirty.ports = true;
    }

    /// The lab's layout here, and the known state.
    #[must_use]
    pub fn known(&self) -> (&Layout, &NetnsState) {
        (&self.reader.layout, &self.state)
    }

    /// Whether a bridge of the lab exists here.
    #[must_use]
    pub fn has(&self, place: &Place, bridge: &IfName) -> bool {
        place == self.place() && self.state.link(bridge).is_some()
    }

    /// Takes the events that are not logged yet, apart from changes that the lab's snapshot shows.
    #[must_use]
    pub fn take_events(&mut self) -> Vec<Kind> {
        std::mem::take(&mut self.events)
    }

    /// The pair of a port, or the port's device name, or its ifindex if it is gone.
    fn port_label(&self, port: u32) -> String {
        let Some(link) = self.state.links.get(&port) else { return format!("port {port}") };
        self.pairs.get(&link.name).map_or(&link.name, |(_, pair)| pair).clone()
    }
}

/// Number and name of each of the lab's pairs in a place, by the name of its port.
fn pairs(topology: &Topology, place: &Place) -> BTreeMap<String, (u32, String)> {
    let here = counted_pairs(topology).filter(|(_, pair)| &pair.place == place);
    here.map(|(number, pair)| (pair.port.to_string(), (number, pair.name()))).collect()
}

/// The next events of a watch, which are not received before `not_before`.
async fn next_after(watch: &mut Watch, not_before: Instant) -> Result<Vec<Event>> {
    until(not_before).await;
    watch.next().await
}

/// The next events of a watch; waits forever without one.
async fn next_of(watch: &mut Option<Watch>) -> Result<Vec<Event>> {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}
