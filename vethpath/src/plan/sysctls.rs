//! Settings under `/proc/sys/net`.

use super::{Step, steps::Planner};
use crate::topology::{Bridge, Interface, Ipv6, NsName, Place, Scope, Sysctl, SysctlKey, Topology};

impl Planner<'_> {
    /// The settings of a place that stays, and of the interfaces and bridges in it that stay. What an earlier
    /// topology had set and the file does not mention any more becomes what it was before.
    pub(super) fn sysctls(&mut self, place: &Place) {
        let dad = compares_dad(self.former.iter().chain([self.topology]));
        let wanted = settings(self.topology, place, dad);
        let mut changed: Vec<&SysctlKey> = Vec::new();
        for setting in &wanted {
            let there = self.observed.sysctls.get(&(place.clone(), setting.key.clone()));
            // One that cannot be read, such as `net.ipv4.route.flush`, is an act rather than a state.
            let is_other = there.is_some_and(|there| !is_same(there, &setting.value));
            let is_reset = there.is_some() && changed.iter().any(|key| key.sets(&setting.key));
            if (is_other || is_reset) && self.is_there(place, &setting.key) {
                changed.push(&setting.key);
                let (place, from, setting) = (place.clone(), there.cloned(), setting.clone());
                self.plan.make.push(Step::Sysctl { place, from, setting });
            }
        }
        let mut known: Vec<SysctlKey> = wanted.into_iter().map(|wanted| wanted.key).collect();
        for setting in self.former.iter().flat_map(|former| settings(former, place, dad)) {
            let key = (place.clone(), setting.key);
            let values = (self.observed.sysctls.get(&key), self.observed.sysctls_before.get(&key));
            let (Some(there), Some(before)) = values else { continue };
            let (place, key) = key;
            if known.contains(&key) || !self.is_there(&place, &key) {
                continue;
            }
            known.push(key.clone());
            if !is_same(there, before) {
                let setting = Sysctl { key, value: before.as_str().into() };
                self.plan.make.push(Step::Sysctl { place, from: Some(there.clone()), setting });
            }
        }
    }

    /// The settings of an interface or bridge that is made.
    pub(super) fn new_sysctls(&mut self, place: &Place, settings: &[Sysctl]) {
        if !settings.is_empty() {
            let (place, settings) = (place.clone(), settings.to_vec());
            self.plan.make.push(Step::Sysctls { place, settings });
        }
    }

    /// Whether a setting is not one of an interface that is made in this run, which gets its own then, or of
    /// somebody else's that has the name now.
    fn is_there(&self, place: &Place, key: &SysctlKey) -> bool {
        match key.scope() {
            Scope::Interface("lo") => true,
            Scope::Interface(name) => self.standing.link(place, name).is_some(),
            Scope::Namespace | Scope::All | Scope::Default => true,
        }
    }
}

/// Whether duplicate address detection is among what is compared: it is off where no topology has it on.
pub fn compares_dad<'a>(mut topologies: impl Iterator<Item = &'a Topology>) -> bool {
    topologies.any(Topology::detects_duplicates)
}

/// The settings of a place that a plan compares: those of its namespace, then those of interfaces and bridges in it.
#[must_use]
pub fn settings(topology: &Topology, place: &Place, dad: bool) -> Vec<Sysctl> {
    let mut all = Vec::new();
    if let Place::Namespace(name) = place {
        for namespace in topology.namespaces.iter().filter(|namespace| &namespace.name == name) {
            let is_default =
                |setting: &Sysctl| setting.key == SysctlKey::of_interface("ipv6", "default", "accept_dad");
            if dad && namespace.adopt.is_none() && !namespace.sysctls.iter().any(is_default) {
                all.push(default_dad(namespace.dad));
            }
            all.extend_from_slice(&namespace.sysctls);
        }
    }
    let mut device = |name: &str, ipv6: Ipv6, own: &[Sysctl]| {
        if dad {
            all.extend(ipv6.settings(name))
        } else {
            all.extend(ipv6.accept_ra_setting(name))
        }
        all.extend_from_slice(own);
    };
    for bridge in bridges(topology, place) {
        device(bridge.name.as_str(), bridge.ipv6, &bridge.sysctls);
    }
    for interface in interfaces(topology, place) {
        device(interface.name.as_str(), interface.ipv6, &interface.sysctls);
    }
    all
}

/// What a namespace that the lab makes gives the interfaces that are made in it.
#[must_use]
pub fn default_dad(dad: bool) -> Sysctl {
    let key = SysctlKey::of_interface("ipv6", "default", "accept_dad");
    Sysctl { key, value: u8::from(dad).to_string().into() }
}

fn bridges<'a>(topology: &'a Topology, place: &'a Place) -> impl Iterator<Item = &'a Bridge> {
    topology.bridges.iter().filter(move |bridge| &bridge.place == place)
}

fn interfaces<'a>(topology: &'a Topology, place: &'a Place) -> impl Iterator<Item = &'a Interface> {
    let is_here = move |name: &NsName| matches!(place, Place::Namespace(here) if here == name);
    let pairs = topology.pairs.iter().filter(move |pair| is_here(&pair.namespace)).map(|pair| &pair.inner);
    let ends = topology.cables.iter().flat_map(|cable| [&cable.a, &cable.b]);
    pairs.chain(ends.filter(move |end| &end.place == place).map(|end| &end.interface))
}

/// The kernel puts tabs between the numbers of a list, whatever was written.
fn is_same(there: &str, wanted: &str) -> bool {
    there.split_whitespace().eq(wanted.split_whitespace())
}
