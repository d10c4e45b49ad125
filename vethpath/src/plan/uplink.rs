//! Routes by the uplink of the fabric.

use super::{Collision, Observed, Routed, Step, steps::Planner};
use crate::topology::{Topology, UplinkRoute, overlap};

impl Planner<'_> {
    /// Adds missing routes, and removes those of an earlier topology. Routes that the user added stay. One that the
    /// machine would have twice is a collision, if the lab does not have it yet.
    pub(super) fn uplink_routes(&mut self) {
        let (topology, former) = (self.topology, self.former);
        let is_wanted =
            |route: &UplinkRoute| topology.uplink_routes.iter().any(|wanted| is_same(wanted, route));
        let mut gone: Vec<&UplinkRoute> = Vec::new();
        for route in former.iter().flat_map(|former| &former.uplink_routes) {
            if self.has_uplink_route(route)
                && !is_wanted(route)
                && !gone.iter().any(|one| is_same(one, route))
            {
                gone.push(route);
            }
        }
        self.plan.raise.extend(gone.into_iter().cloned().map(Step::DeleteUplinkRoute));
        let missing: Vec<&UplinkRoute> =
            topology.uplink_routes.iter().filter(|route| !self.has_uplink_route(route)).collect();
        self.collisions.extend(collisions(topology, &missing, &self.observed.routed));
        self.plan.raise.extend(missing.into_iter().cloned().map(Step::UplinkRoute));
    }

    /// Whether a route exists, and its device is kept.
    fn has_uplink_route(&self, route: &UplinkRoute) -> bool {
        let Observed { uplink_routes, .. } = self.observed;
        let key = (route.place.clone(), route.device.to_string(), route.to, route.via);
        uplink_routes.contains(&key) && self.standing.link(&route.place, route.device.as_str()).is_some()
    }
}

/// Whether two routes are one to the kernel.
fn is_same(one: &UplinkRoute, other: &UplinkRoute) -> bool {
    (&one.place, &one.device, one.to, one.via) == (&other.place, &other.device, other.to, other.via)
}

/// The new routes of the machine whose subnets it has already, each with the first that it has.
pub fn collisions(topology: &Topology, new: &[&UplinkRoute], routed: &[Routed]) -> Vec<Collision> {
    let collision = |route: &UplinkRoute| {
        let there = routed.iter().find(|there| overlap(&there.to, &route.to))?;
        Some(Collision::Subnet {
            subnet: route.to,
            bridge: topology.fabric_bridge(route.to)?.clone(),
            there: there.clone(),
        })
    };
    let on_machine = topology.machine_routes().filter(|route| new.iter().any(|new| is_same(new, route)));
    on_machine.filter_map(collision).collect()
}
