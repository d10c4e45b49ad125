//! The state that was found before any step is run.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use ipnet::IpNet;

use super::{ObservedRoute, Offloads};
use crate::topology::{
    AcceptRule, BridgeOption, Family, IfName, LabName, Neighbour, NsName, OffloadSizes, Place, Route,
    RouteKey, Rule, SysctlKey, Topology, lab_mark,
};

/// What a name in `/run/netns` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A namespace of this lab.
    Ours,
    /// A namespace that is not the lab's; with the other lab that it belongs to, if any.
    Foreign(Option<LabName>),
    /// A file of this lab on which no namespace is mounted.
    LeftOver,
}

/// The kind of a link's master device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Master {
    /// It has no master.
    #[default]
    None,
    /// A bridge. It does not change MAC, MTU or addresses of a port.
    Bridge,
    /// A VRF. It has the routes of its members in its own table.
    Vrf,
    /// A bond or a similar device. It sets MAC, MTU and state of its members, and has their addresses and routes.
    Bond,
}

/// A link that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedLink {
    /// Whether it is the lab's: it carries the lab's mark, or was created by the lab and not marked yet.
    pub ours: bool,
    /// Whether it carries this lab's mark.
    pub marked: bool,
    /// The lab whose mark it carries.
    pub owner: Option<LabName>,
    /// Its ifindex.
    pub ifindex: u32,
    /// The ifindex of a veth's other end, in that end's namespace.
    pub peer: Option<u32>,
    /// Its MAC.
    pub mac: Option<[u8; 6]>,
    /// Whether it is administratively up.
    pub up: bool,
    /// Name of the bridge that it is a port of.
    pub bridge: Option<String>,
    /// The kind of its master.
    pub master: Master,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Its offload sizes, those that the kernel has.
    pub sizes: OffloadSizes,
    /// Its permanent neighbours, if a topology has any in its namespace.
    pub neighbours: Vec<Neighbour>,
    /// Its bridge options; empty if it is no bridge.
    pub options: Vec<BridgeOption>,
    /// The kernel's id of the XDP program on it.
    pub xdp_program: Option<u32>,
}

/// The rules of a lab in `DOCKER-USER` of one family in one network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The namespace.
    pub place: Place,
    /// Whether the chain is that of `iptables` or of `ip6tables`.
    pub family: Family,
    /// Those that are there, in their order. `None` is a rule with the lab's mark that is not as vethpath writes it.
    pub present: Vec<Option<AcceptRule>>,
    /// Those that the lab needs.
    pub wanted: Vec<AcceptRule>,
}

impl Accepted {
    /// Whether these rules are there, and no others.
    #[must_use]
    pub fn is_as(&self, wanted: &[AcceptRule]) -> bool {
        self.present.iter().map(Option::as_ref).eq(wanted.iter().map(Some))
    }

    /// The rules that should be there for a topology: the wanted ones, and those that are there of devices with `nat` that
    /// need none at the moment. The default route may be missing for a while, or Docker may be starting.
    #[must_use]
    pub fn lasting(&self, topology: &Topology) -> Vec<AcceptRule> {
        let devices = topology.bridges.iter().filter_map(|it| topology.masquerading_device(it, &self.place));
        let devices: BTreeSet<&str> = devices.map(IfName::as_str).collect();
        let has_nat = |name: &str| devices.contains(name);
        let needs_some = |name: &str| self.wanted.iter().any(|rule| rule.bridge == name);
        let is_kept = |rule: &&AcceptRule| has_nat(&rule.bridge) && !needs_some(&rule.bridge);
        let kept = self.present.iter().flatten().filter(is_kept);
        let mut all: Vec<AcceptRule> = Vec::new();
        for rule in kept.chain(&self.wanted) {
            if !all.contains(rule) {
                all.push(rule.clone());
            }
        }
        all
    }

    /// The chain, in output: `ip filter DOCKER-USER in host`.
    #[must_use]
    pub fn chain(&self) -> String {
        let family = if self.family == Family::Ipv4 { "ip" } else { "ip6" };
        format!("{family} filter DOCKER-USER in {}", self.place)
    }
}

/// A route of the machine, or one of its addresses, that is not the lab's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// The destination, or the address with its prefix length.
    pub to: IpNet,
    /// The next hop, such as `dev eth0` or `blackhole`.
    pub hop: String,
    /// The lab that the device belongs to, if any.
    pub owner: Option<LabName>,
}

/// The state that was found for all names that the lab uses or used.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Names in `/run/netns` that the lab wants or had.
    pub namespaces: BTreeMap<NsName, Found>,
    /// Namespaces that the lab has adopted, and whose `adopt` leads to another one by now.
    pub moved: BTreeSet<NsName>,
    /// Routes of adopted namespaces that the lab's have replaced.
    pub replaced_routes: BTreeSet<(NsName, RouteKey)>,
    /// Adopted namespaces in which no process is left, so that the ports of their interfaces stay down.
    pub deserted: BTreeSet<NsName>,
    /// Links of the host and of the lab's namespaces, by place and name.
    pub links: BTreeMap<(Place, String), ObservedLink>,
    /// Places whose masquerade table is as wanted.
    pub masquerading: BTreeSet<Place>,
    /// Rules in `DOCKER-USER`, for each such chain where the lab has, had or is to have bridges.
    pub accepted: Vec<Accepted>,
    /// Routes of the lab's namespaces, in all tables.
    pub routes: BTreeMap<NsName, Vec<ObservedRoute>>,
    /// Routing rules of the lab's namespaces that have, or had, any.
    pub rules: BTreeMap<NsName, Vec<(Family, Rule)>>,
    /// Routes by uplinks, on the machine and in the fabric: place, device, destination and gateway.
    pub uplink_routes: BTreeSet<(Place, String, IpNet, Ipv6Addr)>,
    /// What the machine has of the subnets of the fabric. Default routes are left out.
    pub routed: Vec<Routed>,
    /// Connected routes: place, device and subnet.
    pub subnets: BTreeSet<(Place, String, IpNet)>,
    /// Present values of the settings in the file, without those that cannot be read.
    pub sysctls: BTreeMap<(Place, SysctlKey), String>,
    /// Whether the last run reached its end, and so has written the settings of the former topologies.
    pub is_settled: bool,
    /// Values of settings before the lab changed them.
    pub sysctls_before: BTreeMap<(Place, SysctlKey), String>,
    /// Ports that run the lab's program.
    pub programs: BTreeSet<(Place, String)>,
    /// Ports that run the lab's XDP program.
    pub xdp_programs: BTreeSet<(Place, String)>,
    /// Inner ends that the file wants XDP for and that are not prepared, with their present offloads.
    pub unready: BTreeMap<(NsName, IfName), Offloads>,
    /// Inner ends that were prepared for XDP, with their offloads from before.
    pub switched: BTreeMap<(NsName, IfName), Offloads>,
}

impl Observed {
    /// The link of this name in this place.
    #[must_use]
    pub fn link(&self, place: &Place, name: &str) -> Option<&ObservedLink> {
        self.links.get(&(place.clone(), name.to_owned()))
    }

    /// The route of a namespace with the key of a wanted one, if it leads elsewhere.
    #[must_use]
    pub fn route_elsewhere(&self, namespace: &NsName, route: &Route) -> Option<&ObservedRoute> {
        let is_other = |there: &&ObservedRoute| there.key == route.key() && !there.is(route);
        self.routes.get(namespace)?.iter().find(is_other)
    }
}

/// The lab named by an alias, which marks a link, or a namespace if the link is its loopback.
#[must_use]
pub fn owner(alias: Option<&str>) -> Option<LabName> {
    let name = alias?.split(' ').next()?.rsplit(':').next()?.parse().ok()?;
    is_ours(alias, &name).then_some(name)
}

/// Whether an alias marks a link, or the namespace of a loopback, as this lab's.
#[must_use]
pub fn is_ours(alias: Option<&str>, lab: &LabName) -> bool {
    let mark = lab_mark(lab);
    alias
        .and_then(|alias| alias.strip_prefix(&mark))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Source, read};

    #[test]
    fn rules_last_as_long_as_their_bridge_unless_it_needs_others() {
        let bridges = ["br0", "br1"]
            .map(|name| format!("[bridge.{name}]\nnat = true\naddresses = [\"10.{}.0.1/24\"]\n", &name[2..]));
        let text = bridges.concat() + "[bridge.off]\n";
        let lab = read(Source { path: "lab.toml", text: &text }, Some("lab")).unwrap();
        let rules = |bridge: &str, uplink: &str| AcceptRule::both(&bridge.parse().unwrap(), uplink).to_vec();
        let accepted = |present: Vec<AcceptRule>, wanted| {
            let present = present.into_iter().map(Some).collect();
            Accepted { place: Place::Host, family: Family::Ipv6, present, wanted }
        };
        let both = [rules("br0", "eth0"), rules("br1", "eth0")].concat();
        assert_eq!(accepted(both.clone(), Vec::new()).lasting(&lab), both, "no default route for a while");
        let other_uplink = accepted(both.clone(), rules("br1", "wlan0"));
        assert_eq!(other_uplink.lasting(&lab), [rules("br0", "eth0"), rules("br1", "wlan0")].concat());
        let more = [&both[..], &both, &rules("gone", "eth0"), &rules("off", "eth0")].concat();
        let more = accepted(more, both.clone());
        assert!(!more.is_as(&both));
        assert_eq!(more.lasting(&lab), both);
        let damaged = Accepted { present: vec![None], ..accepted(Vec::new(), both.clone()) };
        assert!(!damaged.is_as(&[]) && damaged.lasting(&lab) == both);
        assert!(accepted(both.clone(), both.clone()).is_as(&both));
        assert_eq!(damaged.chain(), "ip6 filter DOCKER-USER in host");
    }

    #[test]
    fn a_mark_tells_whose_it_is() {
        let name = |alias| owner(Some(alias)).map(|lab| lab.to_string());
        assert_eq!(name("vethpath:fabric").as_deref(), Some("fabric"));
        assert_eq!(name("vethpath:three-hosts ns0:eth0").as_deref(), Some("three-hosts"));
        for other in ["", "fabric", "vethpath", "vethpath:", "other:fabric", "vethpath-like"] {
            assert_eq!(name(other), None, "{other:?}");
        }
    }
}
