//! The agent's knowledge of one bridge namespace. Plain data: no I/O.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Deref,
};

use netlink_packet_route::link::BridgePortState;

use super::{
    fdb::Fdb,
    layout::{LabPort, Layout},
};
use crate::{
    kernel::{
        GsoLimits, LinkFacts, PortAttribute, UnknownDefaults, netfilter::BridgeCalls, watch::Event,
        xdp::Ready,
    },
    topology::IfName,
};

/// Everything known of one bridge namespace.
#[derive(Clone, Debug, Default)]
pub struct NetnsState {
    /// Its links, by ifindex.
    pub links: LinkTable,
    /// The inner ends, by the ifindex of their ports.
    pub inner: BTreeMap<u32, LinkFacts>,
    /// The greatest GSO limits of any inner end: no frame from one exceeds them.
    pub largest_gso: GsoLimits,
    /// The FDBs of its bridges.
    pub fdb: Fdb,
    /// Links whose qdiscs and filters have changed since they were read, by ifindex.
    pub unread: BTreeSet<u32>,
    /// Ports that run our program, by ifindex.
    pub attached: BTreeSet<u32>,
    /// Ports with programs or filters that are not ours, by ifindex.
    pub foreign: BTreeSet<u32>,
    /// Qdiscs of links other than the default, by ifindex.
    pub qdiscs: BTreeMap<u32, String>,
    /// Links with transmit offloads switched off, by ifindex; `None` if they could not be read.
    pub reduced_offloads: Option<BTreeSet<u32>>,
    /// Links with several transmit queues, by ifindex; `None` if they could not be read.
    pub multiqueue: Option<BTreeSet<u32>>,
    /// What may forbid the fast path and could not be read, with the error.
    pub unreadable: BTreeMap<Blocker, String>,
    /// Links of which packet sockets see all traffic; 0 is every link.
    pub packet_sockets: BTreeSet<u32>,
    /// By port name: a netfilter rule that its frames would pass.
    pub rules: BTreeMap<String, String>,
    /// By port name: for which packets its bridge calls netfilter, with or without rules, as flags of
    /// [`VALIDATE`](vethpath_common::flags::VALIDATE).
    pub validated: BTreeMap<String, u32>,
    /// Unknown attributes with the values of a new bridge and a new port, which are harmless.
    pub harmless: UnknownDefaults,
    /// Ports that run our XDP program in the driver, by ifindex.
    pub xdp_attached: BTreeSet<u32>,
    /// Links that take frames redirected to them by XDP, by ifindex.
    pub xdp_takers: BTreeSet<u32>,
    /// By the ifindex of a port that wants XDP: whether its inner end is ready.
    pub ready: BTreeMap<u32, Ready>,
    /// Counters of pairs whose redirected frames are being dropped.
    pub losing: BTreeSet<u32>,
    /// Counters of pairs in whose namespace no process is left.
    pub deserted: BTreeSet<u32>,
    /// What is to be read again of all this, and what of it the maps do not have yet.
    pub dirty: Dirty,
}

/// Something that may forbid the fast path. While it cannot be read, no port is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blocker {
    /// Programs and filters at the ports' hooks.
    Programs,
    /// Qdiscs of the links.
    Qdiscs,
    /// Packet sockets of the namespace.
    PacketSockets,
    /// Netfilter: its rules, and what calls it.
    Rules,
}

impl NetnsState {
    /// The reply of a source; `None` if the query failed, which is recorded: it concerns every port.
    pub fn record_reply<T, E: std::fmt::Display>(
        &mut self,
        source: Blocker,
        reply: Result<T, E>,
    ) -> Option<T> {
        let (value, error) = match reply {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(error.to_string())),
        };
        if self.unreadable.get(&source) != error.as_ref() {
            self.unreadable.remove(&source);
            self.unreadable.extend(error.map(|error| (source, error)));
            self.dirty.ports = true;
        }
        value
    }

    /// Records that links have changed, so that their ports are evaluated. Called before and after a change of a name.
    pub fn mark_changed(&mut self, ifindexes: impl IntoIterator<Item = u32>) {
        let name = |ifindex| self.links.get(&ifindex).map(|link| link.name.clone()).unwrap_or_default();
        self.dirty.changed.extend(ifindexes.into_iter().map(|ifindex| (ifindex, name(ifindex))));
    }

    /// Records that the stations behind these ports have changed.
    pub fn mark_stations_behind(&mut self, ports: &BTreeSet<u32>) {
        let behind = self.fdb.iter().filter(|entry| ports.contains(&entry.port));
        self.dirty.stations.extend(behind.map(|entry| entry.mac));
    }

    /// Adds a link, or replaces the known one with its ifindex, and records that it has changed.
    pub fn set_link(&mut self, link: LinkFacts) {
        let ifindex = link.ifindex;
        self.mark_changed([ifindex]);
        self.links.insert(ifindex, link);
        self.mark_changed([ifindex]);
    }

    /// Removes a link, and records that.
    pub fn remove_link(&mut self, ifindex: u32) {
        self.mark_changed([ifindex]);
        self.links.remove(ifindex);
    }

    /// The largest MTU of an inner end.
    #[must_use]
    pub fn largest_mtu(&self) -> u32 {
        self.inner.values().map(|inner| inner.mtu).max().unwrap_or_default()
    }

    /// The link of this name.
    #[must_use]
    pub fn link(&self, name: &IfName) -> Option<&LinkFacts> {
        self.links.named(name.as_str())
    }

    /// The link of a port: that of a guest by its ifindex, since other programs rename ports.
    #[must_use]
    pub fn link_of(&self, port: &LabPort) -> Option<&LinkFacts> {
        port.guest.map_or_else(|| self.link(&port.port), |ifindex| self.links.get(&ifindex))
    }

    /// The addresses of the inner ends.
    #[must_use]
    pub fn own_macs(&self) -> HashSet<[u8; 6]> {
        self.inner.values().filter_map(|inner| inner.mac).collect()
    }

    /// The entries that the addresses of inner ends have at home: bridge, address, and no VLAN.
    pub fn homes(&self) -> impl Iterator<Item = (u32, [u8; 6], u16)> {
        self.inner.iter().filter_map(|(port, inner)| Some((self.links.get(port)?.controller?, inner.mac?, 0)))
    }

    /// The options by which the lab's bridges call netfilter.
    #[must_use]
    pub fn netfilter_calls(&self, layout: &Layout) -> Vec<Option<BridgeCalls>> {
        layout.bridges.iter().map(|bridge| netfilter_calls(self.link(&bridge.name)?)).collect()
    }

    /// Whether a port's inner end is in the port's own namespace.
    #[must_use]
    pub fn shares_namespace(port: &LinkFacts) -> bool {
        port.peer_netns.is_none()
    }

    /// Whether frames that leave by this port may get their checksum or their segments there.
    #[must_use]
    pub fn has_reduced_offloads(&self, port: &LinkFacts) -> bool {
        self.reduced_offloads.as_ref().is_none_or(|links| links.contains(&port.ifindex))
    }

    /// Whether frames that leave by this port are spread over several transmit queues.
    #[must_use]
    pub fn is_multiqueue(&self, port: &LinkFacts) -> bool {
        self.multiqueue.as_ref().is_none_or(|links| links.contains(&port.ifindex))
    }

    /// Whether a GSO frame of some host exceeds the limits of this port, and is segmented there.
    #[must_use]
    pub fn cuts_frames(&self, port: &LinkFacts) -> bool {
        !port.gso.admit(self.largest_gso)
    }

    /// Whether a port is on its bridge and does not forward yet. Each port is like that at first.
    #[must_use]
    pub fn is_coming_up(&self, port: &IfName, bridge: &IfName) -> bool {
        let (Some(port), Some(bridge)) = (self.link(port), self.link(bridge)) else { return false };
        let forwards = PortAttribute::State(BridgePortState::Forwarding);
        let forwards = port.port.iter().flatten().any(|attribute| *attribute == forwards);
        port.controller == Some(bridge.ifindex) && !(port.up && bridge.up && forwards)
    }

    /// Applies an event about links, and records what follows from it, and what is to be read: the link itself, or all, if
    /// the link was not known by that name. FDB entries have events of their own, also those of a port that is removed
    /// (`br_fdb_delete_by_port` in net/bridge/br_fdb.c).
    pub fn apply_link_event(&mut self, event: &Event) {
        match event {
            Event::Link(link) => {
                self.mark_unread(link.ifindex, Some(&link.name), link.controller);
                if !self.links.has(link) {
                    let former = self.links.get(&link.ifindex);
                    // Rules are evaluated with these options.
                    self.dirty.rules |= former.and_then(netfilter_calls) != netfilter_calls(link);
                    self.set_link(link.as_ref().clone());
                }
            }
            Event::Port { ifindex, bridge, attributes } => {
                self.mark_unread(*ifindex, None, *bridge);
                if self.links.set_port(*ifindex, *bridge, Some(attributes)) {
                    self.mark_changed([*ifindex]);
                }
            }
            Event::Released { ifindex } => {
                self.mark_unread(*ifindex, None, None);
                let _ = self.links.set_port(*ifindex, None, None);
                self.mark_changed([*ifindex]);
            }
            Event::Gone { ifindex } => {
                self.mark_unread(*ifindex, None, None);
                self.forget_link(*ifindex);
            }
            // Qdiscs are read all at once.
            Event::Traffic { ifindex } => {
                self.dirty.links = true;
                if self.unread.insert(*ifindex) {
                    self.mark_changed([*ifindex]);
                }
            }
            Event::Lost => self.dirty.overrun = true,
            Event::Changed | Event::Peer { .. } => self.dirty.links = true,
            Event::Learned(_) | Event::Forgot(_) => {}
        }
    }

    /// Records that a link is to be read: alone, if it was known, by this name if there is one. Of any other link, nothing
    /// that depends on its ifindex or its name is known. The bridge that it leaves or joins is read too: a change of a
    /// port's state may start a topology change, which shortens the ageing time, and the event is about the port alone.
    fn mark_unread(&mut self, ifindex: u32, name: Option<&str>, bridge: Option<u32>) {
        match self.links.get(&ifindex) {
            Some(known) if name.is_none_or(|name| name == known.name) => {
                let bridges = [known.controller, bridge].into_iter().flatten();
                let known_ones = bridges.filter(|bridge| self.links.contains_key(bridge));
                self.dirty.some_links.extend(known_ones.chain([ifindex]));
            }
            _ => self.dirty.links = true,
        }
    }

    /// Removes a link, with what depends on its ifindex, which another device may get.
    pub fn forget_link(&mut self, ifindex: u32) {
        self.remove_link(ifindex);
        self.inner.remove(&ifindex);
        self.attached.remove(&ifindex);
        self.xdp_attached.remove(&ifindex);
    }

    /// Applies an event of the namespaces at the other ends of veths: the ports whose inner end it may be about are to be
    /// read. Links of different namespaces may have the same ifindex.
    pub fn apply_peer_event(&mut self, event: &Event) {
        match event {
            Event::Peer { port: Some(port), .. } if !self.links.contains_key(port) => {}
            Event::Peer { port: Some(port), .. } => drop(self.dirty.some_links.insert(*port)),
            Event::Peer { ifindex, port: None } => {
                let ports = self.links.values().filter(|port| port.peer == Some(*ifindex));
                self.dirty.some_links.extend(ports.map(|port| port.ifindex));
            }
            _ => self.dirty.links = true,
        }
    }
}

/// The options by which a bridge calls netfilter; `None` if they are unknown, or it is no bridge.
fn netfilter_calls(link: &LinkFacts) -> Option<BridgeCalls> {
    link.bridge.is_some().then(|| BridgeCalls::default().with_options_of(Some(link)))
}

/// What is dirty in a bridge namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Events were lost: links and rules are to be read.
    pub overrun: bool,
    /// Events of the FDB were lost: the known entries are to be read.
    pub fdb_overrun: bool,
    /// Ports of which entries may be missing, by ifindex: they are to be dumped.
    pub undumped: BTreeSet<u32>,
    /// All links are to be read, and what is attached to them.
    pub links: bool,
    /// Links, by ifindex, that are to be read, with what is attached to them.
    pub some_links: BTreeSet<u32>,
    /// Packet sockets and rules are to be read.
    pub rules: bool,
    /// Any port may have changed, and any station with it.
    pub ports: bool,
    /// Links that have changed, by ifindex, with the names that they have or had: their ports are to be evaluated.
    pub changed: BTreeSet<(u32, String)>,
    /// Addresses whose entries have changed.
    pub stations: BTreeSet<[u8; 6]>,
    /// Whether something was stale when the last grace period ended, and has not been read since.
    pub unread_events: bool,
}

impl Dirty {
    /// Nothing of the namespace is known.
    #[must_use]
    pub fn all() -> Self {
        Self { fdb_overrun: true, links: true, rules: true, ports: true, ..Self::default() }
    }

    /// Whether something is to be read at once. Dumps of ports can wait.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.overrun || self.fdb_overrun || self.links || !self.some_links.is_empty() || self.rules
    }

    /// Whether anything may have changed, without an event that says what.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.overrun || self.rules
    }
}

/// The links of a namespace, by ifindex and by name. Readers use it as a [`BTreeMap`] by ifindex.
#[derive(Clone, Debug, Default)]
pub struct LinkTable {
    by_index: BTreeMap<u32, LinkFacts>,
    indexes: HashMap<String, u32>,
}

impl LinkTable {
    /// The link of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&LinkFacts> {
        self.by_index.get(self.indexes.get(name)?)
    }

    /// Whether a link is known like this, and by its name.
    #[must_use]
    pub fn has(&self, link: &LinkFacts) -> bool {
        self.by_index.get(&link.ifindex) == Some(link) && self.indexes.get(&link.name) == Some(&link.ifindex)
    }

    /// Adds a link. Replaces one with its ifindex.
    pub fn insert(&mut self, ifindex: u32, link: LinkFacts) {
        self.remove(ifindex);
        self.indexes.insert(link.name.clone(), ifindex);
        self.by_index.insert(ifindex, link);
    }

    /// Removes a link.
    pub fn remove(&mut self, ifindex: u32) {
        if let Some(link) = self.by_index.remove(&ifindex)
            && self.indexes.get(&link.name) == Some(&ifindex)
        {
            self.indexes.remove(&link.name);
        }
    }

    /// Sets the bridge and the port attributes of a link. Returns whether that is a change.
    fn set_port(
        &mut self,
        ifindex: u32,
        bridge: Option<u32>,
        attributes: Option<&Vec<PortAttribute>>,
    ) -> bool {
        let Some(link) = self.by_index.get_mut(&ifindex) else { return false };
        let is_changed = (link.controller, link.port.as_ref()) != (bridge, attributes);
        if is_changed {
            (link.controller, link.port) = (bridge, attributes.cloned());
        }
        is_changed
    }

    /// A link, to change anything but its name.
    #[cfg(test)]
    pub fn get_mut(&mut self, ifindex: &u32) -> Option<&mut LinkFacts> {
        self.by_index.get_mut(ifindex)
    }
}

impl Deref for LinkTable {
    type Target = BTreeMap<u32, LinkFacts>;

    fn deref(&self) -> &Self::Target {
        &self.by_index
    }
}

impl FromIterator<LinkFacts> for LinkTable {
    fn from_iter<I: IntoIterator<Item = LinkFacts>>(links: I) -> Self {
        let mut all = Self::default();
        links.into_iter().for_each(|link| all.insert(link.ifindex, link));
        all
    }
}

impl<const N: usize> From<[(u32, LinkFacts); N]> for LinkTable {
    fn from(links: [(u32, LinkFacts); N]) -> Self {
        let mut all = Self::default();
        links.into_iter().for_each(|(ifindex, link)| all.insert(ifindex, link));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_coming_up_until_its_bridge_forwards_to_it() {
        let [port, bridge]: [IfName; 2] = ["vp0", "br0"].map(|name| name.parse().unwrap());
        let coming_up = |port_up, bridge_up, controller, state| {
            let link = |ifindex, name: &IfName, up| LinkFacts {
                ifindex,
                name: name.to_string(),
                up,
                ..LinkFacts::default()
            };
            let on_bridge = LinkFacts {
                controller,
                port: Some(vec![PortAttribute::State(state)]),
                ..link(1, &port, port_up)
            };
            let facts = NetnsState {
                links: [(1, on_bridge), (2, link(2, &bridge, bridge_up))].into(),
                ..NetnsState::default()
            };
            facts.is_coming_up(&port, &bridge)
        };
        use BridgePortState as State;
        assert!(!coming_up(true, true, Some(2), State::Forwarding));
        assert!(coming_up(true, true, Some(2), State::Disabled));
        assert!(coming_up(true, true, Some(2), State::Learning));
        assert!(coming_up(false, true, Some(2), State::Disabled));
        assert!(coming_up(true, false, Some(2), State::Disabled));
        assert!(!coming_up(true, true, None, State::Disabled), "somebody has taken it off");
        assert!(!NetnsState::default().is_coming_up(&port, &bridge), "it is gone");
    }

    fn link(ifindex: u32, name: &str) -> LinkFacts {
        LinkFacts { ifindex, name: name.to_owned(), ..LinkFacts::default() }
    }

    #[test]
    fn a_link_is_found_by_the_name_that_it_has_now() {
        let mut links: LinkTable = [link(1, "lo"), link(2, "a")].into_iter().collect();
        assert_eq!(links.named("a").map(|link| link.ifindex), Some(2));
        links.insert(2, link(2, "b"));
        assert!(links.named("a").is_none() && links.named("b").is_some());
        links.insert(3, link(3, "b"));
        links.remove(2);
        assert_eq!(links.named("b").map(|link| link.ifindex), Some(3), "it has taken the name over");
        links.remove(3);
        assert_eq!((links.named("b").is_none(), links.len()), (true, 1));
    }
}
