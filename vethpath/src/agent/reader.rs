//! Reads the state of a bridge namespace: what events do not report, or report too late.

use std::{
    collections::{BTreeSet, HashMap},
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

    /// Applies a changed topology to the namespace of `place`.
    pub fn reload(&mut self, topology: &Topology, place: &Place) {
        self.own_tables = own_tables(topology, place);
        // Guest ports stay, unless their bridge has none any more. Otherwise their records would be removed.
        let guests: Vec<LabPort> = self.layout.guests().cloned().collect();
        self.layout = Layout::of(topology, self.layout.domain, place);
        let has_guests = |port: &LabPort| {
            self.layout.bridges.iter().any(|bridge| bridge.guests && bridge.name == port.bridge)
        };
        let guests = guests.into_iter().filter(has_guests).collect();
        let _ = self.layout.set_guests(guests);
    }

    /// Reads links, qdiscs, and the programs on the ports. The kernel sends no event for some changes, such as those of
    /// GSO limits (`do_setlink` in net/core/rtnetlink.c) and of programs attached by a BPF link. Returns whether anything
    /// changed.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read_links(&mut self, facts: &mut NetnsState) -> Result<bool> {
        let own = self.read_own_links(facts)?;
        let of =
            |facts: &NetnsState| (facts.qdiscs.clone(), facts.xdp_attached.clone(), facts.unreadable.clone());
        let before = of(facts);
        // Events about these that arrive from here on are about what is read now, or later.
        let were_unread = !std::mem::take(&mut facts.unread).is_empty();
        self.clsact = self.read_qdiscs(facts);
        self.read_xdp_programs(facts);
        Ok(own | were_unread | self.read_programs(facts) || before != of(facts))
    }

    /// Reads the links of the ports with these numbers in the layout, and those of trunks. Returns whether anything
    /// changed.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read_ports(&mut self, facts: &mut NetnsState, ports: &[usize]) -> Result<bool> {
        let pairs = ports.iter().filter_map(|&at| facts.link_of(self.layout.ports.get(at)?));
        let trunks = self.layout.trunks.iter().flat_map(|trunk| &trunk.ends);
        let trunks = trunks.filter_map(|end| facts.link(&end.port));
        let ifindexes: Vec<u32> = pairs.chain(trunks).map(|link| link.ifindex).collect();
        let mut changed = false;
        // Of one that is gone there is an event.
        for link in self.socket.raw_links_at(&ifindexes)?.into_iter().flatten() {
            changed |= self.update_link(facts, &link)?;
        }
        Ok(changed)
    }

    /// Reads the links of the namespace. A reply that is equal to the last one is not parsed. Returns whether
    /// anything changed.
    fn read_own_links(&mut self, facts: &mut NetnsState) -> Result<bool> {
        let links = self.socket.raw_links()?;
        let present: BTreeSet<u32> = links.iter().map(RawLink::ifindex).collect();
        let gone: Vec<u32> =
            facts.links.keys().filter(|&ifindex| !present.contains(ifindex)).copied().collect();
        gone.iter().for_each(|&ifindex| facts.links.remove(ifindex));
        self.link_replies.retain(|ifindex, _| present.contains(ifindex));
        let mut changed = !gone.is_empty();
        for link in links {
            changed |= self.update_link(facts, &link)?;
        }
        Ok(changed)
    }

    /// Applies a reply about a link of the namespace. Returns whether anything changed.
    fn update_link(&mut self, facts: &mut NetnsState, reply: &RawLink) -> Result<bool> {
        let (ifindex, hash) = (reply.ifindex(), hash(reply));
        if self.link_replies.insert(ifindex, hash) == Some(hash) && facts.links.contains_key(&ifindex) {
            return Ok(false);
        }
        let link = reply.read()?;
        let is_changed = !facts.links.has(&link);
        if is_changed {
            facts.links.insert(ifindex, link);
        }
        Ok(is_changed)
    }

    /// Reads the inner ends of the ports with these numbers in the layout, with counters for pairs that are `busy`.
    /// Returns whether anything changed.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read_inner_ends(
        &mut self,
        facts: &mut NetnsState,
        ports: &[usize],
        busy: impl Fn(u32) -> bool,
    ) -> Result<bool> {
        let ports = ports.iter().filter_map(|&at| self.layout.ports.get(at));
        let (busy, quiet): (Vec<_>, Vec<_>) = ports.partition(|port| busy(port.counter));
        let indexes = [(busy, true), (quiet, false)].map(|(ports, counting)| {
            let links = ports.into_iter().filter_map(|port| facts.link_of(port));
            (links.map(|link| link.ifindex).collect::<Vec<_>>(), counting)
        });
        let mut changed = false;
        for (ports, counting) in indexes {
            changed |= self.read_peers(facts, &ports, counting)?;
        }
        facts.largest_gso =
            facts.inner.values().map(|inner| inner.gso).fold(GsoLimits::default(), GsoLimits::max);
        Ok(changed)
    }

    fn read_peers(&mut self, facts: &mut NetnsState, ports: &[u32], counting: bool) -> Result<bool> {
        let NetnsState { links, inner, .. } = facts;
        let ports: Vec<&LinkFacts> = ports.iter().filter_map(|ifindex| links.get(ifindex)).collect();
        let mut changed = false;
        for (port, peer) in ports.iter().zip(self.socket.peers(ports.iter().copied(), counting)?) {
            let Some(peer) = peer else {
                changed |= inner.remove(&port.ifindex).is_some();
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
            changed |= known.is_none_or(|known| !known.is_equal_but_for_counters(&peer));
            inner.insert(port.ifindex, peer);
        }
        // Otherwise the state of a removed port would be used for the next one with its ifindex.
        inner.retain(|ifindex, _| links.contains_key(ifindex));
        self.peer_replies.retain(|ifindex, _| links.contains_key(ifindex));
        Ok(changed)
    }

    /// Forgets the last reply about a link: an event has changed what is known of it.
    pub fn forget_reply(&mut self, ifindex: u32) {
        let _ = self.link_replies.remove(&ifindex);
    }

    /// Records which ports run our XDP program in the driver.
    fn read_xdp_programs(&self, facts: &mut NetnsState) {
        facts.xdp_attached.clear();
        if !self.layout.has_xdp() {
            return;
        }
        let ours = datapath::xdp_id(&self.pins, self.layout.domain.into()).unwrap_or_else(|error| {
            warn!("{error}");
            None
        });
        let runs_ours =
            |link: &&LinkFacts| link.xdp == XdpMode::Native && ours.is_some() && link.xdp_program == ours;
        facts.xdp_attached = facts.links.values().filter(runs_ours).map(|link| link.ifindex).collect();
    }

    /// Records which ports run our program, and which run others. Returns whether anything changed.
    pub fn read_programs(&self, facts: &mut NetnsState) -> bool {
        let found = self.programs_on_ports(facts);
        let was_unreadable = facts.unreadable.get(&Blocker::Programs).cloned();
        let (attached, foreign) = facts.record_reply(Blocker::Programs, found).unwrap_or_default();
        let is_changed = (&facts.attached, &facts.foreign) != (&attached, &foreign)
            || facts.unreadable.get(&Blocker::Programs) != was_unreadable.as_ref();
        (facts.attached, facts.foreign) = (attached, foreign);
        is_changed
    }

    /// The ports that run our program, and those with other programs or filters, by ifindex.
    fn programs_on_ports(&self, facts: &NetnsState) -> Result<(BTreeSet<u32>, BTreeSet<u32>)> {
        let ports = self.layout.all_ports().filter_map(|(port, _)| Some(facts.link(port)?.ifindex));
        let ports: Vec<u32> = ports.collect();
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
        let mut hooks = BTreeSet::new();
        facts.qdiscs.clear();
        let qdiscs = self.socket.qdiscs();
        for qdisc in facts.record_reply(Blocker::Qdiscs, qdiscs).unwrap_or_default() {
            match qdisc.kind.as_str() {
                NO_QUEUE => {}
                "clsact" | "ingress" => {
                    hooks.insert(qdisc.ifindex);
                }
                _ => {
                    facts.qdiscs.insert(qdisc.ifindex, qdisc.kind);
                }
            }
        }
        hooks
    }
}

/// The tables of a lab in a place.
fn own_tables(topology: &Topology, place: &Place) -> Vec<Masquerade> {
    Masquerade::of(topology).into_iter().filter(|own| &own.place == place).collect()
}

fn hash(link: &RawLink) -> u64 {
    let mut hasher = DefaultHasher::new();
    link.bytes().hash(&mut hasher);
    hasher.finish()
}
