//! What is there before anything is done.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::topology::{BridgeOption, LabName, NsName, Place, Route, lab_mark};

/// What a name in `/run/netns` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A namespace of this lab.
    Ours,
    /// A namespace of somebody else; of this other lab, if it is one's.
    Foreign(Option<LabName>),
    /// A file on which no namespace is mounted.
    LeftOver,
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
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Its options; none where it is no bridge.
    pub options: Vec<BridgeOption>,
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
    /// Settings that the file has, as they are; without those that cannot be read.
    pub sysctls: BTreeMap<(NsName, Vec<String>), String>,
    /// What settings were before the lab changed them.
    pub sysctls_before: BTreeMap<(NsName, Vec<String>), String>,
    /// Ports that run the lab's program.
    pub programs: BTreeSet<(Place, String)>,
}

impl Observed {
    /// The link of this name in this place.
    #[must_use]
    pub fn link(&self, place: &Place, name: &str) -> Option<&ObservedLink> {
        self.links.get(&(place.clone(), name.to_owned()))
    }

    /// A route of a namespace to the same destination by way of another gateway.
    #[must_use]
    pub fn route_elsewhere(&self, namespace: &NsName, route: &Route) -> Option<IpAddr> {
        let same = |other: &&Route| {
            other.to == route.to && other.via != route.via && other.via.is_ipv4() == route.via.is_ipv4()
        };
        Some(self.routes.get(namespace)?.iter().find(same)?.via)
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
