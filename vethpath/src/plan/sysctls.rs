//! Settings under `/proc/sys/net`.

use super::{Step, steps::Planner};
use crate::topology::{Bridge, Ipv6, MTU_V6, NsName, Place, Scope, Sysctl, SysctlKey, Topology};

impl Planner<'_> {
    /// Compares the settings of a place that is kept, and of its interfaces and bridges that are kept. A setting that
    /// an earlier topology set and the file no longer has is restored.
    pub(super) fn sysctls(&mut self, place: &Place) {
        let dad = compares_dad(self.former.iter().chain([self.topology]));
        let wanted = settings(self.topology, place, dad);
        let mut changed: Vec<&SysctlKey> = Vec::new();
        for setting in &wanted {
            let there = self.observed.sysctls.get(&(place.clone(), setting.key.clone()));
            // A setting that cannot be read is a trigger, such as `net.ipv4.route.flush`, or does not exist, which `up`
            // reports. It is written once, and again after a run that did not reach its end.
            let is_other = match there {
                Some(there) => !is_same(there, &setting.value),
                None => {
                    self.can_exist(place, &setting.key)
                        && declares(self.topology, place, &setting.key)
                        && !(self.observed.is_settled
                            && self.former.iter().any(|former| declares(former, place, &setting.key)))
                }
            };
            let is_reset = there.is_some() && changed.iter().any(|key| key.sets(&setting.key));
            if (is_other || is_reset) && self.is_there(place, &setting.key) {
                changed.push(&setting.key);
                self.sysctl(place, there, setting.clone());
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
                self.sysctl(&place, Some(there), Sysctl { key, value: before.as_str().into() });
            }
        }
    }

    fn sysctl(&mut self, place: &Place, from: Option<&String>, setting: Sysctl) {
        let step = Step::Sysctl { place: place.clone(), from: from.cloned(), setting: setting.clone() };
        match setting.key.scope() {
            _ if !setting.key.is_overruled() => self.plan.make.push(step),
            // Interfaces that are created in between inherit it.
            Scope::Default => {
                self.plan.make.push(step);
                let from = Some(setting.value.to_string());
                self.plan.last.push(Step::Sysctl { place: place.clone(), from, setting });
            }
            _ => self.plan.last.push(step),
        }
    }

    /// Plans the settings of a new interface or bridge.
    pub(super) fn new_sysctls(&mut self, place: &Place, settings: &[Sysctl]) {
        let (last, first): (Vec<_>, Vec<_>) =
            settings.iter().cloned().partition(|setting| setting.key.is_overruled());
        for (part, settings) in [(&mut self.plan.make, first), (&mut self.plan.last, last)] {
            if !settings.is_empty() {
                part.push(Step::Sysctls { place: place.clone(), settings });
            }
        }
    }

    /// Writes settings again that the kernel may write in the other steps, although they have the wanted value now. The
    /// plan does not list these steps.
    pub(super) fn overruled_sysctls(&mut self) {
        let is_declared = all_declared(self.topology).any(|setting| setting.key.is_overruled());
        if !is_declared || self.plan.steps().all(|step| matches!(step, Step::Sysctl { .. })) {
            return;
        }
        let dad = compares_dad(self.former.iter().chain([self.topology]));
        let namespaces =
            self.topology.namespaces.iter().map(|namespace| Place::Namespace(namespace.name.clone()));
        for place in namespaces.chain([Place::Host]) {
            let is_new =
                |key: &SysctlKey| !matches!(key.scope(), Scope::Interface(_)) && self.is_created(&place);
            let mut again = Vec::new();
            for setting in settings(self.topology, &place, dad) {
                let there = self.observed.sysctls.get(&(place.clone(), setting.key.clone()));
                let is_set = match there {
                    Some(there) => self.is_there(&place, &setting.key) && is_same(there, &setting.value),
                    None => is_new(&setting.key),
                };
                let is_written = |step: &Step| {
                    matches!(step, Step::Sysctl { place: of, setting: written, .. }
                        if written.key == setting.key && *of == place)
                };
                if setting.key.is_overruled() && is_set && !self.plan.last.iter().any(is_written) {
                    let (place, from) = (place.clone(), Some(setting.value.to_string()));
                    again.push(Step::Sysctl { place, from, setting });
                }
            }
            self.plan.last.extend(again);
        }
    }

    /// Whether a namespace is created in this run.
    fn is_created(&self, place: &Place) -> bool {
        let is_it = |step: &Step| {
            matches!((step, place), (Step::Namespace(created), Place::Namespace(name))
                if created.name == *name && created.adopt.is_none())
        };
        self.plan.make.iter().any(is_it)
    }

    /// Whether the kernel can have a setting. An interface has those of IPv6 only from an MTU of 1280 on: see
    /// `renew_ipv6`.
    fn can_exist(&self, place: &Place, key: &SysctlKey) -> bool {
        match key.scope() {
            Scope::Interface(name) if key.family() == "ipv6" => {
                self.standing.link(place, name).is_some_and(|link| link.mtu >= MTU_V6)
            }
            _ => true,
        }
    }

    /// Whether a setting can be compared. It cannot if its interface is created in this run, which sets it then, or if
    /// its interface is not the lab's.
    fn is_there(&self, place: &Place, key: &SysctlKey) -> bool {
        match key.scope() {
            Scope::Interface("lo") => true,
            Scope::Interface(name) => self.standing.link(place, name).is_some(),
            Scope::Namespace | Scope::All | Scope::Default => true,
        }
    }
}

/// Whether `accept_dad` settings are compared. They are not where no topology enables DAD.
pub fn compares_dad<'a>(mut topologies: impl Iterator<Item = &'a Topology>) -> bool {
    topologies.any(Topology::detects_duplicates)
}

/// The settings of a place that a plan compares: first those of its namespace, then those of its bridges and
/// interfaces.
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
            all.extend(ipv6.advertisement_settings(name))
        }
        all.extend_from_slice(own);
    };
    for bridge in bridges(topology, place) {
        device(bridge.name.as_str(), bridge.ipv6, &bridge.sysctls);
    }
    for interface in topology.interfaces_in(place) {
        device(interface.name.as_str(), interface.ipv6, &interface.sysctls);
    }
    all
}

/// All settings that a file has.
fn all_declared(topology: &Topology) -> impl Iterator<Item = &Sysctl> {
    let inner = topology.pairs.iter().map(|pair| &pair.inner);
    let ends = topology.cables.iter().flat_map(|cable| [&cable.a, &cable.b]).map(|end| &end.interface);
    let namespaces = topology.namespaces.iter().flat_map(|namespace| namespace.sysctls.iter());
    let bridges = topology.bridges.iter().flat_map(|bridge| &bridge.sysctls);
    namespaces.chain(bridges).chain(inner.chain(ends).flat_map(|interface| &interface.sysctls))
}

/// Whether a file sets this key explicitly.
fn declares(topology: &Topology, place: &Place, key: &SysctlKey) -> bool {
    let is_here = |name: &NsName| matches!(place, Place::Namespace(here) if here == name);
    let namespaces = topology.namespaces.iter().filter(|namespace| is_here(&namespace.name));
    let mut own = namespaces
        .flat_map(|namespace| namespace.sysctls.iter())
        .chain(bridges(topology, place).flat_map(|bridge| &bridge.sysctls))
        .chain(topology.interfaces_in(place).flat_map(|interface| &interface.sysctls));
    own.any(|setting| setting.key == *key)
}

/// The `accept_dad` that new interfaces inherit in a namespace that the lab creates.
#[must_use]
pub fn default_dad(dad: bool) -> Sysctl {
    let key = SysctlKey::of_interface("ipv6", "default", "accept_dad");
    Sysctl { key, value: u8::from(dad).to_string().into() }
}

fn bridges<'a>(topology: &'a Topology, place: &'a Place) -> impl Iterator<Item = &'a Bridge> {
    topology.bridges.iter().filter(move |bridge| &bridge.place == place)
}

/// Compares values without regard to white space: the kernel separates numbers by tabs.
fn is_same(there: &str, wanted: &str) -> bool {
    there.split_whitespace().eq(wanted.split_whitespace())
}
