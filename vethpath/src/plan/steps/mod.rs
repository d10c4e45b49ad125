//! Computes the ordered steps that turn the present state into the wanted one.

use std::collections::BTreeSet;

use ipnet::IpNet;
use thiserror::Error;

use super::{Accepted, Found, Observed, Plan, Routed, Step, links::Standing};
use crate::topology::{
    Bridge, BridgeOption, Cable, IfName, LabName, Masquerade, Namespace, NsName, Pair, Place, Topology,
    Trunk, altname, lab_mark, pair_mark, trunk_altname, trunk_mark,
};

/// What the name of a pair begins with in a collision.
const PAIR: &str = "pair ";

/// An object that is not the lab's has a name that the lab needs.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Collision {
    /// A namespace.
    #[error("namespace `{name}` already exists and is {}", whose(.owner.as_ref()))]
    Namespace {
        /// Its name.
        name: NsName,
        /// The lab that it belongs to, if any.
        owner: Option<LabName>,
    },
    /// A link.
    #[error("interface `{name}` already exists in {place} and is {}", whose(.owner.as_ref()))]
    Link {
        /// Its place.
        place: Place,
        /// Its name.
        name: String,
        /// The lab that it belongs to, if any.
        owner: Option<LabName>,
    },
    /// A link with the derived name of a port, which is not in the file.
    #[error(
        "interface `{name}` already exists in {place} and is {}; the port of {of} needs that name",
        whose(.owner.as_ref())
    )]
    Port {
        /// Its place.
        place: Place,
        /// Its name.
        name: String,
        /// The pair or trunk, such as `pair ns0:eth0`.
        of: String,
        /// The lab that it belongs to, if any.
        owner: Option<LabName>,
    },
    /// A subnet of the fabric that the machine has already, by a route or an address.
    #[error(
        "the machine routes {} already ({}{}), which overlaps with {subnet} of bridge `{bridge}`",
        .there.to, .there.hop, of_lab(.there.owner.as_ref())
    )]
    Subnet {
        /// The subnet.
        subnet: IpNet,
        /// The bridge.
        bridge: IfName,
        /// What the machine has.
        there: Routed,
    },
}

impl Collision {
    /// Whether the name is in the file and can be changed there.
    #[must_use]
    pub fn is_in_the_file(&self) -> bool {
        !matches!(self, Self::Port { .. } | Self::Subnet { .. })
    }

    /// Whether the name is that of a pair's port, which `port` in the file changes.
    #[must_use]
    pub fn is_of_a_pair(&self) -> bool {
        matches!(self, Self::Port { of, .. } if of.starts_with(PAIR))
    }

    /// The other lab that uses the name.
    #[must_use]
    pub fn owner(&self) -> Option<&LabName> {
        match self {
            Self::Namespace { owner, .. } | Self::Link { owner, .. } | Self::Port { owner, .. } => {
                owner.as_ref()
            }
            Self::Subnet { .. } => None,
        }
    }
}

fn of_lab(owner: Option<&LabName>) -> String {
    owner.map_or(String::new(), |owner| format!(" of lab `{owner}`"))
}

fn whose(owner: Option<&LabName>) -> String {
    owner.map_or("not this lab's".to_owned(), |owner| format!("lab `{owner}`'s, not this lab's"))
}

/// Computes the steps that make the lab match the topology. What already matches is left alone. `former` has the
/// topologies of the lab of which anything may be left, oldest first.
///
/// # Errors
/// All names that are in use by objects that are not the lab's.
pub fn plan(topology: &Topology, former: &[Topology], observed: &Observed) -> Result<Plan, Vec<Collision>> {
    let mut planner = Planner {
        topology,
        former,
        observed,
        standing: Standing::of(topology, former, observed),
        plan: Plan::default(),
        collisions: Vec::new(),
        disturbed: BTreeSet::new(),
    };
    planner.clear();
    for namespace in &topology.namespaces {
        planner.namespace(namespace);
    }
    planner.sysctls(&Place::Host);
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
        planner.trunk(trunk);
    }
    for bridge in &topology.bridges {
        planner.bridge_mtu(bridge);
    }
    planner.programs();
    for namespace in &topology.namespaces {
        planner.routes(namespace);
        planner.rules(namespace);
        planner.restored_routes(namespace);
    }
    planner.uplink_routes();
    for nat in Masquerade::of(topology) {
        if !observed.masquerading.contains(&nat.place) || planner.standing.is_gone(&nat.place) {
            planner.plan.raise.push(Step::Masquerade(nat));
        }
    }
    planner.accept();
    planner.overruled_sysctls();
    if planner.collisions.is_empty() { Ok(planner.plan) } else { Err(planner.collisions) }
}

pub(super) struct Planner<'a> {
    pub(super) topology: &'a Topology,
    pub(super) former: &'a [Topology],
    pub(super) observed: &'a Observed,
    pub(super) standing: Standing<'a>,
    pub(super) plan: Plan,
    pub(super) collisions: Vec<Collision>,
    /// Interfaces whose routes the kernel removes because of a step.
    pub(super) disturbed: BTreeSet<(Place, String)>,
}

impl Planner<'_> {
    fn clear(&mut self) {
        let wanted: Vec<_> = Masquerade::of(self.topology).into_iter().map(|nat| nat.place).collect();
        let mut seen: Vec<Place> = Vec::new();
        for nat in self.former.iter().rev().flat_map(Masquerade::of) {
            let is_there = match &nat.place {
                Place::Host => true,
                Place::Namespace(name) => self.observed.namespaces.get(name) == Some(&Found::Ours),
            };
            // A namespace that is no longer the lab's keeps nothing of it.
            let goes = !wanted.contains(&nat.place) || self.standing.is_gone(&nat.place);
            if is_there && goes && !seen.contains(&nat.place) {
                seen.push(nat.place.clone());
                self.plan.clear.push(Step::Unmasquerade(nat));
            }
        }
        self.plan.clear.extend(self.standing.deletions(self.topology, self.former));
        self.plan
            .clear
            .extend(self.standing.gone().map(|namespace| Step::DeleteNamespace(namespace.clone())));
    }

    /// Rules in Docker's chain. Those that go do so before the namespace that they are in.
    fn accept(&mut self) {
        for accepted in &self.observed.accepted {
            let is_gone = self.standing.is_gone(&accepted.place);
            let wanted = if is_gone { Vec::new() } else { accepted.lasting(self.topology) };
            if !accepted.is_as(&wanted) {
                let goes = wanted.is_empty();
                let step = Step::Accept(Accepted { wanted, ..accepted.clone() });
                if goes { self.plan.clear.insert(0, step) } else { self.plan.raise.push(step) }
            }
        }
    }

    fn namespace(&mut self, namespace: &Namespace) {
        let place = Place::Namespace(namespace.name.clone());
        match self.observed.namespaces.get(&namespace.name) {
            None => self.plan.make.push(Step::Namespace(namespace.clone())),
            Some(Found::Ours | Found::LeftOver) if self.standing.is_gone(&place) => {
                let keeps_its_name =
                    |former: &Namespace| former.name == namespace.name && former.has_its_name();
                if !namespace.has_its_name() && self.standing.gone().any(keeps_its_name) {
                    let name = namespace.name.clone();
                    self.collisions.push(Collision::Namespace { name, owner: None });
                }
                self.plan.make.push(Step::Namespace(namespace.clone()));
            }
            Some(Found::Ours) => {
                // The loopback of an adopted namespace is left to its owner, and a renamed one to root in there.
                if namespace.adopt.is_none() && self.observed.link(&place, "lo").is_some_and(|lo| !lo.up) {
                    let place = place.clone();
                    self.plan.raise.push(Step::Up { place, device: "lo".to_owned(), port: false });
                }
                self.sysctls(&place);
            }
            Some(Found::Foreign(owner)) => self
                .collisions
                .push(Collision::Namespace { name: namespace.name.clone(), owner: owner.clone() }),
            // The former topologies have it, so it is in `gone`.
            Some(Found::LeftOver) => {}
        }
        if namespace.adopt.is_none() {
            self.addresses(&place, "lo", &namespace.loopback, false);
        }
    }

    fn bridge(&mut self, bridge: &Bridge) {
        let (place, name) = (&bridge.place, bridge.name.as_str());
        match self.standing.link(place, name) {
            None => {
                self.refuse_foreign(place, name, None);
                self.plan.make.push(Step::Bridge(bridge.clone()));
                self.new_sysctls(place, &bridge.sysctls);
            }
            Some(there) => {
                // If spanning tree is disabled during a topology change, the bridge would keep the short ageing time.
                let stp_ends = !bridge.stp && there.options.contains(&BridgeOption::Stp(true));
                let changes = bridge.options().into_iter().filter_map(|to| {
                    let is_ageing = matches!(to, BridgeOption::AgeingTime(_));
                    let from = there.options.iter().find(|from| from.key() == to.key()).copied();
                    let from = from.or((stp_ends && is_ageing).then_some(to))?;
                    let (place, bridge) = (place.clone(), bridge.name.clone());
                    (from != to || stp_ends && is_ageing).then_some(Step::BridgeOption {
                        place,
                        bridge,
                        from,
                        to,
                    })
                });
                self.plan.make.extend(changes);
                let settings = [bridge.ipv6.settings(name), bridge.sysctls.clone()].concat();
                self.mark(place, name, (lab_mark(&self.topology.lab), None), settings);
                self.mac(place, name, bridge.mac);
            }
        }
        self.bridge_sizes(bridge);
        self.addresses(place, name, &bridge.addresses, !bridge.ipv6.skips_dad());
        self.subnets(place, name, &bridge.addresses);
        self.up(place, name);
    }

    fn pair(&mut self, pair: &Pair) {
        let inside = Place::Namespace(pair.namespace.clone());
        let (port, inner) = (pair.port.as_str(), pair.inner.name.as_str());
        if self.standing.link(&pair.place, port).is_some() {
            let lab = &self.topology.lab;
            let mark = pair_mark(lab, pair.namespace.as_str(), inner);
            let altname = altname(lab, pair.namespace.as_str(), inner);
            self.mark(
                &pair.place,
                port,
                (mark.clone(), Some(altname)),
                Pair::port_settings(&pair.place, port),
            );
            let settings = [pair.inner.ipv6.settings(inner), pair.inner.sysctls.clone()].concat();
            self.mark(&inside, inner, (mark, None), settings);
            self.mac(&pair.place, port, pair.port_mac);
            self.mtu(&pair.place, port, pair.inner.mtu);
            self.enslave(&pair.place, &pair.port, &pair.bridge);
        } else {
            // If the namespace is another's, it gets another name, and the port with it.
            if !matches!(self.observed.namespaces.get(&pair.namespace), Some(Found::Foreign(_))) {
                self.refuse_foreign(&pair.place, port, Some(&format!("{PAIR}{}", pair.name())));
            }
            self.refuse_foreign(&inside, inner, None);
            self.plan.make.push(Step::Pair(pair.clone()));
            self.new_sysctls(&inside, &pair.inner.sysctls);
        }
        self.sizes(&pair.place, port, pair.inner.sizes);
        if !self.observed.deserted.contains(&pair.namespace) || self.standing.is_gone(&inside) {
            self.port_up(&pair.place, &pair.port);
        }
        self.interface(&inside, &pair.inner);
    }

    fn cable(&mut self, cable: &Cable) {
        let ends = [&cable.a, &cable.b];
        if self.standing.link(&cable.a.place, cable.a.interface.name.as_str()).is_some() {
            for end in ends {
                let name = end.interface.name.as_str();
                let mark = pair_mark(&self.topology.lab, &end.place.to_string(), name);
                let settings = [end.interface.ipv6.settings(name), end.interface.sysctls.clone()].concat();
                self.mark(&end.place, name, (mark, None), settings);
            }
        } else {
            for end in ends {
                self.refuse_foreign(&end.place, end.interface.name.as_str(), None);
            }
            self.plan.make.push(Step::Cable(cable.clone()));
            for end in ends {
                self.new_sysctls(&end.place, &end.interface.sysctls);
            }
        }
        for end in ends {
            self.interface(&end.place, &end.interface);
        }
    }

    fn trunk(&mut self, trunk: &Trunk) {
        let mtu = trunk.mtu(self.topology);
        if self.standing.link(&trunk.a.place, trunk.a.port.as_str()).is_some() {
            for (end, other) in [(&trunk.a, &trunk.b), (&trunk.b, &trunk.a)] {
                let (lab, port) = (&self.topology.lab, end.port.as_str());
                let mark = trunk_mark(lab, &end.bridge, &other.bridge);
                let altname = trunk_altname(lab, &end.bridge, &other.bridge);
                self.mark(&end.place, port, (mark, Some(altname)), Pair::port_settings(&end.place, port));
                self.mac(&end.place, port, end.mac);
                self.mtu(&end.place, port, mtu);
                self.enslave(&end.place, &end.port, &end.bridge);
            }
        } else {
            for end in [&trunk.a, &trunk.b] {
                self.refuse_foreign(&end.place, end.port.as_str(), Some(&format!("trunk {}", trunk.name())));
            }
            self.plan.make.push(Step::Trunk { trunk: trunk.clone(), mtu });
        }
        for end in [&trunk.a, &trunk.b] {
            self.sizes(&end.place, end.port.as_str(), trunk.sizes(self.topology));
            self.port_up(&end.place, &end.port);
        }
    }

    /// Reports a collision if the name belongs to a link that is not the lab's. `port_of` names the pair or trunk whose
    /// port needs the name, if the name is not in the file.
    fn refuse_foreign(&mut self, place: &Place, name: &str, port_of: Option<&str>) {
        let Some(link) = self.observed.link(place, name) else { return };
        if link.ours || self.standing.is_gone(place) {
            return;
        }
        let (place, name, owner) = (place.clone(), name.to_owned(), link.owner.clone());
        self.collisions.push(match port_of {
            Some(of) => Collision::Port { place, name, of: of.to_owned(), owner },
            None => Collision::Link { place, name, owner },
        });
    }
}

#[cfg(test)]
mod tests;
