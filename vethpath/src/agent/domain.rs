//! One bridge namespace as the agent follows it: events in, facts kept, FDB entries refreshed.

mod young;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use log::warn;

use super::{
    company::Company,
    facts::{Facts, Source},
    layout::{LabPort, Layout},
    look::Looker,
    refresh::Refresher,
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
pub struct Domain {
    place: Place,
    looker: Looker,
    company: Company,
    /// The lab's pairs here, by their ports.
    pairs: BTreeMap<String, String>,
    /// What has happened and is not told yet.
    news: Vec<Kind>,
    /// The tables that labs have here for `nat`.
    own_tables: Vec<Masquerade>,
    /// Events of the namespace itself.
    here: Watch,
    /// Events of the namespaces at the other ends of its veths.
    beyond: Watch,
    /// Changes of nftables, where they can be watched.
    rules: Option<Watch>,
    /// Ports that the XDP program may redirect to, where there is one.
    receivers: Option<Receivers>,
    facts: Facts,
    refresher: Refresher,
    look_needed: bool,
    lost: bool,
    /// Whether features of devices could not be asked for when they were last looked at.
    devices_unasked: bool,
    /// Whether the facts may have changed since somebody asked.
    news_for_maps: bool,
    /// Whether anything happened while the FDB was read, so that entries may be missing.
    fdb_doubtful: bool,
}

impl Domain {
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
            here: Watch::bridges(&netns)?,
            beyond: Watch::everywhere(&netns)?,
            rules: None,
            pairs: pairs(topology, place),
            news: Vec::new(),
            company: Company::new(&netns),
            own_tables: own_tables(topology, place),
            looker: Looker::open(&netns, number, place, topology, pins, hook)?,
            receivers,
            facts: Facts::default(),
            refresher: Refresher::default(),
            look_needed: true,
            lost: false,
            devices_unasked: false,
            news_for_maps: true,
            fdb_doubtful: false,
        })
    }

    /// Whether it is the namespace of `place`, by this number.
    #[must_use]
    pub fn is(&self, number: u16, place: &Place) -> bool {
        self.looker.layout.domain == number && &self.place == place
    }

    /// Goes on as a part of what the lab has become. What is known stays known; links are looked at again.
    pub fn become_part_of(&mut self, topology: &Topology, receivers: Option<Receivers>) {
        self.receivers = receivers;
        self.pairs = pairs(topology, &self.place);
        self.own_tables = own_tables(topology, &self.place);
        self.looker.layout = Layout::of(topology, self.looker.layout.domain, &self.place);
        self.facts.losing.retain(|pair| self.looker.layout.ports.iter().any(|port| port.counter == *pair));
        (self.look_needed, self.news_for_maps) = (true, true);
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> String {
        self.looker.rtnl.netns().to_string()
    }

    /// Whether the namespace has lost its name: then it is to be let go, or it would live on with us.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let Place::Namespace(name) = &self.place else { return false };
        !self.looker.rtnl.netns().has_name(name)
    }

    /// Waits until something has happened and takes it in, or until nothing where something that was taken in
    /// meanwhile ([`Domain::take_in`], [`Domain::look_anew`]) is not followed yet. Dropping the future loses nothing.
    ///
    /// # Errors
    /// A socket fails.
    pub async fn wait(&mut self) -> Result<()> {
        if self.lost || self.look_needed || self.news_for_maps {
            return Ok(());
        }
        tokio::select! {
            events = self.here.next() => {
                let events = events?;
                self.note(&events);
            }
            events = self.beyond.next() => {
                events?;
                self.look_needed = true;
            }
            events = next_of(&mut self.rules) => {
                events?;
                self.look_at_company();
            }
        }
        Ok(())
    }

    /// Looks at once at what else is looked at each second: it may have changed.
    pub fn look_at_company(&mut self) {
        self.news_for_maps = true;
        self.watch_rules();
        self.company.look(&self.looker.layout, &self.own_tables, &mut self.facts);
    }

    /// Watches nftables, if the kernel has it by now. What changes until then is seen within a second.
    fn watch_rules(&mut self) {
        if self.rules.is_none() {
            self.rules = Watch::rules(self.looker.rtnl.netns()).ok();
        }
    }

    fn note(&mut self, events: &[Event]) {
        self.news_for_maps |= !events.is_empty();
        let now = Instant::now();
        for event in events {
            self.lost |= *event == Event::Lost;
            if let Event::Learned(entry) = event {
                self.refresher.learned((entry.bridge, entry.mac), now);
            }
            self.look_needed |= self.facts.note(event);
        }
    }

    /// Takes in what has been told until now.
    ///
    /// # Errors
    /// A socket fails.
    pub fn take_in(&mut self) -> Result<()> {
        let events = self.here.drain()?;
        self.note(&events);
        Ok(())
    }

    /// Whether events were lost since the last [`Domain::look_anew`].
    #[must_use]
    pub fn has_lost_events(&self) -> bool {
        self.lost
    }

    /// Forgets everything and looks. Events that arrive meanwhile are older than what is seen, or
    /// tell it again: they are taken in before anybody acts on the facts. Returns whether any were lost
    /// since the last time.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn look_anew(&mut self) -> Result<bool> {
        self.news_for_maps = true;
        let mut have_lost = false;
        loop {
            have_lost |= std::mem::take(&mut self.lost);
            self.look_needed = false;
            self.beyond.drain()?;
            self.read_fdb().await?;
            let _ = self.looker.links(&mut self.facts, |_| false).await?;
            self.look_at_devices();
            self.look_at_company();
            let events = self.here.drain()?;
            self.note(&events);
            if !self.lost {
                return Ok(have_lost);
            }
        }
    }

    /// Whether an event has asked for a look at links and what is attached to them.
    #[must_use]
    pub fn wants_a_look(&self) -> bool {
        self.look_needed
    }

    /// Looks at links and what is attached to them, if an event asked for it. Returns whether it did.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn look_again(&mut self) -> Result<bool> {
        if !std::mem::take(&mut self.look_needed) {
            return Ok(false);
        }
        self.news_for_maps = true;
        let _ = self.looker.links(&mut self.facts, |_| false).await?;
        self.look_at_devices();
        Ok(true)
    }

    /// What the kernel tells of with a link's other changes, and not in them.
    fn look_at_devices(&mut self) {
        let offloads = self.company.look_at_offloads(&mut self.facts);
        let xdp = self.company.look_at_xdp(&self.looker.layout, &self.looker.direct, &mut self.facts);
        let failed = offloads.and(xdp);
        if let (Err(error), false) = (&failed, self.devices_unasked) {
            warn!("{error}");
        }
        self.devices_unasked = failed.is_err();
    }

    /// Has the XDP program redirect to these ports, of all domains, as far as they are here.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn receive(&mut self, ports: &BTreeSet<(u16, u32)>) -> datapath::Result<()> {
        let Some(receivers) = &mut self.receivers else { return Ok(()) };
        let here = self.looker.layout.domain;
        let ports = ports.iter().filter(|(domain, _)| *domain == here).map(|&(_, ifindex)| ifindex).collect();
        receivers.set(self.looker.rtnl.netns(), &ports)
    }

    /// Whether the map of receivers is not as it was left.
    fn receivers_have_changed(&mut self) -> bool {
        let changed = self.receivers.as_mut().map(Receivers::look);
        changed.is_some_and(|changed| changed.inspect_err(|error| warn!("{error}")).unwrap_or(true))
    }

    /// Reads the FDB, and takes in what has happened before and meanwhile. The kernel goes on with a
    /// dump where it was by counting (`br_fdb_dump` in net/bridge/br_fdb.c): an entry that is removed
    /// meanwhile makes it skip another, of which no event will ever tell. So a reading during which
    /// anything happened is done once more, a second later.
    async fn read_fdb(&mut self) -> Result<()> {
        let before = self.here.drain()?;
        self.note(&before);
        self.looker.fdb(&mut self.facts).await?;
        let meanwhile = self.here.drain()?;
        self.note(&meanwhile);
        self.fdb_doubtful = !meanwhile.is_empty();
        self.news_for_maps = true;
        Ok(())
    }

    /// Takes in what has been told until now, and looks at what tells nothing by itself: limits of links, programs,
    /// packet sockets, rules, what inner ends of pairs that are `busy` count; and at the FDB once more, if
    /// entries may have been skipped.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn poll(&mut self, busy: impl Fn(u32) -> bool) -> Result<()> {
        self.take_in()?;
        if self.fdb_doubtful {
            self.read_fdb().await?;
        }
        let look_needed = std::mem::take(&mut self.look_needed);
        self.news_for_maps |= self.looker.links(&mut self.facts, busy).await? || look_needed;
        if look_needed || self.devices_unasked {
            self.news_for_maps = true;
            self.look_at_devices();
        }
        self.news_for_maps |= self.receivers_have_changed();
        self.watch_rules();
        self.news_for_maps |=
            self.company.look_once_more(&self.looker.layout, &self.own_tables, &mut self.facts);
        Ok(())
    }

    /// The ports that are to have our filter, are there, and do not have it.
    #[must_use]
    pub fn removed_filters(&self, topology: &Topology) -> Vec<IfName> {
        if self.looker.hook != Hook::Clsact || self.facts.unasked.contains_key(&Source::Programs) {
            return Vec::new();
        }
        let is_removed =
            |port: &&IfName| self.facts.link(port).is_some() && !self.facts.attached.contains(port.as_str());
        topology.ports_with_programs(&self.place).filter(is_removed).cloned().collect()
    }

    /// Attaches those filters. Returns the ports that had none.
    ///
    /// # Errors
    /// The kernel refuses a port; those before it have theirs.
    pub fn put_filters_back(&mut self, topology: &Topology) -> datapath::Result<Vec<IfName>> {
        self.look_needed = true;
        let (ports, domain) = (self.removed_filters(topology), self.looker.layout.domain.into());
        let ports: Vec<_> = ports.iter().collect();
        datapath::attach(self.looker.rtnl.netns(), &self.looker.pins, domain, self.looker.hook, &ports)
    }

    /// Whether the facts may have changed since this was last asked.
    #[must_use]
    pub fn take_news_for_maps(&mut self) -> bool {
        std::mem::take(&mut self.news_for_maps)
    }

    /// By counter of the pair: ifindex of the inner end, and frames that it received.
    #[must_use]
    pub fn inner_ends(&self) -> Vec<(u32, u32, u64)> {
        let received = |port: &LabPort| {
            let inner = self.facts.inner.get(&self.facts.link(&port.port)?.ifindex)?;
            // What was counted as dropped is no riddle.
            Some((port.counter, inner.ifindex, inner.received.0.saturating_add(inner.dropped)))
        };
        self.looker.layout.ports.iter().filter_map(received).collect()
    }

    /// Notes whether a pair loses redirected frames.
    pub fn set_losing(&mut self, pair: u32, losing: bool) {
        self.news_for_maps |=
            if losing { self.facts.losing.insert(pair) } else { self.facts.losing.remove(&pair) };
    }

    /// What the lab has here, and what is known of it.
    #[must_use]
    pub fn known(&self) -> (&Layout, &Facts) {
        (&self.looker.layout, &self.facts)
    }

    /// Whether a bridge of the lab is there.
    #[must_use]
    pub fn has(&self, bridge: &Bridge) -> bool {
        bridge.place == self.place && self.facts.link(&bridge.name).is_some()
    }

    /// What has happened and was not told yet, apart from what can be seen from the lab's standing.
    #[must_use]
    pub fn take_news(&mut self) -> Vec<Kind> {
        std::mem::take(&mut self.news)
    }

    /// The pair that a port is of, or its device name, or its ifindex where it is gone.
    fn behind(&self, port: u32) -> String {
        let Some(link) = self.facts.links.get(&port) else { return format!("port {port}") };
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
