//! Reads who else is interested in a bridge namespace's frames: packet sockets, netfilter rules, offloads.
//!
//! Neither of the first two has reliable events for all changes. So both are scanned each second, and nftables also at each of its
//! events. A netlink family that the kernel does not have yet contains nothing; opening it is retried each second,
//! and when a module is loaded. While a query fails for any other reason, no port is armed
//! ([`NetnsState::unreadable`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use log::warn;

use vethpath_common::flags;

use super::{
    layout::LabBridge,
    netns_state::{self, NetnsState},
    reader::{Reader, difference, replace},
};
use crate::{
    datapath,
    kernel::{
        self, LinkFacts, Netns, ethtool,
        netfilter::{
            BRIDGE_SYSCTLS, BridgeCalls, Hook, LegacyTable, OwnTable, PROC, THREAD_NET, bridge_nf_call,
            ebtables, has_tables, legacy_tables, rules,
        },
        packet_sockets, xdp,
    },
};

/// The netfilter rules of a namespace that are not our own.
struct Rules {
    hooks: Vec<Hook>,
    /// Whether there are nft tables, of a lab or of others.
    has_tables: bool,
    legacy: Vec<LegacyTable>,
    /// Whether BPF programs may be among the rules of IPv4 and IPv6, in any namespace.
    has_programs: bool,
    calls: BridgeCalls,
}

impl Reader {
    /// Scans for packet sockets and rules, and records the result for each port. Returns whether anything changed.
    pub fn scan_interference(&mut self, facts: &mut NetnsState) -> bool {
        let (taps, found) = (self.packet_sockets(), self.rules(facts));
        let unreadable = facts.unreadable.clone();
        let taps = facts.record_reply(netns_state::Blocker::PacketSockets, taps).unwrap_or_default();
        let found = facts.record_reply(netns_state::Blocker::Rules, found);
        let (mut rules, mut validated) = (BTreeMap::new(), BTreeMap::new());
        for (port, bridge) in self.layout.all_ports() {
            let bridge = facts.link(bridge);
            let (reason, checks) = match &found {
                Some(found) => (found.first_blocker(port.as_str(), bridge), found.checks(bridge)),
                None => (None, flags::VALIDATE | flags::DEFRAGMENT),
            };
            rules.extend(reason.map(|reason| (port.to_string(), reason)));
            if checks != 0 {
                let _ = validated.insert(port.to_string(), checks);
            }
        }
        let tapped = difference(&facts.packet_sockets, &taps);
        let is_other = (&facts.rules, &facts.validated) != (&rules, &validated);
        // A socket that is bound to no link sees all.
        facts.dirty.ports |= is_other || tapped.contains(&0);
        let is_changed = is_other || !tapped.is_empty() || unreadable != facts.unreadable;
        (facts.packet_sockets, facts.rules, facts.validated) = (taps, rules, validated);
        facts.mark_changed(tapped);
        is_changed
    }

    /// Reads which links have transmit offloads switched off, and which have several transmit queues. The kernel
    /// reports a change of either like any other change of a link.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read_offloads(&mut self, facts: &mut NetnsState) -> kernel::Result<()> {
        (facts.reduced_offloads, facts.multiqueue) = (None, None);
        facts.reduced_offloads =
            Some(self.ethtool.query(|socket, family| ethtool::reduced_offloads(socket, family, None))?);
        facts.multiqueue =
            Some(self.ethtool.query(|socket, family| ethtool::multiqueue(socket, family, None))?);
        Ok(())
    }

    /// Reads the same of some links; of all, if it is unknown.
    ///
    /// # Errors
    /// The kernel refuses. Then it is unknown of all.
    pub fn read_offloads_of(&mut self, facts: &mut NetnsState, some: &BTreeSet<u32>) -> kernel::Result<()> {
        let (Some(mut reduced), Some(mut multiqueue)) =
            (facts.reduced_offloads.take(), facts.multiqueue.take())
        else {
            return self.read_offloads(facts);
        };
        let only = Some(some);
        let now = self.ethtool.query(|socket, family| ethtool::reduced_offloads(socket, family, only))?;
        let several = self.ethtool.query(|socket, family| ethtool::multiqueue(socket, family, only))?;
        let mut changed = replace(&mut reduced, some, &now);
        changed.extend(replace(&mut multiqueue, some, &several));
        (facts.reduced_offloads, facts.multiqueue) = (Some(reduced), Some(multiqueue));
        facts.mark_changed(changed);
        Ok(())
    }

    /// Reads which ports take XDP frames, and whether their inner ends are ready for XDP, if the lab wants it. The
    /// kernel reports a change like any other change of a link. An inner end that cannot be read is not ready.
    ///
    /// # Errors
    /// The ports cannot be read.
    pub fn read_xdp(&mut self, facts: &mut NetnsState) -> kernel::Result<()> {
        (facts.xdp_takers, facts.ready) = Default::default();
        let Self { layout, socket: here, netdev, .. } = self;
        let wanted = || layout.ports.iter().filter_map(|port| Some((port, port.xdp.as_ref()?)));
        if wanted().next().is_none() {
            return Ok(());
        }
        facts.xdp_takers = netdev.query(xdp::takers)?;
        let mut ready = BTreeMap::new();
        for (port, namespace) in wanted() {
            let (number, inner_ends) = ready.entry(namespace).or_insert_with(|| {
                // The namespace is entered and left again, so that nothing here keeps it alive.
                let found = Netns::named(namespace)
                    .and_then(|netns| Ok((here.nsid_of(&netns)?, xdp::ready(&netns)?)));
                found.inspect_err(|error| warn!("{error}")).unwrap_or_default()
            });
            let Some(port) = facts.link(&port.port) else { continue };
            // The inner end may have been moved, and another link may have its ifindex in that namespace.
            let inner = port.peer.filter(|_| port.peer_netns == *number);
            if let Some(is_ready) = inner.and_then(|inner| inner_ends.get(&inner)) {
                facts.ready.insert(port.ifindex, *is_ready);
            }
        }
        Ok(())
    }

    fn packet_sockets(&mut self) -> kernel::Result<BTreeSet<u32>> {
        let (netns, socket) = (self.socket.netns(), self.diagnosis.socket()?);
        let taps = netns.run(|| packet_sockets::taps(socket, Path::new(THREAD_NET)))??;
        Ok(taps.into_iter().map(|tap| tap.ifindex).collect())
    }

    fn rules(&mut self, facts: &NetnsState) -> kernel::Result<Rules> {
        let own: Vec<_> =
            self.own_tables.iter().map(|own| OwnTable { name: &own.table, rules: &own.rules }).collect();
        let netfilter = self.netfilter.socket()?;
        let hooks = netfilter.map_or(Ok(Vec::new()), |socket| rules(socket, &own))?;
        let files = self.socket.netns().run(|| {
            let calls = bridge_nf_call(Path::new(BRIDGE_SYSCTLS))?;
            let mut legacy = legacy_tables(Path::new(THREAD_NET))?;
            legacy.extend(ebtables(Path::new(PROC))?);
            Ok::<_, kernel::Error>((calls, legacy))
        });
        let (calls, legacy) = files??;
        let calls_netfilter = |bridge: &LabBridge| calls.with_options_of(facts.link(&bridge.name)).any_ip();
        // Both dumps matter only there. That of all programs of the machine costs more than everything else here.
        let is_called = self.layout.bridges.iter().any(calls_netfilter);
        let has_tables = is_called && netfilter.map_or(Ok(false), has_tables)?;
        let has_programs = is_called && datapath::has_netfilter_programs()?;
        Ok(Rules { hooks, has_tables, legacy, has_programs, calls })
    }
}

impl Rules {
    /// A rule that a frame bridged from or to the port would pass.
    fn first_blocker(&self, port: &str, bridge: Option<&LinkFacts>) -> Option<String> {
        let calls = self.calls.with_options_of(bridge);
        // A chain that filters is of more interest than one that translates addresses.
        let hooks = self.hooks.iter().filter(|hook| hook.sees(port, calls));
        let hook = hooks.min_by_key(|hook| hook.is_nat).map(ToString::to_string);
        let legacy = || self.legacy.iter().find(|table| table.sees(calls)).map(ToString::to_string);
        let is_called = self.has_programs && calls.any_ip();
        hook.or_else(legacy).or_else(|| is_called.then(|| "a BPF program for netfilter hooks".to_owned()))
    }

    /// For which IP packets the bridge calls netfilter, and whether that may reassemble fragments. Netfilter then
    /// checks the packets even without rules (`br_validate_ipv4` and `br_validate_ipv6`). A bridge with unknown
    /// options does all of that.
    fn checks(&self, bridge: Option<&LinkFacts>) -> u32 {
        if bridge.is_none_or(|bridge| bridge.bridge.is_none()) {
            return flags::VALIDATE | flags::DEFRAGMENT;
        }
        let calls = self.calls.with_options_of(bridge);
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        flag(calls.iptables, flags::VALIDATE_IPV4)
            | flag(calls.ip6tables, flags::VALIDATE_IPV6)
            | flag(calls.any_ip() && self.may_track_connections(), flags::DEFRAGMENT)
    }

    /// Whether the namespace may track connections, and so reassemble fragments. Any of its tables may require
    /// that, even one with rules that no bridged frame passes.
    fn may_track_connections(&self) -> bool {
        self.has_tables || !self.legacy.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::InfoBridge;

    use super::*;

    #[test]
    fn a_bridge_checks_the_packets_for_which_anything_calls_netfilter() {
        let bridge = |options| LinkFacts { bridge: options, ..LinkFacts::default() };
        let none = BridgeCalls::default();
        let rules = |calls, has_tables| {
            let (hooks, legacy) = (Vec::new(), Vec::new());
            Rules { hooks, has_tables, legacy, has_programs: false, calls }
        };
        let validate = |calls, options| rules(calls, false).checks(Some(&bridge(options)));
        let (v4, v6) = (flags::VALIDATE_IPV4, flags::VALIDATE_IPV6);
        assert_eq!(validate(none, Some(Vec::new())), 0);
        assert_eq!(validate(none, Some(vec![InfoBridge::NfCallIpTables(false)])), 0);
        assert_eq!(validate(BridgeCalls { iptables: true, ..none }, Some(Vec::new())), v4);
        assert_eq!(validate(BridgeCalls { ip6tables: true, ..none }, Some(Vec::new())), v6);
        assert_eq!(validate(none, Some(vec![InfoBridge::NfCallIpTables(true)])), v4);
        let both = BridgeCalls { iptables: true, ..none };
        assert_eq!(validate(both, Some(vec![InfoBridge::NfCallIp6Tables(true)])), v4 | v6);
        let arp = BridgeCalls { arptables: true, ..none };
        assert_eq!(validate(arp, Some(vec![InfoBridge::NfCallArpTables(true)])), 0, "ARP is never fast");
        let fragments = flags::DEFRAGMENT;
        assert_eq!(validate(none, None), v4 | v6 | fragments, "options that could not be read");
        assert_eq!(rules(arp, true).checks(Some(&bridge(Some(Vec::new())))), 0, "nothing calls it");
        assert_eq!(rules(both, true).checks(Some(&bridge(Some(Vec::new())))), v4 | fragments);
    }
}
