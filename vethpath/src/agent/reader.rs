//! Reads the state of a bridge namespace: what events do not report, or report too late.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use log::warn;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_SOCK_DIAG};

use super::{
    layout::{LabPort, Layout},
    netns_state::{Blocker, NetnsState},
};
use crate::{
    datapath::{self, Attached, Hook, Pins},
    kernel::{
        FilterFacts, GsoLimits, LinkFacts, Netns, RawLink, Result, RouteSocket, Source, XdpMode, ethtool,
        generic::Family, xdp,
    },
    topology::{Masquerade, Place, Topology},
};

/// The default qdisc of virtual devices, which does not queue.
const NO_QUEUE: &str = "noqueue";

/// Sockets and caches for reading a bridge namespace.
pub struct Reader {
    /// The lab's layout in the bridge namespace.
    pub layout: Layout,
    /// The lab's pins.
    pub pins: Pins,
    /// How programs are attached.
    pub hook: Hook,
    /// The lab's tables for `nat` in the namespace.
    pub own_tables: Vec<Masquerade>,
    /// Netlink requests to it.
    pub socket: RouteSocket,
    /// Its packet sockets.
    pub(super) diagnosis: Source,
    /// Its rules.
    pub(super) netfilter: Source,
    /// Its devices' features.
    pub(super) ethtool: Family,
    /// Its devices' XDP features.
    pub(super) netdev: Family,
    /// By the ifindex of a port: hash of the kernel's last reply about its inner end.
    peer_replies: HashMap<u32, u64>,
    /// By ifindex: hash of the kernel's last reply about a link of the namespace.
    link_replies: HashMap<u32, u64>,
    /// Links with a `clsact` or `ingress` qdisc.
    clsact: BTreeSet<u32>,
}

impl Reader {
    /// Opens sockets in the namespace of `place`, which is `domain` in the map keys.
    ///
    /// # Errors
    /// No socket can be opened in it.
    pub fn open(
        netns: &Netns,
        domain: u16,
        place: &Place,
        topology: &Topology,
        pins: &Pins,
        hook: Hook,
    ) -> Result<Self> {
        Ok(Self {
            layout: Layout::of(topology, domain, place),
            pins: pins.clone(),
            hook,
            own_tables: own_tables(topology, place),
            socket: RouteSocket::open(netns)?,
            diagnosis: Source::new(netns, NETLINK_SOCK_DIAG),
            netfilter: Source::new(netns, NETLINK_NETFILTER),
            ethtool: Family::new(netns, ethtool::FAMILY),
            netdev: Family::new(netns, xdp::FAMILY),
            peer_replies: HashMap::new(),
            link_replies: HashMap::new(),
            clsact: BTreeSet::new(),
        })
    }

    /// Applies a changed topology to the namespace.
    pub fn reload(&mut self, topology: &Topology) {
        self.own_tables = own_tables(topology, &self.layout.place);
        // Guest ports stay, unless their bridge has none any more. Otherwise their records would be removed.
        let guests: Vec<LabPort> = self.layout.guests().cloned().collect();
        self.layout = Layout::of(topology, self.layout.domain, &self.layout.place);
        let has_guests = |port: &LabPort| {
            self.layout.bridges.iter().any(|bridge| bridge.guests && bridge.name == port.bridge)
        };
        let guests = guests.into_iter().filter(has_guests).collect();
        let _ = self.layout.set_guests(guests);
    }

    /// Reads links, qdiscs, and the programs on the ports. The kernel sends no event for some changes, such as those of
    /// GSO limits (`do_setlink` in net/core/rtnetlink.c) and of programs attached by a BPF link.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read_links(&mut self, facts: &mut NetnsState) -> Result<()> {
        self.read_own_links(facts)?;
        // Events about these that arrive from here on are about what is read now, or later.
        let unread = std::mem::take(&mut facts.unread);
        facts.mark_changed(unread);
        self.clsact = self.read_qdiscs(facts);
        self.read_xdp_programs(facts);
        self.read_programs(facts);
        Ok(())
    }

    /// Reads some links, by ifindex, the programs on them, and their inner ends. If one of them has another name, everything
    /// is to be read.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read_some_links(&mut self, facts: &mut NetnsState, some: &BTreeSet<u32>) -> Result<()> {
        let ifindexes: Vec<u32> = some.iter().copied().collect();
        for (&ifindex, reply) in ifindexes.iter().zip(self.socket.raw_links_at(&ifindexes)?) {
            let Some(reply) = reply else {
                self.forget_reply(ifindex);
                facts.forget_link(ifindex);
                continue;
            };
            let name = |facts: &NetnsState| facts.links.get(&ifindex).map(|link| link.name.clone());
            let known = name(facts);
            self.update_link(facts, &reply)?;
            facts.dirty.links |= known != name(facts);
        }
        let found = self.programs_on_ports(facts, Some(some));
        let (attached, foreign) = facts.record_reply(Blocker::Programs, found).unwrap_or_default();
        let mut changed = replace(&mut facts.attached, some, &attached);
        changed.extend(replace(&mut facts.foreign, some, &foreign));
        facts.mark_changed(changed);
        let is_one = |port: &LabPort| facts.link_of(port).is_some_and(|link| some.contains(&link.ifindex));
        let ports = self.layout.ports.iter().enumerate().filter(|(_, port)| is_one(port));
        let ports: Vec<usize> = ports.map(|(at, _)| at).collect();
        self.read_inner_ends(facts, &ports, |_| false)
    }

    /// Reads the links of the ports with these numbers in the layout, and those of trunks.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read_ports(&mut self, facts: &mut NetnsState, ports: &[usize]) -> Result<()> {
        let pairs = ports.iter().filter_map(|&at| facts.link_of(self.layout.ports.get(at)?));
        let trunks = self.layout.trunk_ends().filter_map(|end| facts.link(&end.port));
        let ifindexes: Vec<u32> = pairs.chain(trunks).map(|link| link.ifindex).collect();
        self.read_links_at(facts, &ifindexes)
    }

    /// Reads the bridges. The kernel changes the ageing time and the forward delay of a bridge with spanning tree without
    /// an event (`__br_set_topology_change`, `br_record_config_timeout_values` in net/bridge/br_stp.c).
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read_bridges(&mut self, facts: &mut NetnsState) -> Result<()> {
        let bridges = self.layout.bridges.iter().filter_map(|bridge| facts.link(&bridge.name));
        let ifindexes: Vec<u32> = bridges.map(|link| link.ifindex).collect();
        self.read_links_at(facts, &ifindexes)
    }

    fn read_links_at(&mut self, facts: &mut NetnsState, ifindexes: &[u32]) -> Result<()> {
        // Of one that is gone there is an event.
        let links = self.socket.raw_links_at(ifindexes)?;
        links.into_iter().flatten().try_for_each(|link| self.update_link(facts, &link))
    }

    /// Reads the links of the namespace. A reply that is equal to the last one is not parsed.
    fn read_own_links(&mut self, facts: &mut NetnsState) -> Result<()> {
        let links = self.socket.raw_links()?;
        let present: BTreeSet<u32> = links.iter().map(RawLink::ifindex).collect();
        let gone: Vec<u32> =
            facts.links.keys().filter(|&ifindex| !present.contains(ifindex)).copied().collect();
        gone.iter().for_each(|&ifindex| facts.remove_link(ifindex));
        self.link_replies.retain(|ifindex, _| present.contains(ifindex));
        links.iter().try_for_each(|link| self.update_link(facts, link))
    }

    /// Applies a reply about a link of the namespace.
    fn update_link(&mut self, facts: &mut NetnsState, reply: &RawLink) -> Result<()> {
        let (ifindex, hash) = (reply.ifindex(), hash(reply));
        if self.link_replies.insert(ifindex, hash) != Some(hash) || !facts.links.contains_key(&ifindex) {
            // As events have it.
            let link = reply.read()?.without_counters();
            if !facts.links.has(&link) {
                facts.set_link(link);
            }
        }
        Ok(())
    }

    /// Reads the inner ends of the ports with these numbers in the layout, with counters for pairs that are `busy`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read_inner_ends(
        &mut self,
        facts: &mut NetnsState,
        ports: &[usize],
        busy: impl Fn(u32) -> bool,
    ) -> Result<()> {
        let ports = ports.iter().filter_map(|&at| self.layout.ports.get(at));
        let (busy, quiet): (Vec<_>, Vec<_>) = ports.partition(|port| busy(port.counter));
        let indexes = [(busy, true), (quiet, false)].map(|(ports, counting)| {
            let links = ports.into_iter().filter_map(|port| facts.link_of(port));
            (links.map(|link| link.ifindex).collect::<Vec<_>>(), counting)
        });
        for (ports, counting) in indexes {
            self.read_peers(facts, &ports, counting)?;
        }
        let limits = facts.inner.values().map(|inner| inner.gso).fold(GsoLimits::default(), GsoLimits::max);
        // Frames may have to be segmented at any other port now.
        facts.dirty.ports |= limits != facts.largest_gso;
        facts.largest_gso = limits;
        Ok(())
    }

    fn read_peers(&mut self, facts: &mut NetnsState, ports: &[u32], counting: bool) -> Result<()> {
        let NetnsState { links, inner, .. } = facts;
        let ports: Vec<&LinkFacts> = ports.iter().filter_map(|ifindex| links.get(ifindex)).collect();
        let mut changed = Vec::new();
        for (port, peer) in ports.iter().zip(self.socket.peers(ports.iter().copied(), counting)?) {
            let Some(peer) = peer else {
                changed.extend(inner.remove(&port.ifindex).map(|_| port.ifindex));
                self.peer_replies.remove(&port.ifindex);
                continue;
            };
            let hash = hash(&peer);
            if self.peer_replies.insert(port.ifindex, hash) == Some(hash) && inner.contains_key(&port.ifindex)
            {
                continue;
            }
            let mut peer = peer.read()?;
            let known = inner.get(&port.ifindex);
            if let Some(known) = known.filter(|known| !counting && known.ifindex == peer.ifindex) {
                // A loss is detected by the counters that were read last.
                (peer.sent, peer.received) = (known.sent, known.received);
                (peer.dropped, peer.refused) = (known.dropped, known.refused);
            }
            if known.is_none_or(|known| !known.is_equal_but_for_counters(&peer)) {
                changed.push(port.ifindex);
            }
            inner.insert(port.ifindex, peer);
        }
        // Otherwise the state of a removed port would be used for the next one with its ifindex.
        inner.retain(|ifindex, _| links.contains_key(ifindex));
        self.peer_replies.retain(|ifindex, _| links.contains_key(ifindex));
        facts.mark_changed(changed);
        Ok(())
    }

    /// Forgets the last reply about a link: an event has changed what is known of it.
    pub fn forget_reply(&mut self, ifindex: u32) {
        let _ = self.link_replies.remove(&ifindex);
    }

    /// Records which ports run our XDP program in the driver.
    fn read_xdp_programs(&self, facts: &mut NetnsState) {
        if !self.layout.has_xdp() {
            facts.xdp_attached.clear();
            return;
        }
        let ours = datapath::xdp_id(&self.pins, self.layout.domain.into()).unwrap_or_else(|error| {
            warn!("{error}");
            None
        });
        let runs_ours =
            |link: &&LinkFacts| link.xdp == XdpMode::Native && ours.is_some() && link.xdp_program == ours;
        let attached = facts.links.values().filter(runs_ours).map(|link| link.ifindex).collect();
        let changed = difference(&facts.xdp_attached, &attached);
        facts.xdp_attached = attached;
        facts.mark_changed(changed);
    }

    /// Records which ports run our program, and which run others.
    pub fn read_programs(&self, facts: &mut NetnsState) {
        let found = self.programs_on_ports(facts, None);
        let (attached, foreign) = facts.record_reply(Blocker::Programs, found).unwrap_or_default();
        let mut changed = difference(&facts.attached, &attached);
        changed.extend(difference(&facts.foreign, &foreign));
        (facts.attached, facts.foreign) = (attached, foreign);
        facts.mark_changed(changed);
    }

    /// The ports that run our program, and those with other programs or filters, by ifindex: of all, or of some.
    fn programs_on_ports(
        &self,
        facts: &NetnsState,
        only: Option<&BTreeSet<u32>>,
    ) -> Result<(BTreeSet<u32>, BTreeSet<u32>)> {
        let ports = self.layout.all_ports().filter_map(|(port, _)| Some(facts.link(port)?.ifindex));
        let ports: Vec<u32> = ports.filter(|port| only.is_none_or(|some| some.contains(port))).collect();
        let domain = u32::from(self.layout.domain);
        let Attached { ours: mut attached, mut foreign, program } =
            datapath::attached_by_index(self.socket.netns(), &self.pins, domain, &ports)?;
        if self.hook == Hook::Clsact {
            attached.clear();
        }
        // A link without a pin is about to be released.
        for ifindex in self.layout.guests().filter_map(|port| port.guest).filter(|_| self.hook == Hook::Tcx) {
            if !self.pins.guest_link(self.layout.domain, ifindex).exists() {
                attached.remove(&ifindex);
            }
        }
        for &ifindex in ports.iter().filter(|ifindex| self.clsact.contains(ifindex)) {
            let (ingress, mut egress) = self.socket.clsact_filters(ifindex)?;
            // An `ingress` qdisc has no egress hook. It replies to a dump of egress with the filters of ingress
            // (`ingress_tcf_block` in net/sched/sch_ingress.c).
            egress.retain(|filter| !ingress.contains(filter));
            let is_clsact = self.hook == Hook::Clsact;
            let is_ours = |filter: &FilterFacts| is_clsact && datapath::is_our_filter(filter, program);
            let is_known =
                |filter: &FilterFacts| is_ours(filter) || is_clsact && datapath::is_our_classifier(filter);
            if ingress.iter().any(is_ours) {
                attached.insert(ifindex);
            }
            if !egress.is_empty() || !ingress.iter().all(is_known) {
                foreign.insert(ifindex);
            }
        }
        Ok((attached, foreign))
    }

    /// Records qdiscs that queue. Returns the links with a `clsact` or `ingress` qdisc.
    fn read_qdiscs(&self, facts: &mut NetnsState) -> BTreeSet<u32> {
        let (mut hooks, mut queues) = (BTreeSet::new(), BTreeMap::new());
        let qdiscs = self.socket.qdiscs();
        for qdisc in facts.record_reply(Blocker::Qdiscs, qdiscs).unwrap_or_default() {
            match qdisc.kind.as_str() {
                NO_QUEUE => {}
                "clsact" | "ingress" => {
                    hooks.insert(qdisc.ifindex);
                }
                _ => {
                    queues.insert(qdisc.ifindex, qdisc.kind);
                }
            }
        }
        let known = facts.qdiscs.keys().chain(queues.keys());
        let changed: Vec<u32> =
            known.filter(|ifindex| facts.qdiscs.get(ifindex) != queues.get(ifindex)).copied().collect();
        facts.qdiscs = queues;
        facts.mark_changed(changed);
        hooks
    }
}

/// The tables of a lab in a place.
fn own_tables(topology: &Topology, place: &Place) -> Vec<Masquerade> {
    Masquerade::of(topology).into_iter().filter(|own| &own.place == place).collect()
}

/// The links that are in one set alone.
pub(super) fn difference(before: &BTreeSet<u32>, now: &BTreeSet<u32>) -> Vec<u32> {
    before.symmetric_difference(now).copied().collect()
}

/// Makes a set contain, of `some` links, those that `now` has. Returns the links that this has changed.
pub(super) fn replace(set: &mut BTreeSet<u32>, some: &BTreeSet<u32>, now: &BTreeSet<u32>) -> Vec<u32> {
    let changed: Vec<u32> =
        some.iter().filter(|link| set.contains(link) != now.contains(link)).copied().collect();
    for &link in &changed {
        if !set.remove(&link) {
            set.insert(link);
        }
    }
    changed
}

fn hash(link: &RawLink) -> u64 {
    let mut hasher = DefaultHasher::new();
    link.bytes().hash(&mut hasher);
    hasher.finish()
}
