//! Who else wants the frames of a bridge namespace: packet sockets, and netfilter rules.
//!
//! Neither has events that can be relied on for all of it, so both are looked at each second, and
//! nftables at once when it says that it has changed. What cannot be asked counts as present.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use log::warn;
use netlink_packet_route::link::InfoBridge;
use netlink_sys::{
    Socket,
    protocols::{NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_SOCK_DIAG},
};

use vethpath_common::flags;

use super::{facts::Facts, layout::Layout};
use crate::{
    kernel::{
        Direct, LinkFacts, Netns, blocking, features, generic,
        netfilter::{
            BRIDGE_SYSCTLS, BridgeCalls, Hook, LegacyTable, MODULES, OwnTable, THREAD_NET, bridge_nf_call,
            ebtables, legacy_tables, rules,
        },
        offloads, packet_sockets, xdp,
    },
    topology::Masquerade,
};

/// Every link, as [`Facts::taps`] has it.
const EVERYWHERE: u32 = 0;

/// Looks at one bridge namespace.
pub struct Company {
    netns: Netns,
    diagnosis: Option<Socket>,
    netfilter: Option<Socket>,
    /// A generic netlink socket, and the number of the ethtool family on it.
    ethtool: Option<(Socket, u16)>,
    /// Another, and the number of the netdev family.
    netdev: Option<(Socket, u16)>,
}

/// The rules of a namespace that are not our own.
struct Rules {
    hooks: Vec<Hook>,
    legacy: Vec<LegacyTable>,
    calls: BridgeCalls,
}

impl Company {
    /// Opens what is needed to look. A kernel without netfilter has no rules.
    #[must_use]
    pub fn open(netns: &Netns) -> Self {
        let open = |protocol| blocking(netns, protocol).inspect_err(|error| warn!("{error}")).ok();
        let family = |name| {
            open(NETLINK_GENERIC)
                .and_then(|socket| generic::family(&socket, name).ok().map(|id| (socket, id)))
        };
        Self {
            ethtool: family(features::FAMILY),
            netdev: family(xdp::FAMILY),
            netns: netns.clone(),
            diagnosis: open(NETLINK_SOCK_DIAG),
            netfilter: open(NETLINK_NETFILTER),
        }
    }

    /// Looks, and notes what was found for each port. `own` are the tables that labs have there.
    pub fn look(&self, layout: &Layout, own: &[Masquerade], facts: &mut Facts) {
        facts.taps = self.taps();
        facts.rules.clear();
        facts.validated.clear();
        let found = self.rules(own);
        for (port, bridge) in layout.all_ports() {
            let bridge = facts.link(bridge);
            let (reason, validated) = match &found {
                Ok(rules) => (rules.first_for(port.as_str(), bridge), rules.validate(bridge)),
                Err(error) => (Some(error.clone()), flags::VALIDATE),
            };
            if let Some(reason) = reason {
                facts.rules.insert(port.to_string(), reason);
            }
            if validated != 0 {
                facts.validated.insert(port.to_string(), validated);
            }
        }
    }

    /// The same; returns whether anything is news.
    pub fn look_once_more(&self, layout: &Layout, own: &[Masquerade], facts: &mut Facts) -> bool {
        let of = |facts: &mut Facts| {
            let (taps, rules, validated) = (&mut facts.taps, &mut facts.rules, &mut facts.validated);
            (std::mem::take(taps), std::mem::take(rules), std::mem::take(validated))
        };
        let (taps, rules, validated) = of(facts);
        self.look(layout, own, facts);
        facts.taps != taps || facts.rules != rules || facts.validated != validated
    }

    /// Looks which links have offloads switched off. The kernel tells of a change as of any other
    /// change of a link.
    pub fn look_at_offloads(&self, facts: &mut Facts) {
        let asked = self.ethtool.as_ref().map(|(socket, family)| offloads::reduced(socket, *family));
        facts.reduced_offloads = match asked {
            Some(Ok(links)) => Some(links),
            Some(Err(error)) => {
                warn!("cannot ask for offloads: {error}");
                None
            }
            None => None,
        };
    }

    /// Looks which ports take XDP frames, and what their inner ends are ready for, where the lab wants that. The
    /// kernel tells of a change as of any other change of a link. What cannot be asked is not so.
    /// `here` is where the ports are.
    pub fn look_at_xdp(&self, layout: &Layout, here: &Direct, facts: &mut Facts) {
        (facts.xdp_takers, facts.ready) = Default::default();
        let wanted = || layout.ports.iter().filter_map(|port| Some((port, port.xdp.as_ref()?)));
        if wanted().next().is_none() {
            return;
        }
        let asked = self.netdev.as_ref().map(|(socket, family)| xdp::takers(socket, *family));
        match asked {
            Some(Ok(takers)) => facts.xdp_takers = takers,
            Some(Err(error)) => warn!("cannot ask for XDP features: {error}"),
            None => warn!("this kernel does not tell XDP features"),
        }
        let mut ready = BTreeMap::new();
        for (port, namespace) in wanted() {
            let (number, inner_ends) = ready.entry(namespace).or_insert_with(|| {
                // It is entered and left: nothing here may keep it alive.
                let asked = Netns::named(namespace)
                    .and_then(|netns| Ok((here.number_of(&netns)?, xdp::ready(&netns)?)));
                asked.inspect_err(|error| warn!("{error}")).unwrap_or_default()
            });
            let Some(port) = facts.link(&port.port) else { continue };
            // Somebody may have moved the inner end, and another of its ifindex may be where it was.
            let inner = port.peer.filter(|_| port.peer_netns == *number);
            if let Some(is_ready) = inner.and_then(|inner| inner_ends.get(&inner)) {
                facts.ready.insert(port.ifindex, *is_ready);
            }
        }
    }

    fn taps(&self) -> BTreeSet<u32> {
        let taps = self.diagnosis.as_ref().map(packet_sockets::taps);
        match taps {
            Some(Ok(taps)) => taps.into_iter().map(|tap| tap.ifindex).collect(),
            Some(Err(error)) => {
                warn!("{error}");
                BTreeSet::from([EVERYWHERE])
            }
            None => BTreeSet::from([EVERYWHERE]),
        }
    }

    fn rules(&self, own: &[Masquerade]) -> Result<Rules, String> {
        let own: Vec<_> = own.iter().map(|own| OwnTable { name: &own.table, rules: &own.rules }).collect();
        let hooks = match &self.netfilter {
            Some(socket) => rules(socket, &own).map_err(|error| error.to_string())?,
            None => Vec::new(),
        };
        let files = self.netns.run(|| {
            let calls = bridge_nf_call(Path::new(BRIDGE_SYSCTLS))?;
            let mut legacy = legacy_tables(Path::new(THREAD_NET))?;
            legacy.extend(ebtables(Path::new(MODULES))?);
            Ok::<_, crate::kernel::netfilter::NetfilterError>((calls, legacy))
        });
        let (calls, legacy) = files.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        Ok(Rules { hooks, legacy, calls })
    }
}

impl Rules {
    /// The first rule that a frame bridged from or to the port would pass.
    fn first_for(&self, port: &str, bridge: Option<&LinkFacts>) -> Option<String> {
        let calls = with_bridge(self.calls, bridge);
        let hook = self.hooks.iter().find(|hook| hook.sees(port, calls)).map(ToString::to_string);
        hook.or_else(|| self.legacy.iter().find(|table| table.sees(calls)).map(ToString::to_string))
    }

    /// For which IP packets the bridge calls netfilter, which then checks them even without rules
    /// (`br_validate_ipv4` and `br_validate_ipv6`). A bridge whose options are not known does for all.
    fn validate(&self, bridge: Option<&LinkFacts>) -> u32 {
        if bridge.is_none_or(|bridge| bridge.bridge.is_none()) {
            return flags::VALIDATE;
        }
        let calls = with_bridge(self.calls, bridge);
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        flag(calls.iptables, flags::VALIDATE_IPV4) | flag(calls.ip6tables, flags::VALIDATE_IPV6)
    }
}

/// A bridge may call netfilter by an option of its own (`nf_call_iptables`), whatever the namespace
/// says (`brnf_call_iptables` and the checks beside it in net/bridge/br_netfilter_hooks.c).
fn with_bridge(mut calls: BridgeCalls, bridge: Option<&LinkFacts>) -> BridgeCalls {
    for attribute in bridge.and_then(|bridge| bridge.bridge.as_ref()).into_iter().flatten() {
        match attribute {
            InfoBridge::NfCallIpTables(on) => calls.iptables |= on,
            InfoBridge::NfCallIp6Tables(on) => calls.ip6tables |= on,
            InfoBridge::NfCallArpTables(on) => calls.arptables |= on,
            _ => {}
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_checks_the_packets_for_which_anything_calls_netfilter() {
        let bridge = |options| LinkFacts { bridge: options, ..LinkFacts::default() };
        let none = BridgeCalls::default();
        let validate = |calls, options| {
            Rules { hooks: Vec::new(), legacy: Vec::new(), calls }.validate(Some(&bridge(options)))
        };
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
        assert_eq!(validate(none, None), v4 | v6, "options that could not be read");
    }
}
