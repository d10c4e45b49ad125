//! Settings under `/proc/sys/net`.

use super::{Step, steps::Planner};
use crate::topology::{Interface, Namespace, NsName, Place, Sysctl, Topology};

impl Planner<'_> {
    /// The settings of a namespace that stays, and of its interfaces that stay. What an earlier topology
    /// had set and the file does not mention any more becomes what it was before.
    pub(super) fn sysctls(&mut self, namespace: &Namespace) {
        let name = &namespace.name;
        let wanted: Vec<_> = settings(self.topology, name).collect();
        for &setting in &wanted {
            let there = self.observed.sysctls.get(&(name.clone(), setting.path.clone()));
            // One that cannot be read, such as `net.ipv4.route.flush`, is an act rather than a state.
            if there.is_some_and(|there| !is_same(there, &setting.value)) && self.is_there(name, setting) {
                let (namespace, from, setting) = (name.clone(), there.cloned(), setting.clone());
                self.plan.make.push(Step::Sysctl { namespace, from, setting });
            }
        }
        let mut told: Vec<&[String]> = Vec::new();
        for setting in self.former.iter().flat_map(|former| settings(former, name)) {
            let key = (name.clone(), setting.path.clone());
            let values = (self.observed.sysctls.get(&key), self.observed.sysctls_before.get(&key));
            let (Some(there), Some(before)) = values else { continue };
            if wanted.iter().any(|wanted| wanted.path == setting.path) || told.contains(&&setting.path[..]) {
                continue;
            }
            told.push(&setting.path);
            if !is_same(there, before) {
                let setting = Sysctl { path: setting.path.clone(), value: before.clone() };
                self.plan.make.push(Step::Sysctl {
                    namespace: name.clone(),
                    from: Some(there.clone()),
                    setting,
                });
            }
        }
    }

    /// The settings of an interface that is made.
    pub(super) fn new_sysctls(&mut self, place: &Place, interface: &Interface) {
        if let Place::Namespace(namespace) = place
            && !interface.sysctls.is_empty()
        {
            let settings = interface.sysctls.clone();
            self.plan.make.push(Step::Sysctls { namespace: namespace.clone(), settings });
        }
    }

    /// Whether a setting is not one of an interface that is made in this run, which gets its own then.
    fn is_there(&self, namespace: &NsName, setting: &Sysctl) -> bool {
        let place = Place::Namespace(namespace.clone());
        interfaces(self.topology, namespace)
            .filter(|interface| interface.sysctls.contains(setting))
            .all(|interface| self.standing.link(&place, interface.name.as_str()).is_some())
    }
}

/// The settings of a namespace and of its interfaces.
pub fn settings<'a>(topology: &'a Topology, name: &'a NsName) -> impl Iterator<Item = &'a Sysctl> {
    let namespaces = topology.namespaces.iter().filter(move |namespace| &namespace.name == name);
    let own = namespaces.flat_map(|namespace| &namespace.sysctls);
    own.chain(interfaces(topology, name).flat_map(|interface| &interface.sysctls))
}

fn interfaces<'a>(topology: &'a Topology, name: &'a NsName) -> impl Iterator<Item = &'a Interface> {
    let pairs = topology.pairs.iter().filter(move |pair| &pair.namespace == name).map(|pair| &pair.inner);
    let ends = topology.cables.iter().flat_map(|cable| [&cable.a, &cable.b]);
    let is_here = move |place: &Place| matches!(place, Place::Namespace(here) if here == name);
    pairs.chain(ends.filter(move |end| is_here(&end.place)).map(|end| &end.interface))
}

/// The kernel puts tabs between the numbers of a list, whatever was written.
fn is_same(there: &str, wanted: &str) -> bool {
    there.split_whitespace().eq(wanted.split_whitespace())
}
