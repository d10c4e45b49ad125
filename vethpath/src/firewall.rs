//! What the rules of a machine do to the packets of a lab. On many machines a firewall or a container engine drops what is
//! forwarded, and br_netfilter makes that apply to bridged frames too.

use std::{collections::BTreeSet, fmt, path::Path};

use ipnet::IpNet;
use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::{
    kernel::{
        LinkFacts, Netns, Result, RouteSocket, Source,
        netfilter::{
            BRIDGE_SYSCTLS, BridgeCalls, Dropper, ESTABLISHED, Family, HookPoint, LegacyTable, NEW, PROC,
            Packets, Ruleset, THREAD_NET, UNTRACKED, Verdict, bridge_nf_call, ebtables, legacy_tables,
        },
    },
    topology::{Bridge, IfName, Pair, Place, Topology},
};

/// A chain of Docker for the rules of its user. It is passed before all of Docker's.
const DOCKER_USER: &str = "DOCKER-USER";

/// The table of firewalld, which no other program may change.
const FIREWALLD: &str = "firewalld";

/// The table of x_tables that drops packets, rather than change them.
const FILTER: &str = "filter";

/// So many ports of a bridge are tried, each with the next one.
const MOST_PORTS: usize = 64;

/// Which packets of a bridge are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Those between its hosts.
    Bridged,
    /// Those that its hosts send to others, through the bridge's namespace.
    Sent,
    /// The replies to these.
    Replies,
}

/// What drops packets.
#[derive(Clone, Debug)]
enum By {
    /// A base chain of nf_tables.
    Chain(Dropper),
    /// A table whose rules are not read.
    Legacy(LegacyTable),
}

/// Packets that rules drop.
#[derive(Clone, Debug)]
pub struct Drop {
    bridge: IfName,
    place: Place,
    kind: Kind,
    family: Family,
    by: By,
    /// Whether all of them are dropped. Otherwise some may be.
    pub is_certain: bool,
    hint: String,
}

impl fmt::Display for Drop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.is_certain { "are dropped" } else { "may be dropped" };
        write!(f, "{} {verb} by {}", self.packets(), self.by)
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain(dropper) => write!(f, "{dropper}"),
            Self::Legacy(table) => write!(f, "{table} (legacy: its rules are not read)"),
        }
    }
}

impl Drop {
    /// Which packets they are: `bridge br0 in host: IPv4 packets between its hosts`.
    #[must_use]
    pub fn packets(&self) -> String {
        let version = if self.family == Family::Ip { "IPv4" } else { "IPv6" };
        let packets = match self.kind {
            Kind::Bridged => "packets between its hosts",
            Kind::Sent => "packets from its hosts to other networks",
            Kind::Replies => "replies to its hosts from other networks",
        };
        format!("bridge {} in {}: {version} {packets}", self.bridge, self.place)
    }

    /// The ways out, for a user.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

/// The packets of a lab that are or may be dropped in a bridge namespace. While the rules change, they are read `most`
/// times.
///
/// # Errors
/// The kernel refuses to show the rules, links or routes, or the rules change each time.
pub fn drops(topology: &Topology, place: &Place, netns: &Netns, most: usize) -> Result<Vec<Drop>> {
    let machine = Machine::read(topology, place, netns, most)?;
    let mut all = Vec::new();
    for bridge in topology.bridges.iter().filter(|bridge| bridge.place == *place) {
        for family in [Family::Ip, Family::Ip6] {
            all.extend(OnBridge { topology, machine: &machine, bridge, family }.drops());
        }
    }
    Ok(all)
}

/// What decides about packets in a namespace.
struct Machine {
    rules: Ruleset,
    legacy: Vec<LegacyTable>,
    calls: BridgeCalls,
    links: Vec<LinkFacts>,
    /// The devices of default routes and their like, in all tables, by family; `None` if one has several devices.
    uplinks: [(Family, Option<BTreeSet<String>>); 2],
    /// What begins a command that is to run there.
    enter: String,
}

impl Machine {
    fn read(topology: &Topology, place: &Place, netns: &Netns, most: usize) -> Result<Self> {
        let socket = RouteSocket::open(netns)?;
        let links = socket.links()?;
        // A machine may have a million of them.
        let has_nat = topology.bridges.iter().any(|bridge| bridge.nat && bridge.place == *place);
        let routes = if has_nat { socket.routes()? } else { Vec::new() };
        let name =
            |ifindex: u32| links.iter().find(|link| link.ifindex == ifindex).map(|link| link.name.clone());
        let uplinks = [Family::Ip, Family::Ip6].map(|family| {
            // Some tools add one for each half of all addresses.
            let is_default =
                |to: &IpNet| to.prefix_len() <= 1 && to.addr().is_ipv4() == (family == Family::Ip);
            let routes = routes.iter().filter(|route| is_default(&route.to) && route.fate.is_none());
            (family, routes.map(|route| route.ifindex.and_then(name)).collect())
        });
        let mut source = Source::new(netns, NETLINK_NETFILTER);
        let read = |socket| Ruleset::read(socket, &links, most);
        let rules = source.socket()?.map(read).transpose()?.unwrap_or_default();
        let files = netns.run(|| {
            let mut legacy = legacy_tables(Path::new(THREAD_NET))?;
            legacy.extend(ebtables(Path::new(PROC))?);
            Ok::<_, crate::kernel::Error>((legacy, bridge_nf_call(Path::new(BRIDGE_SYSCTLS))?))
        });
        let (legacy, calls) = files??;
        let enter = match place {
            Place::Host => String::new(),
            Place::Namespace(name) => match topology.adopted_path(name) {
                Some(path) => format!("nsenter --net={path} "),
                None => format!("ip netns exec {name} "),
            },
        };
        Ok(Self { rules, legacy, calls, links, uplinks, enter })
    }

    /// What the chains of a hook do to packets. Before the routing decision no packet has a device to leave by, and
    /// after that of a bridge none to come by.
    fn verdict(&self, hook: HookPoint, families: &[Family], packets: Packets<'_>) -> Verdict {
        let packets = match hook {
            HookPoint::Prerouting => Packets { out_devices: &[""], ..packets },
            HookPoint::Postrouting if packets.are_bridged => Packets { in_devices: &[""], ..packets },
            _ => packets,
        };
        self.rules.verdict(hook, families, packets)
    }

    fn uplinks(&self, family: Family) -> Option<&BTreeSet<String>> {
        self.uplinks.iter().find(|(of, _)| *of == family)?.1.as_ref()
    }
}

/// A bridge, and the packets of one family there.
struct OnBridge<'a> {
    topology: &'a Topology,
    machine: &'a Machine,
    bridge: &'a Bridge,
    family: Family,
}

impl OnBridge<'_> {
    fn drops(&self) -> Vec<Drop> {
        let routed = if self.bridge.nat { self.routed() } else { Vec::new() };
        self.between_hosts().into_iter().chain(routed).collect()
    }

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

    /// The bridge's own options make it call netfilter whatever the namespace's settings are.
    fn calls(&self) -> BridgeCalls {
        let link = self.machine.links.iter().find(|link| link.name == self.bridge.name.as_str());
        self.machine.calls.with_options_of(link)
    }

    fn is_called(&self, calls: BridgeCalls) -> bool {
        if self.family == Family::Ip { calls.iptables } else { calls.ip6tables }
    }

    /// Packets between two hosts.
    fn between_hosts(&self) -> Option<Drop> {
        const HOOKS: [HookPoint; 3] = [HookPoint::Prerouting, HookPoint::Forward, HookPoint::Postrouting];
        let subnets = self.subnets(self.pairs().flat_map(|pair| &pair.inner.addresses));
        let ports: Vec<&str> = self.pairs().map(|pair| pair.port.as_str()).take(MOST_PORTS).collect();
        if ports.len() < 2 || subnets.is_empty() {
            return None;
        }
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
            // Neighbour discovery goes to groups, and is not tracked. Without it there are no other packets.
            let discovery = Packets { state: UNTRACKED, sources: &[], destinations: &[], ..packets };
            let both = [Some(packets), Some(discovery).filter(|_| self.family == Family::Ip6)];
            let all = both.into_iter().flatten();
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
        // Where some ports can reach each other, the others may have been cut off on purpose.
        let by_port = match by_port.iter().all(is_certain) {
            true => by_port.into_iter().max(),
            false => by_port.into_iter().max().map(Verdict::lessened),
        };
        let sees = |table: &&LegacyTable| {
            table.name == FILTER && table.sees(calls) && [self.family, Family::Bridge].contains(&table.family)
        };
        let legacy = self.machine.legacy.iter().find(sees);
        self.worst(Kind::Bridged, by_calls.into_iter().chain(by_port), legacy)
    }

    /// Packets that are masqueraded, and their replies. In other chains than those of forwarding they have other
    /// addresses, before or after those are translated.
    fn routed(&self) -> Vec<Drop> {
        let subnets = self.subnets(self.bridge.addresses.iter());
        let Some(uplinks) = self.machine.uplinks(self.family).filter(|uplinks| !uplinks.is_empty()) else {
            return Vec::new();
        };
        if subnets.is_empty() {
            return Vec::new();
        }
        let uplinks: Vec<&str> = uplinks.iter().map(String::as_str).collect();
        let bridge = [self.bridge.name.as_str()];
        let families = [self.family, Family::Inet];
        let sent = Packets {
            family: self.family,
            in_devices: &bridge,
            out_devices: &uplinks,
            are_bridged: false,
            state: NEW,
            sources: &subnets,
            destinations: &[],
        };
        let replies = Packets {
            in_devices: &uplinks,
            out_devices: &bridge,
            state: ESTABLISHED,
            sources: &[],
            destinations: &subnets,
            ..sent
        };
        let is_of_family = |table: &&LegacyTable| table.name == FILTER && table.family == self.family;
        let legacy = self.machine.legacy.iter().find(is_of_family);
        let of = |kind, packets| {
            let forward = self.machine.verdict(HookPoint::Forward, &families, packets);
            self.worst(kind, [forward].into_iter(), legacy)
        };
        of(Kind::Sent, sent).into_iter().chain(of(Kind::Replies, replies)).collect()
    }

    fn worst(
        &self,
        kind: Kind,
        verdicts: impl Iterator<Item = Verdict>,
        legacy: Option<&LegacyTable>,
    ) -> Option<Drop> {
        let (by, is_certain) = match (verdicts.max()?, legacy) {
            (Verdict::Drop(dropper), _) => (By::Chain(dropper), true),
            (Verdict::MayDrop(dropper), _) => (By::Chain(dropper), false),
            (Verdict::Accept, Some(table)) => (By::Legacy(table.clone()), false),
            (Verdict::Accept, None) => return None,
        };
        let hint = self.hint(kind, &by);
        let (bridge, place) = (self.bridge.name.clone(), self.bridge.place.clone());
        Some(Drop { bridge, place, kind, family: self.family, by, is_certain, hint })
    }

    fn hint(&self, kind: Kind, by: &By) -> String {
        let (bridge, enter) = (&self.bridge.name, &self.machine.enter);
        let (tool, name) = match (self.family, by) {
            (Family::Ip, By::Chain(_)) => ("iptables", "iptables"),
            (Family::Ip, By::Legacy(_)) => ("iptables-legacy", "iptables"),
            (_, By::Chain(_)) => ("ip6tables", "ip6tables"),
            (_, By::Legacy(_)) => ("ip6tables-legacy", "ip6tables"),
        };
        let packets = match kind {
            Kind::Bridged => format!("-i {bridge} -o {bridge}"),
            Kind::Sent => format!("-i {bridge} ! -o {bridge}"),
            Kind::Replies => format!("-o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED"),
        };
        let accept = |chain: &str| format!("`{enter}{tool} -I {chain} {packets} -j ACCEPT` accepts them");
        let rule = match by {
            By::Chain(Dropper { family, table, chain, .. })
                if (*family, table.as_str(), chain.as_str()) == (self.family, FILTER, "FORWARD") =>
            {
                let has_docker = self.machine.rules.has_chain(*family, table, DOCKER_USER);
                accept(if has_docker { DOCKER_USER } else { "FORWARD" })
            }
            By::Chain(dropper) if dropper.table == FIREWALLD => {
                format!("`{enter}firewall-cmd --zone=trusted --add-interface={bridge}` accepts them")
            }
            By::Chain(dropper) => format!("accept them in {dropper}"),
            By::Legacy(table) if table.family == self.family => accept("FORWARD"),
            By::Legacy(table) => format!("accept them in {table}"),
        };
        let is_of_bridge = match by {
            By::Chain(dropper) => dropper.family == Family::Bridge,
            By::Legacy(table) => table.family == Family::Bridge,
        };
        // The bridge's own option would still call them.
        let without = match kind {
            Kind::Bridged if !is_of_bridge && self.is_called(self.machine.calls) => format!(
                ", `{enter}sysctl -w net.bridge.bridge-nf-call-{name}=0` keeps bridged packets of this namespace from \
                 these rules"
            ),
            _ => String::new(),
        };
        format!("{rule}{without}, and a bridge with a `namespace` of the lab's has no such rules")
    }
}
