//! The effect of the machine's netfilter rules on the packets of a lab. On many machines a firewall or a container engine
//! drops forwarded packets, and br_netfilter applies its rules to bridged frames too. Where Docker drops packets from
//! bridges with `nat` to other networks, rules of the lab in `DOCKER-USER` accept them.

use std::{collections::BTreeSet, fmt, path::Path};

use ipnet::IpNet;
use log::debug;
use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::{
    kernel::{
        LinkFacts, Netns, Result, RouteSocket, Source,
        netfilter::{
            BRIDGE_SYSCTLS, BridgeCalls, DOCKER_USER, Dropper, ESTABLISHED, FILTER, Family, HookPoint,
            LegacyTable, NEW, PROC, Packets, Ruleset, THREAD_NET, UNTRACKED, Verdict, bridge_nf_call,
            ebtables, is_readable, legacy_rules, legacy_tables,
        },
    },
    plan::Accepted,
    topology::{self, AcceptRule, Adopt, Bridge, Cable, Container, IfName, Pair, Place, Topology, lab_mark},
};

/// The families in which Docker has chains.
pub const FAMILIES: [Family; 2] = [Family::Ip, Family::Ip6];

/// The chain of forwarded packets, whose policy Docker sets.
const FORWARD: &str = "FORWARD";

/// The table of firewalld, which no other program may change.
const FIREWALLD: &str = "firewalld";

/// The chains of ufw for what is forwarded, by family.
const UFW: [(Family, &str); 2] = [(Family::Ip, "ufw-before-forward"), (Family::Ip6, "ufw6-before-forward")];

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

/// The maximum number of a lab's rules in a chain: their transaction fits the default send buffer (208 KiB).
const MOST_ACCEPTED: usize = 128;

/// The maximum number of dumps of rules that change meanwhile, for a command.
pub const MOST_READS: usize = 8;

/// The maximum number of ports of a bridge that are checked, each with the next one.
const MOST_PORTS: usize = 64;

/// Which packets of a bridge are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Those between its hosts.
    Bridged,
    /// Those that its hosts send to other networks, through the bridge's namespace.
    Sent,
    /// The replies to these.
    Replies,
    /// Those that its hosts send to hosts of another bridge there, and the replies.
    Between,
}

/// What drops packets.
#[derive(Clone, Debug)]
enum By {
    /// A chain of a hook.
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
    /// The other bridge.
    to: Option<IfName>,
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
            Kind::Between => "packets between its hosts and those of bridge ",
        };
        let to = self.to.as_ref().map_or("", IfName::as_str);
        format!("bridge {} in {}: {version} {packets}{to}", self.bridge, self.place)
    }

    /// Whether the lab is of no use: hosts of two bridges may have been kept apart on purpose.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.is_certain && self.kind != Kind::Between
    }

    /// The ways out, for a user.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

/// The rules of a namespace, as they apply to a lab.
pub struct Firewall<'a> {
    topology: &'a Topology,
    place: &'a Place,
    machine: Machine,
}

impl<'a> Firewall<'a> {
    /// Reads the rules of the namespace of `place`, its links and routes. Rules that change meanwhile are read up to `most`
    /// times.
    ///
    /// # Errors
    /// The kernel refuses to show the rules, links or routes, or the rules change each time.
    pub fn read(topology: &'a Topology, place: &'a Place, netns: &Netns, most: usize) -> Result<Self> {
        Ok(Self { topology, place, machine: Machine::read(topology, place, netns, most)? })
    }

    /// Whether there are rules for whose changes there are no events.
    #[must_use]
    pub const fn has_legacy(&self) -> bool {
        !self.machine.legacy.is_empty()
    }

    /// The packets of the lab that are or may be dropped.
    #[must_use]
    pub fn drops(&self) -> Vec<Drop> {
        let mut all = Vec::new();
        for bridge in &self.topology.bridges {
            for family in FAMILIES {
                let on_bridge = self.on(bridge, family);
                if bridge.place == *self.place {
                    all.extend(on_bridge.between_hosts());
                }
                all.extend(on_bridge.routed());
            }
        }
        for family in FAMILIES {
            let here: Vec<_> = self.routed_bridges().take(MOST_PORTS).collect();
            for (bridge, other) in here.iter().zip(here.iter().cycle().skip(1)) {
                all.extend(self.on(bridge, family).and(other));
            }
        }
        all
    }

    /// The bridges whose packets are masqueraded here, but that no other device leads out for, in any family that they have
    /// addresses of: each with a sentence. What the lab itself makes here may lead out, so that nothing is known then.
    #[must_use]
    pub fn closed(&self) -> Vec<String> {
        let (topology, place) = (self.topology, self.place);
        let is_made = match place {
            Place::Host => false,
            Place::Namespace(name) => topology.adoption(name).is_none(),
        };
        let ends_here = |cable: &Cable| [&cable.a, &cable.b].iter().any(|end| end.place == *place);
        if is_made || topology.cables.iter().any(|cable| ends_here(cable) && !topology.is_uplink(cable)) {
            return Vec::new();
        }
        let is_closed = |bridge: &&Bridge| {
            let Some(device) = topology.masquerading_device(bridge, place) else { return false };
            let of = |net: &IpNet| if net.addr().is_ipv4() { Family::Ip } else { Family::Ip6 };
            let leads_out = |family| {
                let ways = self.machine.ways.iter().filter(|(of, _)| *of == family);
                ways.into_iter().any(|(_, way)| way != device.as_str())
            };
            !bridge.addresses.is_empty() && !bridge.addresses.iter().map(of).any(leads_out)
        };
        let sentence = |bridge: &Bridge| {
            let Bridge { name, place: at, .. } = bridge;
            format!("bridge {name} in {at} has `nat`, but no route of {place} leads out for its hosts")
        };
        topology.bridges.iter().filter(is_closed).map(sentence).collect()
    }

    /// The bridges here that have hosts and an address. Packets are routed between them if some are masqueraded, and another
    /// place is not the fabric, which has no rules.
    fn routed_bridges(&self) -> impl Iterator<Item = &'a Bridge> {
        let (topology, place) = (self.topology, self.place);
        let is_masqueraded =
            |bridge: &Bridge| bridge.place == *place && topology.masquerading_device(bridge, place).is_some();
        let is_any = topology.bridges.iter().any(is_masqueraded);
        let has_hosts = |bridge: &&Bridge| {
            topology.pairs.iter().any(|pair| pair.place == bridge.place && pair.bridge == bridge.name)
        };
        let here = topology.bridges.iter().filter(move |bridge| is_any && bridge.place == *place);
        here.filter(move |bridge| !bridge.addresses.is_empty() && has_hosts(bridge))
    }

    /// The rules that the lab has in `DOCKER-USER`, and those that it needs there, for each family with that chain. Afterwards this copy of the rules
    /// has the latter.
    ///
    /// A bridge with `nat` needs rules if the policy of `FORWARD` drops its packets to other networks, or the replies, and
    /// if rules in `DOCKER-USER` change that. If other programs filter forwarded packets too, only existing rules are
    /// kept.
    pub fn accept(&mut self) -> Vec<Accepted> {
        let mark = lab_mark(&self.topology.lab);
        let mut all = Vec::new();
        for family in FAMILIES {
            let Some(present) = self.machine.rules.accepted(family, &mark) else { continue };
            self.machine.rules.accept(family, &mark, &[]);
            let mut wanted = Vec::new();
            if !present.is_empty() || self.machine.is_dockers(family) {
                for bridge in self.with_nat() {
                    wanted = self.accept_on(bridge, family, &mark, wanted);
                }
            }
            let family = if family == Family::Ip { topology::Family::Ipv4 } else { topology::Family::Ipv6 };
            all.push(Accepted { place: self.place.clone(), family, present, wanted });
        }
        all
    }

    /// The rules for one more bridge, behind those for others, if it needs any.
    fn accept_on(
        &mut self,
        bridge: &Bridge,
        family: Family,
        mark: &str,
        others: Vec<AcceptRule>,
    ) -> Vec<AcceptRule> {
        /// Whether `DOCKER-USER` is passed before what drops these packets.
        fn is_dockers(family: Family, verdict: &Verdict) -> bool {
            let is_it = |by: &Dropper| {
                by.by_policy
                    && !by.is_legacy
                    && (by.family, by.table.as_str(), by.chain.as_str()) == (family, FILTER, FORWARD)
            };
            matches!(verdict, Verdict::Drop(by) | Verdict::MayDrop(by) if is_it(by))
        }
        let badness = |verdict: &Verdict| match verdict {
            Verdict::Accept => 0,
            Verdict::MayDrop(_) => 1,
            Verdict::Drop(_) => 2,
        };
        let before = self.on(bridge, family).routed_verdicts();
        // Bridges of a fabric share its uplink.
        let mut more = self.on(bridge, family).accept_rules();
        more.retain(|rule| !others.contains(rule));
        let is_met = |verdict: &Verdict| is_dockers(family, verdict);
        // A rule that drops all packets of a kind is intended.
        let is_others = |verdict: &Verdict| matches!(verdict, Verdict::Drop(_)) && !is_met(verdict);
        let has_room = others.len() + more.len() <= MOST_ACCEPTED;
        if !before.iter().any(is_met) || before.iter().any(is_others) || more.is_empty() || !has_room {
            return others;
        }
        let all = [&others[..], &more].concat();
        self.machine.rules.accept(family, mark, &all);
        let after = self.on(bridge, family).routed_verdicts();
        // What is still dropped is dropped by rules that are not Docker's: no rule of ours would help.
        let is_better = |(before, after): (&Verdict, &Verdict)| {
            badness(after) < 2 && (!is_met(before) || badness(after) < badness(before))
        };
        if before.iter().zip(&after).all(is_better) {
            return all;
        }
        self.machine.rules.accept(family, mark, &others);
        others
    }

    /// The bridges whose packets are masqueraded here, and arrive by a device by which no other packets arrive.
    fn with_nat(&self) -> impl Iterator<Item = &'a Bridge> + use<'a> {
        let (topology, place) = (self.topology, self.place);
        let is_mixed = |bridge: &Bridge| {
            let mut fabric = topology.bridges.iter().filter(|other| topology.is_fabric(&other.place));
            topology.is_fabric(&bridge.place) && fabric.any(|other| !other.nat && !other.addresses.is_empty())
        };
        let all = topology.bridges.iter().filter(move |bridge| !is_mixed(bridge));
        all.filter(move |bridge| topology.masquerading_device(bridge, place).is_some())
    }

    fn on<'f>(&'f self, bridge: &'f Bridge, family: Family) -> OnBridge<'f> {
        let device = self.topology.masquerading_device(bridge, self.place);
        OnBridge { topology: self.topology, machine: &self.machine, bridge, device, family }
    }
}

/// Whether a place masquerades packets of the lab.
#[must_use]
pub fn masquerades(topology: &Topology, place: &Place) -> bool {
    topology.bridges.iter().any(|bridge| topology.masquerading_device(bridge, place).is_some())
}

/// The places whose rules apply to packets of the lab: those with bridges, and the machine if it masquerades for the fabric.
#[must_use]
pub fn places(topology: &Topology) -> Vec<Place> {
    let mut places: Vec<Place> = topology.domains().into_iter().map(|(_, place)| place).collect();
    if !places.contains(&Place::Host) && masquerades(topology, &Place::Host) {
        places.push(Place::Host);
    }
    places
}

/// The netfilter state of a namespace, and the links and default routes that it depends on.
struct Machine {
    rules: Ruleset,
    /// The rules of iptables-legacy and ip6tables-legacy.
    legacy_rules: Ruleset,
    legacy: Vec<LegacyTable>,
    /// Those whose rules are not read.
    unread: Vec<LegacyTable>,
    calls: BridgeCalls,
    links: Vec<LinkFacts>,
    /// The devices of default routes (or halves of them), in all tables, by family; `None` if one has several devices.
    uplinks: [(Family, Option<BTreeSet<String>>); 2],
    /// The devices of routes to other hosts, by family; `""` for a route with several devices.
    ways: BTreeSet<(Family, String)>,
    /// The prefix of a command that runs there.
    enter: String,
}

impl Machine {
    fn read(topology: &Topology, place: &Place, netns: &Netns, most: usize) -> Result<Self> {
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
    fn verdict(&self, hook: HookPoint, families: &[Family], packets: Packets<'_>) -> Verdict {
        let packets = match hook {
            HookPoint::Prerouting => Packets { out_devices: &[""], ..packets },
            HookPoint::Postrouting if packets.are_bridged => Packets { in_devices: &[""], ..packets },
            _ => packets,
        };
        let verdicts = [&self.rules, &self.legacy_rules].map(|rules| rules.verdict(hook, families, packets));
        verdicts.into_iter().max().unwrap_or(Verdict::Accept)
    }

    /// The rules among which those of a chain are.
    const fn rules_of(&self, dropper: &Dropper) -> &Ruleset {
        if dropper.is_legacy { &self.legacy_rules } else { &self.rules }
    }

    fn uplinks(&self, family: Family) -> Option<&BTreeSet<String>> {
        self.uplinks.iter().find(|(of, _)| *of == family)?.1.as_ref()
    }

    /// Whether only Docker's iptables rules filter forwarded packets, judged by the names of tables and chains.
    fn is_dockers(&self, family: Family) -> bool {
        let has_nft_backend = FAMILIES.iter().any(|family| self.rules.has_table(*family, DOCKER_BRIDGES));
        let has_other = OF_OTHER_FIREWALLS.iter().any(|chain| self.rules.has_chain(family, FILTER, chain));
        !has_nft_backend && !has_other && !self.has_legacy_filter(family)
    }

    fn has_legacy_filter(&self, family: Family) -> bool {
        self.legacy.iter().any(|table| table.name == FILTER && table.family == family)
    }

    /// Whether a device is the bridge of a container engine.
    fn is_of_engine(&self, device: &str) -> bool {
        let is_of_network = device
            .strip_prefix("br-")
            .is_some_and(|id| id.len() == 12 && id.bytes().all(|digit| digit.is_ascii_hexdigit()));
        is_of_network
            || OF_ENGINES.iter().any(|name| device.starts_with(name))
            || self.rules.docker_bridges().contains(device)
    }
}

/// A bridge, and the packets of one family there.
struct OnBridge<'a> {
    topology: &'a Topology,
    machine: &'a Machine,
    bridge: &'a Bridge,
    /// The input device of packets that are masqueraded here, if any are.
    device: Option<&'a IfName>,
    family: Family,
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
        let link_local =
            ["fe80::/10".parse::<IpNet>(), "ff02::1:ff00:0/104".parse()].map(std::result::Result::ok);
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
    fn and(&self, other: &Bridge) -> Option<Drop> {
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
    fn routed(&self) -> Vec<Drop> {
        let legacy = self.unread_filter();
        let verdicts = [Kind::Sent, Kind::Replies].into_iter().zip(self.routed_verdicts());
        verdicts.filter_map(|(kind, verdict)| self.worst(kind, None, [verdict].into_iter(), legacy)).collect()
    }

    /// The verdicts on packets to other networks and on the replies; empty without such networks.
    fn routed_verdicts(&self) -> Vec<Verdict> {
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
    fn accept_rules(&self) -> Vec<AcceptRule> {
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

    /// The commands by which ufw accepts packets, and writes that down; `None` where there is no device to name. It accepts
    /// replies in any case.
    fn of_ufw(&self, kind: Kind, to: Option<&Bridge>) -> Option<String> {
        let enter = &self.machine.enter;
        let route = |from: &str, to: &str| format!("`{enter}ufw route allow in on {from} out on {to}`");
        let bridge = self.bridge.name.as_str();
        let commands: Vec<_> = match kind {
            Kind::Bridged => vec![route(bridge, bridge)],
            Kind::Sent => {
                let sent = self.accept_rules().into_iter().filter(|rule| !rule.are_replies);
                sent.map(|rule| route(&rule.bridge, &rule.uplink)).collect()
            }
            Kind::Replies => Vec::new(),
            Kind::Between => {
                let other = to.map_or("", |bridge| bridge.name.as_str());
                vec![route(bridge, other), route(other, bridge)]
            }
        };
        let verb = if commands.len() == 1 { "accepts" } else { "accept" };
        (!commands.is_empty()).then(|| format!("{} {verb} them", commands.join(", ")))
    }

    fn hint(&self, kind: Kind, to: Option<&Bridge>, by: &By) -> String {
        let enter = &self.machine.enter;
        let is_of_bridge = matches!(kind, Kind::Bridged | Kind::Between);
        let bridge = self.device.filter(|_| !is_of_bridge).unwrap_or(&self.bridge.name);
        let name = if self.family == Family::Ip { "iptables" } else { "ip6tables" };
        let tool = match by {
            By::Legacy(_) | By::Chain(Dropper { is_legacy: true, .. }) => format!("{name}-legacy"),
            // The plain name may be that of either.
            By::Chain(_) if self.machine.has_legacy_filter(self.family) => format!("{name}-nft"),
            By::Chain(_) => name.to_owned(),
        };
        let accept = |chain: &str| {
            let rules: Vec<_> = match kind {
                Kind::Bridged => vec![format!("-i {bridge} -o {bridge} -j ACCEPT")],
                Kind::Between => {
                    let other = to.map_or("", |bridge| bridge.name.as_str());
                    [(bridge.as_str(), other), (other, bridge.as_str())]
                        .map(|(from, to)| format!("-i {from} -o {to} -j ACCEPT"))
                        .to_vec()
                }
                Kind::Sent | Kind::Replies => {
                    let is_of_kind = |rule: &AcceptRule| rule.are_replies == (kind == Kind::Replies);
                    let rules = self.accept_rules().into_iter().filter(is_of_kind);
                    rules.map(|rule| rule.to_string()).collect()
                }
            };
            let commands: Vec<_> =
                rules.iter().map(|rule| format!("`{enter}{tool} -I {chain} {rule}`")).collect();
            let verb = if commands.len() == 1 { "accepts" } else { "accept" };
            match &commands[..] {
                [] => format!("accept them in {chain}"),
                commands => format!("{} {verb} them", commands.join(", ")),
            }
        };
        let rule = match by {
            By::Chain(dropper @ Dropper { family, table, chain, .. })
                if (*family, table.as_str(), chain.as_str()) == (self.family, FILTER, FORWARD) =>
            {
                let has_jump = |to| self.machine.rules_of(dropper).has_jump(*family, table, FORWARD, to);
                let has_ufw = UFW.iter().any(|(of, chain)| of == family && has_jump(chain));
                match (has_jump(DOCKER_USER), self.of_ufw(kind, to)) {
                    (_, Some(commands)) if has_ufw => commands,
                    (true, _) => accept(DOCKER_USER),
                    (false, _) => accept(FORWARD),
                }
            }
            By::Chain(dropper) if dropper.table == FIREWALLD => {
                let other = to.map_or(String::new(), |to| format!(" --add-interface={}", to.name));
                let trust = format!("--zone=trusted --add-interface={bridge}{other}");
                format!(
                    "`{enter}firewall-cmd {trust} && {enter}firewall-cmd --permanent {trust}` accepts them, also after a \
                     restart of firewalld"
                )
            }
            By::Chain(dropper) => format!("accept them in {dropper}"),
            By::Legacy(table) if table.family == self.family => accept(FORWARD),
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
        // Packets to other networks pass the machine, wherever the bridge is.
        let elsewhere = match kind {
            Kind::Bridged if self.bridge.place == Place::Host => {
                "; preferably, write `fabric = true` at the top of the file, or use `--fabric`: the bridges are then in a \
                 namespace of the lab, which has no such rules"
            }
            Kind::Bridged => ", and a bridge in another `namespace` of the lab has no such rules",
            Kind::Sent | Kind::Replies | Kind::Between => "",
        };
        format!("{rule}{without}{elsewhere}")
    }
}
