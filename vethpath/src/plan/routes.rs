//! Routes via gateways.

use std::sync::Arc;

use ipnet::IpNet;

use super::{Master, Step, interfaces::addresses_of, steps::Planner};
use crate::topology::{Namespace, Place, Route};

impl Planner<'_> {
    /// Adds missing routes and removes those of an earlier topology. Routes that the user added stay, except one to the
    /// destination of a wanted route, since there can be only one.
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
        let was = |route: &&Route| {
            let former = self.former.iter().flat_map(|former| &former.namespaces);
            former.filter(|former| &former.name == name).any(|former| former.routes.contains(route))
        };
        let is_replaced = |route: &&Route| namespace.routes.iter().any(|wanted| wanted.to == route.to);
        let surplus = there.iter().filter(was).filter(|route| !is_replaced(route));
        for route in surplus {
            self.plan.raise.push(Step::DeleteRoute { namespace: name.clone(), route: route.clone() });
        }
        for route in namespace.routes.iter() {
            if there.contains(route) && !self.is_lost(&place, route) {
                continue;
            }
            if was(&route) && self.is_of_master(&place, route) {
                continue;
            }
            let from = self.observed.route_elsewhere(name, route).filter(|_| !is_gone);
            self.plan.raise.push(Step::Route { namespace: name.clone(), from, route: route.clone() });
        }
    }

    /// Whether a route's interface is a member of a VRF or a bond, which then has the routes.
    fn is_of_master(&self, place: &Place, route: &Route) -> bool {
        let links = self.observed.links.range((place.clone(), String::new())..);
        let mut here = links.take_while(|((at, _), _)| at == place);
        here.any(|((_, device), link)| {
            matches!(link.master, Master::Vrf | Master::Bond)
                && addresses_of(self.topology, place, device).iter().any(|net| net.contains(&route.via))
        })
    }

    /// Whether a step of this plan makes the kernel remove a route.
    fn is_lost(&self, place: &Place, route: &Route) -> bool {
        let leads_to = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&route.via));
        self.disturbed.iter().filter(|(at, _)| at == place).any(|(_, device)| {
            let there = self.observed.link(place, device).map_or(&[][..], |link| &link.addresses);
            leads_to(there) || leads_to(addresses_of(self.topology, place, device))
        })
    }
}
