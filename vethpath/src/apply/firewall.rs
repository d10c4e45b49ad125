//! What the rules of a machine do to the packets of a lab, before anything is changed. On many machines a firewall or a
//! container engine drops what is forwarded, and br_netfilter makes that apply to bridged frames too.

use std::{fmt, path::Path};

use ipnet::IpNet;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::namespaces;
use crate::{
    kernel::{
        Result, RouteSocket, Source,
        netfilter::{
            BRIDGE_SYSCTLS, BridgeCalls, Dropper, ESTABLISHED, Family, HookPoint, NEW, Packets, Ruleset,
            Verdict, bridge_nf_call,
        },
    },
    topology::{Bridge, IfName, Pair, Place, Topology},
};

/// The hooks that a forwarded packet passes.
const HOOKS: [HookPoint; 3] = [HookPoint::Prerouting, HookPoint::Forward, HookPoint::Postrouting];

/// A chain of Docker for the rules of its user. It is passed before all of Docker's.
const DOCKER_USER: &str = "DOCKER-USER";

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

/// Packets that rules drop.
#[derive(Clone, Debug)]
pub struct Drop {
    bridge: IfName,
    place: Place,
    kind: Kind,
    family: Family,
    /// The device at the other side of the bridge's namespace.
    uplink: Option<String>,
    dropper: Dropper,
    /// Whether all of them are dropped. Otherwise some may be.
    pub is_certain: bool,
    has_docker: bool,
}

impl fmt::Display for Drop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = if self.family == Family::Ip { "IPv4" } else { "IPv6" };
        let packets = match self.kind {
            Kind::Bridged => "packets between its hosts",
            Kind::Sent => "packets from its hosts to other networks",
            Kind::Replies => "replies to its hosts from other networks",
        };
        let verb = if self.is_certain { "are dropped" } else { "may be dropped" };
        let Self { bridge, place, dropper, .. } = self;
        write!(f, "bridge {bridge} in {place}: {version} {packets} {verb} by {dropper}")
    }
}

impl Drop {
    /// The ways out, for a user.
    #[must_use]
    pub fn hint(&self) -> String {
        let Self { bridge, dropper, .. } = self;
        let (tool, name) =
            if self.family == Family::Ip { ("iptables", "iptables") } else { ("ip6tables", "ip6tables") };
        let accept = match (self.kind, &self.uplink) {
            (Kind::Bridged, _) => format!("-i {bridge} -o {bridge}"),
            (Kind::Sent, _) => format!("-i {bridge} ! -o {bridge}"),
            (Kind::Replies, _) => format!("-o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED"),
        };
        let is_iptables =
            dropper.table == "filter" && dropper.chain == "FORWARD" && dropper.family == self.family;
        let rule = if is_iptables {
            let chain = if self.has_docker { DOCKER_USER } else { "FORWARD" };
            format!("`{tool} -I {chain} {accept} -j ACCEPT` accepts them")
        } else {
            format!("accept them in {dropper}")
        };
        let without = match self.kind {
            Kind::Bridged if dropper.family != Family::Bridge => format!(
                ", `sysctl -w net.bridge.bridge-nf-call-{name}=0` keeps bridged packets of this namespace from these rules"
            ),
            _ => String::new(),
        };
        format!("{rule}{without}, and a bridge with a `namespace` of the lab's has no such rules")
    }
}

/// The packets of a lab that are or may be dropped, in bridge namespaces that exist already. The certain ones come
/// first.
///
/// # Errors
/// The kernel refuses to show a namespace's rules or links.
pub fn drops(topology: &Topology) -> Result<Vec<Drop>> {
    let mut all = Vec::new();
    for (_, place) in topology.domains() {
        let Some(netns) = namespaces::existing(&place, topology)? else { continue };
        let mut source = Source::new(&netns, NETLINK_NETFILTER);
        let Some(socket) = source.socket()? else { continue };
        let rules = Ruleset::read(socket)?;
        let calls = netns.run(|| bridge_nf_call(Path::new(BRIDGE_SYSCTLS)))??;
        let links = RouteSocket::open(&netns)?;
        for bridge in topology.bridges.iter().filter(|bridge| bridge.place == place) {
            let calls = calls.with_options_of(links.link(bridge.name.as_str())?.as_ref());
            for family in [Family::Ip, Family::Ip6] {
                let on_bridge = OnBridge { topology, bridge, family, rules: &rules };
                all.extend(on_bridge.between_hosts(calls));
                if bridge.nat {
                    let uplink = uplink(&links, family)?;
                    all.extend(uplink.into_iter().flat_map(|uplink| on_bridge.routed(&uplink)));
                }
            }
        }
    }
    all.sort_by_key(|drop| !drop.is_certain);
    Ok(all)
}

/// The device of the default route.
fn uplink(links: &RouteSocket, family: Family) -> Result<Option<String>> {
    let is_default = |to: &IpNet| to.prefix_len() == 0 && to.addr().is_ipv4() == (family == Family::Ip);
    let route = links.routes()?.into_iter().find(|route| is_default(&route.to) && route.is_main);
    let Some(ifindex) = route.and_then(|route| route.ifindex) else { return Ok(None) };
    Ok(links.links()?.into_iter().find(|link| link.ifindex == ifindex).map(|link| link.name))
}

/// A bridge, and the packets of one family there.
struct OnBridge<'a> {
    topology: &'a Topology,
    bridge: &'a Bridge,
    family: Family,
    rules: &'a Ruleset,
}

impl OnBridge<'_> {
    fn pairs(&self) -> impl Iterator<Item = &Pair> {
        let is_here = |pair: &&Pair| pair.place == self.bridge.place && pair.bridge == self.bridge.name;
        self.topology.pairs.iter().filter(is_here)
    }

    /// The subnets of the hosts, or of the bridge itself.
    fn subnets<'n>(&self, addresses: impl Iterator<Item = &'n IpNet>) -> Vec<IpNet> {
        let is_of_family = |net: &&IpNet| net.addr().is_ipv4() == (self.family == Family::Ip);
        let mut subnets: Vec<_> = addresses.filter(is_of_family).map(IpNet::trunc).collect();
        subnets.sort_unstable();
        subnets.dedup();
        subnets
    }

    /// Packets between two hosts.
    fn between_hosts(&self, calls: BridgeCalls) -> Option<Drop> {
        let subnets = self.subnets(self.pairs().flat_map(|pair| &pair.inner.addresses));
        let mut ports = self.pairs().map(|pair| pair.port.as_str());
        let (Some(first), Some(second)) = (ports.next(), ports.next()) else { return None };
        if subnets.is_empty() {
            return None;
        }
        let packets = |in_device, out_device| Packets {
            family: self.family,
            in_device,
            out_device,
            are_bridged: true,
            state: NEW,
            sources: &subnets,
            destinations: &subnets,
        };
        let bridge = self.bridge.name.as_str();
        let is_called = if self.family == Family::Ip { calls.iptables } else { calls.ip6tables };
        let on_bridge = self.verdict(&[Family::Bridge], packets(first, second));
        let by_calls = is_called.then(|| self.verdict(&[self.family, Family::Inet], packets(bridge, bridge)));
        self.worst(Kind::Bridged, None, [Some(on_bridge), by_calls].into_iter().flatten())
    }

    /// Packets that are masqueraded, and their replies.
    fn routed(&self, uplink: &str) -> Vec<Drop> {
        let subnets = self.subnets(self.bridge.addresses.iter());
        if subnets.is_empty() {
            return Vec::new();
        }
        let bridge = self.bridge.name.as_str();
        let families = [self.family, Family::Inet];
        let sent = Packets {
            family: self.family,
            in_device: bridge,
            out_device: uplink,
            are_bridged: false,
            state: NEW,
            sources: &subnets,
            destinations: &[],
        };
        let replies = Packets {
            in_device: uplink,
            out_device: bridge,
            state: ESTABLISHED,
            sources: &[],
            destinations: &subnets,
            ..sent
        };
        let of =
            |kind, packets| self.worst(kind, Some(uplink), [self.verdict(&families, packets)].into_iter());
        of(Kind::Sent, sent).into_iter().chain(of(Kind::Replies, replies)).collect()
    }

    fn verdict(&self, families: &[Family], packets: Packets<'_>) -> Verdict {
        HOOKS
            .map(|hook| self.rules.verdict(hook, families, packets))
            .into_iter()
            .max()
            .unwrap_or(Verdict::Accept)
    }

    fn worst(
        &self,
        kind: Kind,
        uplink: Option<&str>,
        verdicts: impl Iterator<Item = Verdict>,
    ) -> Option<Drop> {
        let (dropper, is_certain) = match verdicts.max()? {
            Verdict::Accept => return None,
            Verdict::MayDrop(dropper) => (dropper, false),
            Verdict::Drop(dropper) => (dropper, true),
        };
        Some(Drop {
            bridge: self.bridge.name.clone(),
            place: self.bridge.place.clone(),
            kind,
            family: self.family,
            uplink: uplink.map(str::to_owned),
            has_docker: self.rules.has_chain(dropper.family, &dropper.table, DOCKER_USER),
            dropper,
            is_certain,
        })
    }
}
