//! The steps that bring a lab about, in their order.

use std::fmt;

use ipnet::IpNet;
use serde::Serialize;

use super::{Collision, Found, Observed};
use crate::topology::{
    Bridge, Cable, IfName, Interface, Masquerade, Namespace, NsName, Pair, Place, Route, Sysctl, Topology,
    Trunk,
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
    /// Put a port that is there on its bridge.
    Enslave {
        /// Where.
        place: Place,
        /// The port.
        device: String,
        /// The bridge.
        bridge: IfName,
    },
    /// Give an interface that is there its MTU.
    Mtu {
        /// Where.
        place: Place,
        /// Which.
        device: String,
        /// In bytes.
        mtu: u32,
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
            Self::Trunk { trunk, .. } => ("create", "trunk", trunk.name()),
            Self::Enslave { place, device, .. } => ("change", "port", end(place, device)),
            Self::Mtu { place, device, .. } => ("change", "mtu", end(place, device)),
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
        planner.bridge(bridge, topology);
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
            // An adopted one's loopback is its maker's affair.
            Some(Found::Ours) if namespace.adopt.is_some() => {}
            Some(Found::Ours) => self.up(&Place::Namespace(namespace.name.clone()), "lo", false),
            Some(Found::Foreign | Found::LeftOver) => {
                self.collisions.push(Collision::Namespace(namespace.name.clone()));
            }
        }
    }

    fn bridge(&mut self, bridge: &Bridge, topology: &Topology) {
        if self.missing(&bridge.place, bridge.name.as_str()) {
            self.plan.make.push(Step::Bridge(bridge.clone()));
        }
        let there = self.observed.link(&bridge.place, bridge.name.as_str());
        if there.is_none_or(|link| Some(link.mtu) != least_port_mtu(bridge, topology)) {
            self.mtu(&bridge.place, bridge.name.as_str(), bridge.mtu);
        }
        self.addresses(&bridge.place, bridge.name.as_str(), &bridge.addresses);
        self.up(&bridge.place, bridge.name.as_str(), false);
    }

    fn pair(&mut self, pair: &Pair) {
        let inside = Place::Namespace(pair.namespace.clone());
        let port = self.missing_port(&pair.place, &pair.port, || format!("pair {}", pair.name()));
        let inner = self.missing(&inside, pair.inner.name.as_str());
        if port && inner {
            self.plan.make.push(Step::Pair(pair.clone()));
            self.sysctls(&inside, &pair.inner);
        }
        self.mtu(&pair.place, pair.port.as_str(), pair.inner.mtu);
        self.enslave(&pair.place, &pair.port, &pair.bridge);
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
        let of = || format!("trunk {}", trunk.name());
        let missing = ends.map(|end| self.missing_port(&end.place, &end.port, of));
        let mtu = trunk_mtu(trunk, topology);
        if missing == [true, true] {
            self.plan.make.push(Step::Trunk { trunk: trunk.clone(), mtu });
        }
        for end in ends {
            self.mtu(&end.place, end.port.as_str(), mtu);
            self.enslave(&end.place, &end.port, &end.bridge);
            self.up(&end.place, end.port.as_str(), true);
        }
    }

    fn interface(&mut self, place: &Place, interface: &Interface) {
        self.mtu(place, interface.name.as_str(), interface.mtu);
        self.addresses(place, interface.name.as_str(), &interface.addresses);
        if interface.up {
            self.up(place, interface.name.as_str(), false);
        }
    }

    /// A port that is there and not on its bridge: somebody took it off, or the bridge was deleted.
    fn enslave(&mut self, place: &Place, port: &IfName, bridge: &IfName) {
        let there = self.observed.link(place, port.as_str());
        if there.is_some_and(|link| link.ours && link.bridge.as_deref() != Some(bridge.as_str())) {
            self.plan.make.push(Step::Enslave {
                place: place.clone(),
                device: port.to_string(),
                bridge: bridge.clone(),
            });
        }
    }

    /// What is made gets its MTU as it is made; what is there may have got another one since.
    fn mtu(&mut self, place: &Place, device: &str, wanted: Option<u32>) {
        let (Some(link), Some(mtu)) = (self.observed.link(place, device), wanted) else { return };
        if link.ours && link.mtu != mtu {
            self.plan.make.push(Step::Mtu { place: place.clone(), device: device.to_owned(), mtu });
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
        self.is_missing(place, name, || Collision::Link { place: place.clone(), name: name.to_owned() })
    }

    /// The same for a port, whose name is derived.
    fn missing_port(&mut self, place: &Place, port: &IfName, of: impl Fn() -> String) -> bool {
        self.is_missing(place, port.as_str(), || Collision::Port {
            place: place.clone(),
            name: port.to_string(),
            of: of(),
        })
    }

    fn is_missing(&mut self, place: &Place, name: &str, collision: impl Fn() -> Collision) -> bool {
        match self.observed.link(place, name) {
            None => true,
            Some(link) if link.ours => false,
            Some(_) => {
                self.collisions.push(collision());
                false
            }
        }
    }
}

/// The smaller MTU of a trunk's bridges.
fn trunk_mtu(trunk: &Trunk, topology: &Topology) -> Option<u32> {
    let ends = [&trunk.a, &trunk.b];
    ends.iter().filter_map(|end| topology.bridge(&end.place, &end.bridge)?.mtu).min()
}

/// The least MTU that the file gives a bridge's ports: the kernel lowers a bridge's to that
/// (`br_mtu_auto_adjust` in net/bridge/br_if.c), which is no deviation.
fn least_port_mtu(bridge: &Bridge, topology: &Topology) -> Option<u32> {
    let is_it = |place: &Place, name: &IfName| (place, name) == (&bridge.place, &bridge.name);
    let pairs = topology.pairs.iter().filter(|pair| is_it(&pair.place, &pair.bridge));
    let trunks = topology
        .trunks
        .iter()
        .filter(|trunk| [&trunk.a, &trunk.b].iter().any(|end| is_it(&end.place, &end.bridge)));
    pairs.filter_map(|pair| pair.inner.mtu).chain(trunks.filter_map(|trunk| trunk_mtu(trunk, topology))).min()
}

#[cfg(test)]
mod tests;
