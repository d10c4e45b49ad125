//! The device names of ports: `ns0-eth0` for the port of `ns0:eth0`, `br0-br1` for the port of bridge `br0` that leads
//! to `br1`.

use std::collections::{BTreeMap, BTreeSet};

use super::{IfName, LabName, NsName, Pair, Place, Topology, Trunk, derive::port_hash};

/// Letters and digits of the hash at the end of a name that was cut: 30 bits.
const LETTERS: usize = 6;

/// What a port leads to, in all names that it may have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Port<'a> {
    /// The inner end of a pair.
    Pair(&'a NsName, &'a IfName),
    /// Another bridge: the port's own, and the other one.
    Trunk(&'a IfName, &'a IfName),
}

impl Port<'_> {
    /// The names that the port may have, the best first. They never end.
    fn names(self, lab: &LabName) -> impl Iterator<Item = IfName> {
        let (place, near, far) = match self {
            Self::Pair(namespace, interface) => {
                (namespace.to_string(), namespace.as_str(), interface.as_str())
            }
            // A namespace's name has no blank, so the hash is no pair's.
            Self::Trunk(near, far) => (format!("trunk {near}"), near.as_str(), far.as_str()),
        };
        let whole = format!("{near}-{far}");
        let plain = whole.parse().ok();
        let cut = move |attempt: u32| {
            let hash = port_hash(lab, &place, far, attempt, LETTERS);
            let kept = &whole[..whole.len().min(IfName::MOST - LETTERS - 1)];
            format!("{kept}-{hash}").parse().ok()
        };
        plain.into_iter().chain((0..).filter_map(cut))
    }
}

/// The name that the port of an interface gets if nothing else has it. One of more than 15 bytes is cut, and ends in a
/// hash of lab, namespace and interface.
#[must_use]
pub fn port_name(lab: &LabName, namespace: &NsName, interface: &IfName) -> IfName {
    first(Port::Pair(namespace, interface), lab, |_| true)
}

/// The name of the port that leads from one bridge to another: see [`port_name`].
pub(super) fn trunk_port_name(lab: &LabName, near: &IfName, far: &IfName) -> IfName {
    first(Port::Trunk(near, far), lab, |_| true)
}

fn first(port: Port<'_>, lab: &LabName, is_free: impl Fn(&IfName) -> bool) -> IfName {
    match port.names(lab).find(is_free) {
        Some(name) => name,
        None => unreachable!("there are more hashes than devices"),
    }
}

impl Topology {
    /// Names every port. One whose name the file has keeps it. A port that an `earlier` topology of the same lab has
    /// named keeps that name too: it may be there. Another gets the first of its names that no device of the lab has.
    pub fn assign_ports(&mut self, earlier: &[&Self]) {
        let kept = kept(earlier);
        let devices: BTreeSet<(Place, IfName)> = self.devices().collect();
        let mut taken: BTreeSet<IfName> =
            self.pairs.iter().filter(|pair| pair.has_own_port).map(|pair| pair.port.clone()).collect();
        let lab = self.lab.clone();
        let pairs = self
            .pairs
            .iter_mut()
            .filter(|pair| !pair.has_own_port)
            .map(|pair| (Port::Pair(&pair.namespace, &pair.inner.name), &pair.place, &mut pair.port));
        let trunks = self.trunks.iter_mut().flat_map(|Trunk { a, b, .. }| {
            let (near, far) = (Port::Trunk(&a.bridge, &b.bridge), Port::Trunk(&b.bridge, &a.bridge));
            [(near, &a.place, &mut a.port), (far, &b.place, &mut b.port)]
        });
        let mut new = Vec::new();
        for (port, place, name) in pairs.chain(trunks) {
            match kept.get(&port) {
                Some(former)
                    if !taken.contains(*former) && !devices.contains(&(place.clone(), (*former).clone())) =>
                {
                    name.clone_from(former);
                    taken.insert((*former).clone());
                }
                _ => new.push((port, place, name)),
            }
        }
        for (port, place, name) in new {
            let is_free =
                |name: &IfName| !taken.contains(name) && !devices.contains(&(place.clone(), name.clone()));
            *name = first(port, &lab, is_free);
            taken.insert(name.clone());
        }
    }

    /// The devices whose names are in the file.
    fn devices(&self) -> impl Iterator<Item = (Place, IfName)> {
        let bridges = self.bridges.iter().map(|bridge| (bridge.place.clone(), bridge.name.clone()));
        let adopted = self.adopted.iter().map(|bridge| (bridge.place.clone(), bridge.name.clone()));
        let inner =
            self.pairs.iter().map(|pair| (Place::Namespace(pair.namespace.clone()), pair.inner.name.clone()));
        let ends = self.cables.iter().flat_map(|cable| [&cable.a, &cable.b]);
        let ends = ends.map(|end| (end.place.clone(), end.interface.name.clone()));
        bridges.chain(adopted).chain(inner).chain(ends)
    }
}

/// The names that earlier topologies gave ports. The last one counts. A name that was in its file is not kept: without
/// it, the port gets another.
fn kept<'a>(earlier: &[&'a Topology]) -> BTreeMap<Port<'a>, &'a IfName> {
    let mut names = BTreeMap::new();
    for lab in earlier {
        for pair in &lab.pairs {
            let Pair { namespace, inner, port, has_own_port, .. } = pair;
            let key = Port::Pair(namespace, &inner.name);
            if *has_own_port {
                names.remove(&key)
            } else {
                names.insert(key, port)
            };
        }
        for Trunk { a, b, .. } in &lab.trunks {
            names.insert(Port::Trunk(&a.bridge, &b.bridge), &a.port);
            names.insert(Port::Trunk(&b.bridge, &a.bridge), &b.port);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Source, read};

    fn lab(text: &str) -> Topology {
        read(Source { path: "lab.toml", text }, Some("lab")).unwrap_or_else(|_| panic!("{text}"))
    }

    /// One interface on `br0` for each.
    fn on_a_bridge(interfaces: &[(&str, &str, &str)]) -> Topology {
        let interface = |(namespace, name, more): &(&str, &str, &str)| {
            format!("[namespace.{namespace}.interface.\"{name}\"]\nlink = \"br0\"\n{more}\n")
        };
        lab(&interfaces.iter().map(interface).fold("[bridge.br0]\n".to_owned(), |text, more| text + &more))
    }

    fn ports(lab: &Topology) -> Vec<&str> {
        lab.pairs.iter().map(|pair| pair.port.as_str()).collect()
    }

    #[test]
    fn a_port_is_named_after_what_it_leads_to() {
        let lab =
            on_a_bridge(&[("ns0", "eth0", ""), ("r1", "eth0.100", ""), ("r1", "eth1", "port = \"up\"")]);
        assert_eq!(ports(&lab), ["ns0-eth0", "r1-eth0.100", "up"]);
    }

    #[test]
    fn a_long_name_is_cut_and_ends_in_a_hash() {
        let long = on_a_bridge(&[("a-long-namespace", "eth0", ""), ("a-long-namespace", "eth1", "")]);
        let names = ports(&long);
        for name in &names {
            assert!(name.starts_with("a-long-n-") && name.len() == IfName::MOST, "{name}");
        }
        assert_ne!(names[0], names[1]);
        let (namespace, interface) = (&long.pairs[0].namespace, &long.pairs[0].inner.name);
        assert_eq!(port_name(&long.lab, namespace, interface), long.pairs[0].port);
        let other = "other".parse().unwrap();
        assert_ne!(port_name(&other, namespace, interface), long.pairs[0].port, "of another lab");
        // Fifteen bytes fit.
        assert_eq!(ports(&on_a_bridge(&[("ten-bytes1", "eth0", "")])), ["ten-bytes1-eth0"]);
    }

    #[test]
    fn ends_of_trunks_are_named_after_both_bridges() {
        let lab = lab("[bridge.br0]\ntrunks = [\"br1\"]\n[bridge.br1]\n");
        assert_eq!((lab.trunks[0].a.port.as_str(), lab.trunks[0].b.port.as_str()), ("br0-br1", "br1-br0"));
    }

    #[test]
    fn a_name_that_the_lab_has_already_is_no_ports() {
        let twice =
            on_a_bridge(&[("a-b", "c", ""), ("a", "b-c", ""), ("d", "e", ""), ("f", "g", "port = \"d-e\"")]);
        let names = ports(&twice);
        assert_eq!((names[0], names[3]), ("a-b-c", "d-e"));
        assert!(names[1].starts_with("a-b-c-") && names[2].starts_with("d-e-"), "{names:?}");
        let beside = lab("[bridge.x-y]\n[namespace.x.interface.y]\nlink = \"x-y\"\n");
        assert!(ports(&beside)[0].starts_with("x-y-"), "{:?}", ports(&beside));
        let elsewhere = lab("[namespace.f]\n[bridge.x-y]\nnamespace = \"f\"\n[bridge.br0]\n\
                             [namespace.x.interface.y]\nlink = \"br0\"\n");
        assert_eq!(ports(&elsewhere), ["x-y"]);
    }

    #[test]
    fn what_is_there_keeps_its_name() {
        let mut former = on_a_bridge(&[("ns0", "eth0", ""), ("ns1", "eth0", "port = \"own\"")]);
        former.pairs[0].port = "vp5afrsuut2f".parse().unwrap();
        let again = |interfaces: &[(&str, &str, &str)]| {
            let mut lab = on_a_bridge(interfaces);
            lab.assign_ports(&[&former]);
            ports(&lab).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(again(&[("new", "eth0", ""), ("ns0", "eth0", "")]), ["new-eth0", "vp5afrsuut2f"]);
        assert_eq!(again(&[("ns1", "eth0", "")]), ["ns1-eth0"], "the file no longer names it");
        assert_eq!(again(&[("ns0", "eth0", "port = \"own\"")]), ["own"]);
        assert_eq!(
            again(&[("ns0", "eth0", ""), ("ns1", "eth0", "port = \"vp5afrsuut2f\"")]),
            ["ns0-eth0", "vp5afrsuut2f"]
        );
    }

    /// Whichever comes first in the file: the other one is there.
    #[test]
    fn a_new_port_does_not_take_the_name_of_one_that_stays() {
        let former = on_a_bridge(&[("a", "b-c", "")]);
        let mut lab = on_a_bridge(&[("a-b", "c", ""), ("a", "b-c", "")]);
        lab.assign_ports(&[&former]);
        assert!(ports(&lab)[0].starts_with("a-b-c-"), "{:?}", ports(&lab));
        assert_eq!(ports(&lab)[1], "a-b-c");
    }
}
