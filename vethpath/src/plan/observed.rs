//! What is there before anything is done.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::{
    state::Offloads,
    topology::{BridgeOption, IfName, LabName, NsName, Place, Route, SysctlKey, lab_mark},
};

/// What a name in `/run/netns` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A namespace of this lab.
    Ours,
    /// A namespace of somebody else; of this other lab, if it is one's.
    Foreign(Option<LabName>),
    /// A file of this lab's on which no namespace is mounted.
    LeftOver,
}

/// How a route leads to its destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// By way of a gateway.
    Gateway(IpAddr),
    /// Another, such as `dev eth0` or `blackhole`.
    Other(String),
}

/// The kind of device that a link is a port or member of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Master {
    /// It is of none.
    #[default]
    None,
    /// A bridge, which leaves what a port has alone.
    Bridge,
    /// A VRF, which has the routes of its members in a table of its own.
    Vrf,
    /// A bond or a like device: it sets MAC, MTU and state of its members, and has their addresses and routes.
    Bond,
}

/// A link that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedLink {
    /// Whether it carries this lab's mark, or is one of ours that was not marked yet.
    pub ours: bool,
    /// Whether it carries that mark.
    pub marked: bool,
    /// The lab whose mark it carries.
    pub owner: Option<LabName>,
    /// Its index in its namespace.
    pub ifindex: u32,
    /// The index of its other end, where it is a veth, in that one's namespace.
    pub peer: Option<u32>,
    /// Its MAC.
    pub mac: Option<[u8; 6]>,
    /// Administratively up.
    pub up: bool,
    /// Name of the bridge that it is a port of.
    pub bridge: Option<String>,
    /// What it is a port or member of.
    pub master: Master,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Its options; none where it is no bridge.
    pub options: Vec<BridgeOption>,
    /// The kernel's id of the XDP program on it.
    pub xdp_program: Option<u32>,
}

/// What is there, as far as a lab's names are concerned.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Names in `/run/netns` that the lab wants, or had.
    pub namespaces: BTreeMap<NsName, Found>,
    /// Links of the host and of the lab's namespaces, by place and name.
    pub links: BTreeMap<(Place, String), ObservedLink>,
    /// Places whose masquerade table is as it should be.
    pub masquerading: BTreeSet<Place>,
    /// Routes by way of gateways, of the lab's namespaces.
    pub routes: BTreeMap<NsName, Vec<Route>>,
    /// Other routes in the place that one by way of a gateway would take: destination, and where it leads.
    pub other_routes: BTreeMap<NsName, Vec<(IpNet, String)>>,
    /// Routes to the subnets of interfaces: where, by which, and to what.
    pub subnets: BTreeSet<(Place, String, IpNet)>,
    /// Settings that the file has, as they are; without those that cannot be read.
    pub sysctls: BTreeMap<(Place, SysctlKey), String>,
    /// What settings were before the lab changed them.
    pub sysctls_before: BTreeMap<(Place, SysctlKey), String>,
    /// Ports that run the lab's program.
    pub programs: BTreeSet<(Place, String)>,
    /// Ports that run the lab's XDP program.
    pub xdp_programs: BTreeSet<(Place, String)>,
    /// Inner ends that the file wants XDP for and that are not ready, with the offloads that they have.
    pub unready: BTreeMap<(NsName, IfName), Offloads>,
    /// Inner ends that were made ready, with the offloads that they had before.
    pub switched: BTreeMap<(NsName, IfName), Offloads>,
}

impl Observed {
    /// The link of this name in this place.
    #[must_use]
    pub fn link(&self, place: &Place, name: &str) -> Option<&ObservedLink> {
        self.links.get(&(place.clone(), name.to_owned()))
    }

    /// What leads to a route's destination in a namespace, if that is not its gateway.
    #[must_use]
    pub fn route_elsewhere(&self, namespace: &NsName, route: &Route) -> Option<NextHop> {
        let same = |other: &&Route| {
            other.to == route.to && other.via != route.via && other.via.is_ipv4() == route.via.is_ipv4()
        };
        let gateway = self.routes.get(namespace).and_then(|routes| routes.iter().find(same));
        let others = self.other_routes.get(namespace).map_or(&[][..], Vec::as_slice);
        let other = || others.iter().find(|(to, _)| *to == route.to);
        gateway
            .map(|route| NextHop::Gateway(route.via))
            .or_else(|| other().map(|(_, way)| NextHop::Other(way.clone())))
    }
}

/// The lab that an alias says a link, or the namespace it is the loopback of, is of.
#[must_use]
pub fn owner(alias: Option<&str>) -> Option<LabName> {
    let name = alias?.split(' ').next()?.rsplit(':').next()?.parse().ok()?;
    is_ours(alias, &name).then_some(name)
}

/// Whether an alias says that a link, or the namespace it is the loopback of, is this lab's.
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
