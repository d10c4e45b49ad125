//! Compares the routing rules of a namespace with the topology.

use ipnet::IpNet;

use super::{Step, steps::Planner};
use crate::topology::{Family, Namespace, Place, Rule};

impl Planner<'_> {
    /// Adds missing rules and removes those of an earlier topology. Rules that the user added stay.
    pub(super) fn rules(&mut self, namespace: &Namespace) {
        let name = &namespace.name;
        let is_gone = self.standing.is_gone(&Place::Namespace(name.clone()));
        let there = self.observed.rules.get(name).filter(|_| !is_gone).map_or(&[][..], Vec::as_slice);
        let wanted = each(namespace);
        let former = self.former.iter().flat_map(|former| &former.namespaces);
        let former = former.filter(|former| &former.name == name).flat_map(each);
        let mut gone: Vec<(Family, &Rule)> = Vec::new();
        for rule in former {
            if has(there, rule) && !wanted.contains(&rule) && !gone.contains(&rule) {
                gone.push(rule);
            }
        }
        let step = |(family, rule): (Family, &Rule)| (name.clone(), family, rule.clone());
        for (namespace, family, rule) in gone.into_iter().map(step) {
            self.plan.raise.push(Step::DeleteRule { namespace, family, rule });
        }
        for (namespace, family, rule) in wanted.into_iter().filter(|rule| !has(there, *rule)).map(step) {
            self.plan.raise.push(Step::Rule { namespace, family, rule });
        }
    }
}

fn has(there: &[(Family, Rule)], (family, rule): (Family, &Rule)) -> bool {
    // The kernel does not report a subnet that is all addresses.
    let some = |net: Option<IpNet>| net.filter(|net| net.prefix_len() > 0);
    let rule = Rule { from: some(rule.from), to: some(rule.to), ..rule.clone() };
    there.iter().any(|(of, there)| *of == family && *there == rule)
}

/// The rules of a namespace, those of both families twice.
fn each(namespace: &Namespace) -> Vec<(Family, &Rule)> {
    namespace.rules.iter().flat_map(|rule| rule.families().map(move |family| (family, rule))).collect()
}
