//! Compares the routes of a namespace with the topology.

use std::{net::IpAddr, sync::Arc};

use super::{Master, Step, interfaces::addresses_of, steps::Planner};
use crate::topology::{Fate, IfName, Namespace, NextHop, Place, Route, RouteKey};

/// A route that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedRoute {
    /// What is unique among routes.
    pub key: RouteKey,
    /// What happens to packets, if they are not sent: `blackhole`, for example.
    pub fate: Option<String>,
    /// Its ways. A blackhole has none.
    pub hops: Vec<ObservedHop>,
    /// The source address of packets that are sent by it.
    pub src: Option<IpAddr>,
    /// Its own MTU in bytes.
    pub mtu: Option<u32>,
}

/// A way of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedHop {
    /// The gateway.
    pub via: Option<IpAddr>,
    /// The interface, if it is in the namespace.
    pub device: Option<String>,
    /// Whether the gateway is taken to be on the interface's link.
    pub onlink: bool,
    /// Its share of the flows.
    pub weight: u32,
}

impl ObservedRoute {
    /// A route as the file says it.
    #[cfg(test)]
    pub(super) fn of(route: &Route) -> Self {
        let hop = |hop: NextHop| ObservedHop {
            via: hop.via,
            device: hop.dev.map(|dev| dev.to_string()),
            onlink: hop.onlink,
            weight: hop.weight,
        };
        let fate = (route.fate != Fate::Unicast).then(|| route.fate.name().to_owned());
        let hops = route.hops().into_iter().map(hop).collect();
        Self { key: route.key(), fate, hops, src: route.src, mtu: route.mtu }
    }

    /// Whether it is as wanted. Where the file names no interface, the kernel has chosen one.
    #[must_use]
    pub fn is(&self, wanted: &Route) -> bool {
        let hops = wanted.hops();
        let is_there = |wanted: &NextHop| {
            self.hops.iter().any(|there| {
                let has_device = |dev: &IfName| there.device.as_deref() == Some(dev.as_str());
                (there.via, there.onlink) == (wanted.via, wanted.onlink)
                    && wanted.dev.as_ref().is_none_or(has_device)
                    && (self.hops.len() == 1 || there.weight == wanted.weight)
            })
        };
        self.key == wanted.key()
            && self.fate.as_deref().unwrap_or(Fate::Unicast.name()) == wanted.fate.name()
            && (self.src, self.mtu) == (wanted.src, wanted.mtu)
            && self.hops.len() == hops.len()
            && hops.iter().all(is_there)
    }

    /// The gateway of a route that is nothing but that.
    #[must_use]
    pub fn gateway(&self) -> Option<IpAddr> {
        match &self.hops[..] {
            [ObservedHop { via, onlink: false, .. }] if self.src.is_none() && self.mtu.is_none() => *via,
            _ => None,
        }
    }

    /// All but the key, for output. Interfaces are left out where the file names none.
    #[must_use]
    pub fn way(&self, wanted: &Route) -> String {
        let has_devices = wanted.hops().iter().any(|hop| hop.dev.is_some());
        let hop = |hop: &ObservedHop| {
            let via = hop.via.map(|via| format!("via {via}"));
            let device = || hop.device.as_deref().map_or("elsewhere".to_owned(), |dev| format!("dev {dev}"));
            let device = (via.is_none() || has_devices).then(device);
            let words: Vec<String> =
                via.into_iter().chain(device).chain(hop.onlink.then(|| "onlink".to_owned())).collect();
            words.join(" ")
        };
        let mut words: Vec<String> = self.fate.iter().cloned().collect();
        match &self.hops[..] {
            [one] => words.push(hop(one)),
            several => {
                words.extend(several.iter().map(|one| format!("nexthop {} weight {}", hop(one), one.weight)))
            }
        }
        words.extend(self.src.map(|src| format!("src {src}")));
        words.extend(self.mtu.map(|mtu| format!("mtu {mtu}")));
        words.join(" ")
    }
}

impl Planner<'_> {
    /// Adds missing routes and removes those of an earlier topology. Routes that the user added stay, except one with the
    /// key of a wanted route, since there can be only one.
    pub(super) fn routes(&mut self, namespace: &Namespace) {
        let name = &namespace.name;
        let place = Place::Namespace(name.clone());
        let is_gone = self.standing.is_gone(&place);
        let is_new = is_gone || !self.observed.namespaces.contains_key(name);
        if is_new && !namespace.routes.is_empty() {
            let (namespace, routes) = (name.clone(), Arc::clone(&namespace.routes));
            self.plan.raise.push(Step::Routes { namespace, routes });
            return;
        }
        let there = self.observed.routes.get(name).filter(|_| !is_gone).map_or(&[][..], Vec::as_slice);
        let formerly = || {
            let former = self.former.iter().flat_map(|former| &former.namespaces);
            former.filter(|former| &former.name == name).flat_map(|former| former.routes.iter())
        };
        let is_replaced = |route: &Route| namespace.routes.iter().any(|wanted| wanted.key() == route.key());
        let mut surplus: Vec<&Route> = Vec::new();
        for route in formerly().filter(|route| !is_replaced(route)) {
            if there.iter().any(|there| there.is(route)) && !surplus.contains(&route) {
                surplus.push(route);
            }
        }
        let surplus: Vec<Route> = surplus.into_iter().cloned().collect();
        for route in surplus {
            let connected = self.connected(&place, &route);
            self.plan.raise.push(Step::DeleteRoute { namespace: name.clone(), route });
            self.plan.raise.extend(connected);
        }
        for route in namespace.routes.iter() {
            if there.iter().any(|there| there.is(route)) && !self.is_lost(&place, route) {
                continue;
            }
            if formerly().any(|former| former == route) && self.is_of_master(&place, route) {
                continue;
            }
            let from = self.observed.route_elsewhere(name, route).filter(|_| !is_gone).cloned();
            self.plan.raise.push(Step::Route { namespace: name.clone(), from, route: route.clone() });
        }
    }

    /// The step that adds the connected route which an IPv4 route of the lab has replaced.
    fn connected(&self, place: &Place, route: &Route) -> Option<Step> {
        let is_in_its_place = route.to.addr().is_ipv4() && route.key() == RouteKey::usual(route.to);
        let device = route.dev.as_ref().filter(|_| is_in_its_place && route.via.is_none())?.as_str();
        let addresses = addresses_of(self.topology, place, device);
        let address = addresses.iter().copied().find(|address| address.trunc() == route.to)?;
        Some(Step::Subnet { place: place.clone(), device: device.to_owned(), address })
    }

    /// Restores routes that the lab's have replaced in an adopted namespace, where the file has none with their key any
    /// more.
    pub(super) fn restored_routes(&mut self, namespace: &Namespace) {
        let replaced = self.observed.replaced_routes.iter().filter(|(name, _)| *name == namespace.name);
        for (name, key) in replaced {
            if !namespace.routes.iter().any(|route| route.key() == *key) {
                self.plan.raise.push(Step::RestoreRoutes { namespace: name.clone(), key: *key });
            }
        }
    }

    /// Whether a route's interface is a member of a VRF or a bond, which then has the routes.
    fn is_of_master(&self, place: &Place, route: &Route) -> bool {
        let links = self.observed.links.range((place.clone(), String::new())..);
        let mut here = links.take_while(|((at, _), _)| at == place);
        here.any(|((_, device), link)| {
            matches!(link.master, Master::Vrf | Master::Bond) && self.leads_by(place, route, device)
        })
    }

    /// Whether a step of this plan makes the kernel remove a route.
    fn is_lost(&self, place: &Place, route: &Route) -> bool {
        // The interface that the kernel has chosen, where the file names none.
        let observed =
            self.observed.routes.iter().find(|(name, _)| *place == Place::Namespace((*name).clone()));
        let observed = observed.map_or(&[][..], |(_, routes)| routes.as_slice());
        let observed = observed.iter().filter(|there| there.key == route.key());
        let hops: Vec<&ObservedHop> = observed.flat_map(|there| &there.hops).collect();
        self.disturbed.iter().filter(|(at, _)| at == place).any(|(_, device)| {
            let leads_by = hops.iter().any(|hop| hop.device.as_deref() == Some(device.as_str()));
            let there = self.observed.link(place, device).map_or(&[][..], |link| &link.addresses);
            let has = |ip: IpAddr| there.iter().any(|net| net.contains(&ip));
            let is_source = route.src.is_some_and(|src| there.iter().any(|net| net.addr() == src));
            leads_by || is_source || route.gateways().any(has) || self.leads_by(place, route, device)
        })
    }

    /// Whether a route leads by a device.
    fn leads_by(&self, place: &Place, route: &Route, device: &str) -> bool {
        let nets = addresses_of(self.topology, place, device);
        route.hops().iter().any(|hop| match (&hop.dev, hop.via) {
            (Some(dev), _) => dev.as_str() == device,
            (None, Some(via)) => nets.iter().any(|net| net.contains(&via)),
            (None, None) => false,
        })
    }
}
