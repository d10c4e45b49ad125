//! Estimates the number of neighbour table entries that a lab needs.
//!
//! The kernel has one table for each family, for all network namespaces (`arp_tbl`, `nd_tbl`). It limits the number
//! of entries to `gc_thresh3` (`neigh_alloc` in net/core/neighbour.c). Entries in use are not evicted.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use serde::Serialize;

use super::{Place, Route, Topology};

/// An address family with a neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// ARP.
    Ipv4,
    /// Neighbour discovery.
    Ipv6,
}

impl Family {
    /// Both families.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The sysctl of the limit.
    #[must_use]
    pub fn limit(self) -> &'static str {
        match self {
            Self::Ipv4 => "net.ipv4.neigh.default.gc_thresh3",
            Self::Ipv6 => "net.ipv6.neigh.default.gc_thresh3",
        }
    }

    /// Whether an address is of it.
    #[must_use]
    pub fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::Ipv4)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// The entries of one table that a lab needs if each host talks to its gateways, or to one neighbour if it has
/// none. Each further pair of hosts that talk to each other needs two more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// Entries in all namespaces together.
    pub entries: usize,
    /// The device with the most neighbours: its name and their number.
    pub most: Option<(String, usize)>,
}

/// A device with addresses.
struct Device<'t> {
    place: &'t Place,
    name: &'t str,
    is_bridge: bool,
    addresses: Vec<IpNet>,
}

impl Device<'_> {
    fn title(&self) -> String {
        match self.is_bridge {
            true => format!("bridge {}", self.name),
            false => format!("{}:{}", self.place, self.name),
        }
    }
}

impl Neighbours {
    /// Estimates the need of a lab.
    #[must_use]
    pub fn of(topology: &Topology, family: Family) -> Self {
        let places: HashMap<&str, Place> = topology
            .namespaces
            .iter()
            .map(|namespace| (namespace.name.as_str(), Place::Namespace(namespace.name.clone())))
            .collect();
        let devices = devices(topology, &places, family);
        let mut of_places: HashMap<&Place, Vec<usize>> = HashMap::new();
        let mut owners: HashMap<IpAddr, usize> = HashMap::new();
        let mut members: HashMap<IpNet, usize> = HashMap::new();
        for (n, device) in devices.iter().enumerate() {
            of_places.entry(device.place).or_default().push(n);
            for net in &device.addresses {
                let _ = owners.entry(net.addr()).or_insert(n);
                *members.entry(net.trunc()).or_default() += 1;
            }
        }
        // The neighbours of each device.
        let mut talks: Vec<BTreeSet<IpAddr>> = vec![BTreeSet::new(); devices.len()];
        let mut before: Option<(&Arc<[Route]>, BTreeSet<IpAddr>)> = None;
        for namespace in &topology.namespaces {
            let Some(own) = places.get(namespace.name.as_str()).and_then(|place| of_places.get(place)) else {
                continue;
            };
            let vias = match before.take() {
                Some((routes, vias)) if Arc::ptr_eq(routes, &namespace.routes) => vias,
                _ => {
                    namespace.routes.iter().flat_map(Route::gateways).filter(|via| family.has(*via)).collect()
                }
            };
            for &via in &vias {
                let near = own.iter().find_map(|&n| {
                    let net = devices[n].addresses.iter().find(|net| net.contains(&via))?;
                    Some((n, net.addr()))
                });
                let Some((near, address)) = near else { continue };
                let _ = talks[near].insert(via);
                if let Some(&owner) = owners.get(&via) {
                    let _ = talks[owner].insert(address);
                }
            }
            before = Some((&namespace.routes, vias));
        }
        let is_in_company = |device: &Device<'_>| {
            device.addresses.iter().any(|net| members.get(&net.trunc()).is_some_and(|many| *many > 1))
        };
        let needs = devices.iter().zip(&talks).map(|(device, talks)| match talks.len() {
            0 => usize::from(!device.is_bridge && is_in_company(device)),
            talks => talks,
        });
        let needs: Vec<usize> = needs.collect();
        let most = needs.iter().zip(&devices).max_by_key(|(needs, _)| **needs);
        let most = most.filter(|(needs, _)| **needs > 0).map(|(needs, device)| (device.title(), *needs));
        Self { entries: needs.iter().sum(), most }
    }
}

/// The devices that have addresses of the family.
fn devices<'t>(topology: &'t Topology, places: &'t HashMap<&str, Place>, family: Family) -> Vec<Device<'t>> {
    let of_family = |nets: &[IpNet]| -> Vec<IpNet> {
        nets.iter()
            .filter(|net| family.has(net.addr()) && net.prefix_len() < net.max_prefix_len())
            .copied()
            .collect()
    };
    let bridges = topology.bridges.iter().map(|bridge| Device {
        place: &bridge.place,
        name: bridge.name.as_str(),
        is_bridge: true,
        addresses: of_family(&bridge.addresses),
    });
    let pairs = topology.pairs.iter().filter(|pair| pair.inner.up).filter_map(|pair| {
        let place = places.get(pair.namespace.as_str())?;
        Some((place, &pair.inner))
    });
    let ends = topology.cables.iter().flat_map(|cable| [&cable.a, &cable.b]);
    let ends = ends.filter(|end| end.interface.up).map(|end| (&end.place, &end.interface));
    let interfaces = pairs.chain(ends).map(|(place, interface)| Device {
        place,
        name: interface.name.as_str(),
        is_bridge: false,
        addresses: of_family(&interface.addresses),
    });
    bridges.chain(interfaces).filter(|device| !device.addresses.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Source, read};

    fn needs(text: &str) -> [Neighbours; 2] {
        let topology = read(Source { path: "lab.toml", text }, Some("lab"))
            .unwrap_or_else(|faults| panic!("{faults:?}"));
        Family::ALL.map(|family| Neighbours::of(&topology, family))
    }

    #[test]
    fn hosts_and_their_gateway_know_each_other() {
        let bridge = "[bridge.br0]\naddresses = [\"10.0.0.1/16\", \"fd00::1/64\"]\n";
        let group = |subnet: &str| format!("[group.h]\ncount = 500\nbridge = \"br0\"\nsubnet = {subnet}\n");
        let [v4, v6] = needs(&(bridge.to_owned() + &group("\"10.0.0.0/16\"")));
        assert_eq!((v4.entries, v4.most), (1000, Some(("bridge br0".to_owned(), 500))));
        assert_eq!(v6, Neighbours::default());
        let [v4, v6] = needs(&(bridge.to_owned() + &group("[\"10.0.0.0/16\", \"fd00::/64\"]")));
        assert_eq!((v4.entries, v6.entries), (1000, 1000));
    }

    #[test]
    fn hosts_without_a_gateway_talk_to_one_neighbour_at_least() {
        let [v4, _] =
            needs("[bridge.br0]\n[group.h]\ncount = 7\nbridge = \"br0\"\nsubnet = \"10.0.0.0/24\"\n");
        assert_eq!((v4.entries, v4.most.unwrap().1), (7, 1));
        let alone = "[bridge.br0]\n[namespace.a.interface.e]\nlink = \"br0\"\naddresses = [\"10.0.0.1/24\"]\n[namespace.a]\n";
        assert_eq!(needs(alone)[0].entries, 0);
    }

    #[test]
    fn a_router_knows_those_who_route_by_it() {
        let text = "[namespace.r.interface.e]\nlink = \"br0\"\naddresses = [\"10.0.0.254/24\"]\n[bridge.br0]\n\
            [group.h]\ncount = 3\nbridge = \"br0\"\nsubnet = \"10.0.0.0/24\"\ngateway = \"10.0.0.254\"\n[namespace.r]\n";
        let [v4, _] = needs(text);
        assert_eq!((v4.entries, v4.most), (6, Some(("r:e".to_owned(), 3))));
    }
}
