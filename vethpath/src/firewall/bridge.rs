//! What the rules of a namespace do to the packets of one bridge and family.

use ipnet::IpNet;

use super::{
    MOST_PORTS,
    drop::{By, Drop, Kind},
    machine::Machine,
};
use crate::{
    kernel::netfilter::{
        BridgeCalls, ESTABLISHED, FILTER, Family, HookPoint, LegacyTable, NEW, Packets, UNTRACKED, Verdict,
    },
    topology::{AcceptRule, Bridge, IfName, Pair, Topology},
};

/// A bridge, and the packets of one family there.
pub(super) struct OnBridge<'a> {
    pub(super) topology: &'a Topology,
    pub(super) machine: &'a Machine,
    pub(super) bridge: &'a Bridge,
    /// The input device of packets that are masqueraded here, if any are.
    pub(super) device: Option<&'a IfName>,
    pub(super) family: Family,
}

impl OnBridge<'_> {
    fn pairs(&self) -> impl Iterator<Item = &Pair> {
        let is_here = |pair: &&Pair| pair.place == self.bridge.place && pair.bridge == self.bridge.name;
        self.topology.pairs.iter().filter(is_here)
    }

    /// The subnets of addresses, of this family.
    fn subnets<'n>(&self, addresses: impl Iterator<Item = &'n IpNet>) -> Vec<IpNet> {
        let is_of_family = |net: &&IpNet| net.addr().is_ipv4() == (self.family == Family::Ip);
        let mut subnets: Vec<_> = addresses.filter(is_of_family).map(IpNet::trunc).collect();
        subnets.sort_unstable();
        subnets.dedup();
        subnets
    }

    /// Which tables the bridge calls. Its own options enable calls in addition to the namespace's settings.
    fn calls(&self) -> BridgeCalls {
        let link = self.machine.links.iter().find(|link| link.name == self.bridge.name.as_str());
        self.machine.calls.with_options_of(link)
    }

    pub(super) fn is_called(&self, calls: BridgeCalls) -> bool {
        if self.family == Family::Ip { calls.iptables } else { calls.ip6tables }
    }

    /// Packets between two hosts.
    pub(super) fn between_hosts(&self) -> Option<Drop> {
        const HOOKS: [HookPoint; 3] = [HookPoint::Prerouting, HookPoint::Forward, HookPoint::Postrouting];
        let subnets = self.subnets(self.pairs().flat_map(|pair| &pair.inner.addresses));
        let ports: Vec<&str> = self.pairs().map(|pair| pair.port.as_str()).take(MOST_PORTS).collect();
        if ports.len() < 2 || subnets.is_empty() {
            return None;
        }
        let link_local = ["fe80::/10".parse::<IpNet>(), "ff02::1:ff00:0/104".parse()].map(Result::ok);
        let neighbours: Vec<_> = subnets.iter().copied().chain(link_local[0]).collect();
        let groups: Vec<_> = neighbours.iter().copied().chain(link_local[1]).collect();
        let verdict = |families: &[Family], from, to| {
            let packets = Packets {
                family: self.family,
                in_devices: &[from],
                out_devices: &[to],
                are_bridged: true,
                state: NEW,
                sources: &subnets,
                destinations: &subnets,
            };
            // ARP and neighbour discovery are not tracked, and the latter goes to groups. Without them there are no other
            // packets.
            let discovery = match self.family {
                Family::Ip => Packets { family: Family::Arp, sources: &[], destinations: &[], ..packets },
                _ => Packets { sources: &neighbours, destinations: &groups, ..packets },
            };
            let is_seen = self.family != Family::Ip || families == [Family::Bridge];
            let discovery = Some(Packets { state: UNTRACKED, ..discovery }).filter(|_| is_seen);
            let all = [Some(packets), discovery].into_iter().flatten();
            all.flat_map(|packets| HOOKS.map(|hook| self.machine.verdict(hook, families, packets))).max()
        };
        let bridge = self.bridge.name.as_str();
        let calls = self.calls();
        let by_calls =
            self.is_called(calls).then(|| verdict(&[self.family, Family::Inet], bridge, bridge)).flatten();
        let next = ports.iter().cycle().skip(1);
        let both_ways = ports.iter().zip(next).flat_map(|(a, b)| [(a, b), (b, a)]);
        let by_port: Vec<_> =
            both_ways.filter_map(|(from, to)| verdict(&[Family::Bridge], from, to)).collect();
        let is_certain = |verdict: &Verdict| matches!(verdict, Verdict::Drop(_));
        // If some ports reach each other, rules may separate the others on purpose.
        let by_port = match by_port.iter().all(is_certain) {
            true => by_port.into_iter().max(),
            false => by_port.into_iter().max().map(Verdict::lessened),
        };
        let sees = |table: &&LegacyTable| {
            table.name == FILTER && table.sees(calls) && [self.family, Family::Bridge].contains(&table.family)
        };
        let legacy = self.machine.unread.iter().find(sees);
        self.worst(Kind::Bridged, None, by_calls.into_iter().chain(by_port), legacy)
    }

    /// Packets that are routed between hosts of this bridge and another one.
    pub(super) fn and(&self, other: &Bridge) -> Option<Drop> {
        let bridges = [self.bridge, other];
        let subnets = bridges.map(|bridge| self.subnets(bridge.addresses.iter()));
        if self.bridge.name == other.name || subnets.iter().any(Vec::is_empty) {
            return None;
        }
        let verdict = |from: usize, to: usize, state| {
            let packets = Packets {
                family: self.family,
                in_devices: &[bridges[from].name.as_str()],
                out_devices: &[bridges[to].name.as_str()],
                are_bridged: false,
                state,
                sources: &subnets[from],
                destinations: &subnets[to],
            };
            self.machine.verdict(HookPoint::Forward, &[self.family, Family::Inet], packets)
        };
        let both =
            [(0, 1), (1, 0)].map(|(from, to)| verdict(from, to, NEW).max(verdict(to, from, ESTABLISHED)));
        // Where one side reaches the other, that may be as it is wanted.
        let worst = both.into_iter().min()?;
        self.worst(Kind::Between, Some(other), [worst].into_iter(), self.unread_filter())
    }

    /// A table that is passed by what is routed, and is not read.
    fn unread_filter(&self) -> Option<&LegacyTable> {
        self.machine.unread.iter().find(|table| table.name == FILTER && table.family == self.family)
    }

    /// Packets that are masqueraded here, and their replies. Only chains of the forward hook are checked: at the other hooks,
    /// addresses are not translated yet, or already.
    pub(super) fn routed(&self) -> Vec<Drop> {
        let legacy = self.unread_filter();
        let verdicts = [Kind::Sent, Kind::Replies].into_iter().zip(self.routed_verdicts());
        verdicts.filter_map(|(kind, verdict)| self.worst(kind, None, [verdict].into_iter(), legacy)).collect()
    }

    /// The verdicts on packets to other networks and on the replies; empty without such networks.
    pub(super) fn routed_verdicts(&self) -> Vec<Verdict> {
        let subnets = self.subnets(self.bridge.addresses.iter());
        let is_concerned = self.device.is_some() && !subnets.is_empty();
        let uplinks = self.machine.uplinks(self.family).filter(|_| is_concerned);
        let by_uplink: Vec<_> =
            uplinks.into_iter().flatten().map(|uplink| self.routed_by(uplink, &subnets)).collect();
        let of = |direction: usize| {
            let all = by_uplink.iter().map(|verdicts| verdicts[direction].clone());
            let is_certain = |verdict: &[Verdict; 2]| matches!(verdict[direction], Verdict::Drop(_));
            match by_uplink.iter().all(is_certain) {
                true => all.max(),
                false => all.max().map(Verdict::lessened),
            }
        };
        [0, 1].into_iter().filter_map(of).collect()
    }

    /// The verdicts on packets that leave by one device and on the replies.
    fn routed_by(&self, uplink: &str, subnets: &[IpNet]) -> [Verdict; 2] {
        let bridge = [self.device.map_or("", IfName::as_str)];
        let sent = Packets {
            family: self.family,
            in_devices: &bridge,
            out_devices: &[uplink],
            are_bridged: false,
            state: NEW,
            sources: subnets,
            destinations: &[],
        };
        let replies = Packets {
            in_devices: &[uplink],
            out_devices: &bridge,
            state: ESTABLISHED,
            sources: &[],
            destinations: subnets,
            ..sent
        };
        let families = [self.family, Family::Inet];
        [sent, replies].map(|packets| self.machine.verdict(HookPoint::Forward, &families, packets))
    }

    /// The devices of default routes that are not the bridges of a container engine.
    fn open_uplinks(&self) -> impl Iterator<Item = &str> {
        let is_open = |uplink: &&str| {
            Some(*uplink) != self.device.map(IfName::as_str) && !self.machine.is_of_engine(uplink)
        };
        self.machine.uplinks(self.family).into_iter().flatten().map(String::as_str).filter(is_open)
    }

    /// The rules that accept packets by these devices, and the replies.
    pub(super) fn accept_rules(&self) -> Vec<AcceptRule> {
        let of = |uplink| self.device.map(|device| AcceptRule::both(device, uplink));
        self.open_uplinks().filter_map(of).flatten().collect()
    }

    fn worst(
        &self,
        kind: Kind,
        to: Option<&Bridge>,
        verdicts: impl Iterator<Item = Verdict>,
        legacy: Option<&LegacyTable>,
    ) -> Option<Drop> {
        let (by, is_certain) = match (verdicts.max()?, legacy) {
            (Verdict::Drop(dropper), _) => (By::Chain(dropper), true),
            (Verdict::MayDrop(dropper), _) => (By::Chain(dropper), false),
            (Verdict::Accept, Some(table)) => (By::Legacy(table.clone()), false),
            (Verdict::Accept, None) => return None,
        };
        let hint = self.hint(kind, to, &by);
        let (bridge, place) = (self.bridge.name.clone(), self.bridge.place.clone());
        let to = to.map(|bridge| bridge.name.clone());
        Some(Drop { bridge, place, kind, to, family: self.family, by, is_certain, hint })
    }
}
