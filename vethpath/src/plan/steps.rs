//! The steps that bring a lab about, in their order.

use std::fmt;

use ipnet::IpNet;
use serde::Serialize;

use super::{Collision, Found, Observed};
use crate::topology::{
    Bridge, Cable, Interface, Masquerade, Namespace, NsName, Pair, Place, Route, Sysctl, Topology, Trunk,
};

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make a namespace, with `lo` up and its settings.
    Namespace(Namespace),
    /// Make a bridge.
    Bridge(Bridge),
    /// Make a pair, its port on its bridge.
    Pair(Pair),
    /// Make a cable.
    Cable(Cable),
    /// Make a trunk.
    Trunk {
        /// Which.
        trunk: Trunk,
        /// The smaller MTU of its bridges, in bytes; `None` is the kernel's.
        mtu: Option<u32>,
    },
    /// Apply settings of an interface.
    Sysctls {
        /// Where.
        place: Place,
        /// What.
        settings: Vec<Sysctl>,
    },
    /// Give an interface an address.
    Address {
        /// Where.
        place: Place,
        /// On which interface.
        device: String,
        /// The address and its subnet.
        address: IpNet,
    },
    /// Bring an interface up.
    Up {
        /// Where.
        place: Place,
        /// Which.
        device: String,
        /// Whether it is a bridge port.
        port: bool,
    },
    /// Masquerade what leaves.
    Masquerade(Masquerade),
    /// Add a route.
    Route {
        /// Where.
        namespace: NsName,
        /// Which.
        route: Route,
    },
}

/// A change, as told to people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `create` or `change`.
    pub action: &'static str,
    /// What kind of thing.
    pub kind: &'static str,
    /// Which one.
    pub name: String,
}

impl Step {
    /// What the step changes.
    #[must_use]
    pub fn change(&self) -> Change {
        let (action, kind, name) = match self {
            Self::Namespace(namespace) => ("create", "namespace", namespace.name.to_string()),
            Self::Bridge(bridge) => ("create", "bridge", bridge.name.to_string()),
            Self::Pair(pair) => ("create", "pair", pair.name()),
            Self::Cable(cable) => ("create", "cable", end(&cable.a.place, &cable.a.interface.name)),
            Self::Trunk { trunk, .. } => {
                ("create", "trunk", format!("{} - {}", trunk.a.bridge, trunk.b.bridge))
            }
            Self::Sysctls { place, .. } => ("change", "sysctl", place.to_string()),
            Self::Address { place, device, address } => {
                ("create", "address", format!("{address} on {}", end(place, device)))
            }
            Self::Up { place, device, .. } => ("change", "interface", end(place, device)),
            Self::Masquerade(nat) => ("create", "nat", nat.table.clone()),
            Self::Route { namespace, route } => {
                ("create", "route", format!("{} via {} in {namespace}", route.to, route.via))
            }
        };
        Change { action, kind, name }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.action, self.kind, self.name)
    }
}

fn end(place: &Place, device: impl fmt::Display) -> String {
    format!("{place}:{device}")
}

/// Ordered steps in two parts: the programs are attached between them, so that no frame is sent
/// that nobody counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Makes things.
    pub make: Vec<Step>,
    /// Gives them addresses, brings them up, adds routes.
    pub raise: Vec<Step>,
}

impl Plan {
    /// All steps in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.make.iter().chain(&self.raise)
    }
}

/// What must be done so that everything in the topology is there. What is there and ours is left.
///
/// # Errors
/// All the names that somebody else has taken.
pub fn plan(topology: &Topology, observed: &Observed) -> Result<Plan, Vec<Collision>> {
    let mut planner = Planner { observed, plan: Plan::default(), collisions: Vec::new() };
    for namespace in &topology.namespaces {
        planner.namespace(namespace);
    }
    for bridge in &topology.bridges {
        planner.bridge(bridge);
    }
    for pair in &topology.pairs {
        planner.pair(pair);
    }
    for cable in &topology.cables {
        planner.cable(cable);
    }
    for trunk in &topology.trunks {
        planner.trunk(trunk, topology);
    }
    for namespace in &topology.namespaces {
        planner.routes(namespace);
    }
    for nat in Masquerade::of(topology) {
        if !observed.masquerading.contains(&nat.place) {
            planner.plan.raise.push(Step::Masquerade(nat));
        }
    }
    if planner.collisions.is_empty() { Ok(planner.plan) } else { Err(planner.collisions) }
}

struct Planner<'a> {
    observed: &'a Observed,
    plan: Plan,
    collisions: Vec<Collision>,
}

impl Planner<'_> {
    fn namespace(&mut self, namespace: &Namespace) {
        match self.observed.namespaces.get(&namespace.name) {
            None => self.plan.make.push(Step::Namespace(namespace.clone())),
            Some(Found::Ours) => {}
            Some(Found::Foreign | Found::LeftOver) => {
                self.collisions.push(Collision::Namespace(namespace.name.clone()));
            }
        }
    }

    fn bridge(&mut self, bridge: &Bridge) {
        if self.missing(&bridge.place, bridge.name.as_str()) {
            self.plan.make.push(Step::Bridge(bridge.clone()));
        }
        self.addresses(&bridge.place, bridge.name.as_str(), &bridge.addresses);
        self.up(&bridge.place, bridge.name.as_str(), false);
    }

    fn pair(&mut self, pair: &Pair) {
        let inside = Place::Namespace(pair.namespace.clone());
        let port = self.missing(&pair.place, pair.port.as_str());
        let inner = self.missing(&inside, pair.inner.name.as_str());
        if port && inner {
            self.plan.make.push(Step::Pair(pair.clone()));
            self.sysctls(&inside, &pair.inner);
        }
        self.up(&pair.place, pair.port.as_str(), true);
        self.interface(&inside, &pair.inner);
    }

    fn cable(&mut self, cable: &Cable) {
        let ends = [&cable.a, &cable.b];
        let missing = ends.map(|end| self.missing(&end.place, end.interface.name.as_str()));
        if missing == [true, true] {
            self.plan.make.push(Step::Cable(cable.clone()));
            for end in ends {
                self.sysctls(&end.place, &end.interface);
            }
        }
        for end in ends {
            self.interface(&end.place, &end.interface);
        }
    }

    fn trunk(&mut self, trunk: &Trunk, topology: &Topology) {
        let ends = [&trunk.a, &trunk.b];
        let missing = ends.map(|end| self.missing(&end.place, end.port.as_str()));
        if missing == [true, true] {
            let mtu = ends.iter().filter_map(|end| topology.bridge(&end.place, &end.bridge)?.mtu).min();
            self.plan.make.push(Step::Trunk { trunk: trunk.clone(), mtu });
        }
        for end in ends {
            self.up(&end.place, end.port.as_str(), true);
        }
    }

    fn interface(&mut self, place: &Place, interface: &Interface) {
        self.addresses(place, interface.name.as_str(), &interface.addresses);
        if interface.up {
            self.up(place, interface.name.as_str(), false);
        }
    }

    fn sysctls(&mut self, place: &Place, interface: &Interface) {
        if !interface.sysctls.is_empty() {
            self.plan.make.push(Step::Sysctls { place: place.clone(), settings: interface.sysctls.clone() });
        }
    }

    fn addresses(&mut self, place: &Place, device: &str, addresses: &[IpNet]) {
        let there = self.observed.link(place, device).map_or(&[][..], |link| &link.addresses);
        for &address in addresses.iter().filter(|address| !there.contains(address)) {
            self.plan.raise.push(Step::Address { place: place.clone(), device: device.to_owned(), address });
        }
    }

    fn up(&mut self, place: &Place, device: &str, port: bool) {
        if !self.observed.link(place, device).is_some_and(|link| link.up) {
            self.plan.raise.push(Step::Up { place: place.clone(), device: device.to_owned(), port });
        }
    }

    fn routes(&mut self, namespace: &Namespace) {
        let there = self.observed.routes.get(&namespace.name).map_or(&[][..], Vec::as_slice);
        for route in namespace.routes.iter().filter(|route| !there.contains(route)) {
            self.plan.raise.push(Step::Route { namespace: namespace.name.clone(), route: route.clone() });
        }
    }

    /// Whether nothing has this name; somebody else's having it is a collision.
    fn missing(&mut self, place: &Place, name: &str) -> bool {
        match self.observed.link(place, name) {
            None => true,
            Some(link) if link.ours => false,
            Some(_) => {
                self.collisions.push(Collision::Link { place: place.clone(), name: name.to_owned() });
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
