//! The state of a namespace that decides what its netfilter rules do to packets of a lab.

use std::{collections::BTreeSet, path::Path};

use ipnet::IpNet;
use log::debug;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::{FAMILIES, masquerades};
use crate::{
    kernel::{
        LinkFacts, Netns, Result, RouteSocket, Source,
        netfilter::{
            BRIDGE_SYSCTLS, BridgeCalls, Dropper, FILTER, Family, HookPoint, LegacyTable, PROC, Packets,
            Ruleset, THREAD_NET, Verdict, bridge_nf_call, ebtables, is_readable, legacy_rules, legacy_tables,
        },
    },
    topology::{Adopt, Container, Place, Topology},
};

/// The table of Docker where it uses nf_tables without iptables (29 and later).
const DOCKER_BRIDGES: &str = "docker-bridges";

/// Chains in the tables of iptables that show that another firewall filters forwarded packets: ufw, and firewalld without
/// nf_tables.
const OF_OTHER_FIREWALLS: [&str; 3] = ["ufw-before-forward", "ufw6-before-forward", "FORWARD_direct"];

/// Prefixes of the names of bridges of container engines and virtual machines. Bridges of Docker's networks are also found
/// by its rules.
const OF_ENGINES: [&str; 8] = ["docker", "podman", "cni", "nerdctl", "virbr", "lxcbr", "lxdbr", "incusbr"];

/// Addresses that are only of the machine itself or of a link.
const LOCAL: [&str; 4] = ["127.0.0.0/8", "224.0.0.0/4", "fe80::/10", "ff00::/8"];

/// The netfilter state of a namespace, and the links and default routes that it depends on.
pub(super) struct Machine {
    pub(super) rules: Ruleset,
    /// The rules of iptables-legacy and ip6tables-legacy.
    legacy_rules: Ruleset,
    pub(super) legacy: Vec<LegacyTable>,
    /// Those whose rules are not read.
    pub(super) unread: Vec<LegacyTable>,
    pub(super) calls: BridgeCalls,
    pub(super) links: Vec<LinkFacts>,
    /// The devices of default routes (or halves of them), in all tables, by family; `None` if one has several devices.
    uplinks: [(Family, Option<BTreeSet<String>>); 2],
    /// The devices of routes to other hosts, by family; `""` for a route with several devices.
    pub(super) ways: BTreeSet<(Family, String)>,
    /// The prefix of a command that runs there.
    pub(super) enter: String,
}

impl Machine {
    pub(super) fn read(topology: &Topology, place: &Place, netns: &Netns, most: usize) -> Result<Self> {
        let socket = RouteSocket::open(netns)?;
        let links = socket.links()?;
        // A machine may have a million routes.
        let routes = if masquerades(topology, place) { socket.routes()? } else { Vec::new() };
        let name =
            |ifindex: u32| links.iter().find(|link| link.ifindex == ifindex).map(|link| link.name.clone());
        let uplinks = [Family::Ip, Family::Ip6].map(|family| {
            // Some tools add one for each half of all addresses.
            let is_default =
                |to: &IpNet| to.prefix_len() <= 1 && to.addr().is_ipv4() == (family == Family::Ip);
            let routes = routes.iter().filter(|route| is_default(&route.to) && route.fate.is_none());
            (family, routes.map(|route| route.ifindex.and_then(name)).collect())
        });
        let leads_out =
            |to: &IpNet| !LOCAL.iter().filter_map(|net| net.parse().ok()).any(|net: IpNet| net.contains(to));
        let out = routes.iter().filter(|route| route.fate.is_none() && leads_out(&route.to));
        let ways = out.map(|route| {
            let family = if route.to.addr().is_ipv4() { Family::Ip } else { Family::Ip6 };
            (family, route.ifindex.and_then(name).unwrap_or_default())
        });
        let ways = ways.filter(|(_, device)| device != "lo").collect();
        let mut source = Source::new(netns, NETLINK_NETFILTER);
        let read = |socket| Ruleset::read(socket, &links, most);
        let rules = source.socket()?.map(read).transpose()?.unwrap_or_default();
        let files = netns.run(|| {
            let mut legacy = legacy_tables(Path::new(THREAD_NET))?;
            legacy.extend(ebtables(Path::new(PROC))?);
            let (readable, mut unread): (Vec<_>, Vec<_>) = legacy.iter().cloned().partition(is_readable);
            let rules = legacy_rules(&readable).unwrap_or_else(|error| {
                debug!("{error}");
                unread.extend(readable);
                Ruleset::default()
            });
            let calls = bridge_nf_call(Path::new(BRIDGE_SYSCTLS))?;
            Ok::<_, crate::kernel::Error>((rules, legacy, unread, calls))
        });
        let (legacy_rules, legacy, unread, calls) = files??;
        let enter = match place {
            Place::Host => String::new(),
            Place::Namespace(name) => match topology.adoption(name) {
                Some(Adopt::Path(path)) => format!("nsenter --net={path} "),
                Some(Adopt::Container(Container { name, runtime })) => {
                    format!("nsenter --net --target $({runtime} inspect -f '{{{{.State.Pid}}}}' {name}) ")
                }
                None => format!("ip netns exec {name} "),
            },
        };
        Ok(Self { rules, legacy_rules, legacy, unread, calls, links, uplinks, ways, enter })
    }

    /// The verdict of the chains of a hook. Before the routing decision packets have no output device. After that of a
    /// bridge they have no input device.
    pub(super) fn verdict(&self, hook: HookPoint, families: &[Family], packets: Packets<'_>) -> Verdict {
        let packets = match hook {
            HookPoint::Prerouting => Packets { out_devices: &[""], ..packets },
            HookPoint::Postrouting if packets.are_bridged => Packets { in_devices: &[""], ..packets },
            _ => packets,
        };
        let verdicts = [&self.rules, &self.legacy_rules].map(|rules| rules.verdict(hook, families, packets));
        verdicts.into_iter().max().unwrap_or(Verdict::Accept)
    }

    /// The rules among which those of a chain are.
    pub(super) const fn rules_of(&self, dropper: &Dropper) -> &Ruleset {
        if dropper.is_legacy { &self.legacy_rules } else { &self.rules }
    }

    pub(super) fn uplinks(&self, family: Family) -> Option<&BTreeSet<String>> {
        self.uplinks.iter().find(|(of, _)| *of == family)?.1.as_ref()
    }

    /// Whether only Docker's iptables rules filter forwarded packets, judged by the names of tables and chains.
    pub(super) fn is_dockers(&self, family: Family) -> bool {
        let has_nft_backend = FAMILIES.iter().any(|family| self.rules.has_table(*family, DOCKER_BRIDGES));
        let has_other = OF_OTHER_FIREWALLS.iter().any(|chain| self.rules.has_chain(family, FILTER, chain));
        !has_nft_backend && !has_other && !self.has_legacy_filter(family)
    }

    pub(super) fn has_legacy_filter(&self, family: Family) -> bool {
        self.legacy.iter().any(|table| table.name == FILTER && table.family == family)
    }

    /// Whether a device is the bridge of a container engine.
    pub(super) fn is_of_engine(&self, device: &str) -> bool {
        let is_of_network = device
            .strip_prefix("br-")
            .is_some_and(|id| id.len() == 12 && id.bytes().all(|digit| digit.is_ascii_hexdigit()));
        is_of_network
            || OF_ENGINES.iter().any(|name| device.starts_with(name))
            || self.rules.docker_bridges().contains(device)
    }
}
