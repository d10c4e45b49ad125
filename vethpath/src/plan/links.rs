//! Which links of the lab stay as they are, and which go.

use std::collections::{BTreeMap, BTreeSet};

use super::{Found, Observed, ObservedLink, Step};
use crate::topology::{IfName, Namespace, Place, Topology};

type Key = (Place, String);

/// What stays of what is there.
pub(super) struct Standing<'a> {
    observed: &'a Observed,
    /// Namespaces of ours that are removed, be it to be made anew.
    gone: Vec<&'a Namespace>,
    gone_places: BTreeSet<Place>,
    /// Links of ours that are what the topology wants of that name.
    kept: BTreeSet<Key>,
}

impl<'a> Standing<'a> {
    /// Holds what is there against the topology, and what the lab was.
    pub(super) fn of(topology: &Topology, former: &'a [Topology], observed: &'a Observed) -> Self {
        let mut gone: BTreeMap<&str, &Namespace> = BTreeMap::new();
        for namespace in former.iter().flat_map(|former| &former.namespaces) {
            let wanted = topology.namespaces.iter().find(|wanted| wanted.name == namespace.name);
            let goes = match observed.namespaces.get(&namespace.name) {
                Some(Found::Ours) => wanted.is_none_or(|wanted| wanted.adopt != namespace.adopt),
                Some(Found::LeftOver) => true,
                Some(Found::Foreign(_)) | None => false,
            };
            if goes {
                gone.insert(namespace.name.as_str(), namespace);
            }
        }
        let gone: Vec<_> = gone.into_values().collect();
        let gone_places = gone.iter().map(|namespace| Place::Namespace(namespace.name.clone())).collect();
        let mut standing = Self { observed, gone, gone_places, kept: BTreeSet::new() };
        standing.keep(topology);
        standing
    }

    fn keep(&mut self, topology: &Topology) {
        for bridge in &topology.bridges {
            let key = key(&bridge.place, &bridge.name);
            if self.ours(&key).is_some_and(|link| !link.options.is_empty()) {
                self.kept.insert(key);
            }
        }
        for pair in &topology.pairs {
            let inside = Place::Namespace(pair.namespace.clone());
            self.keep_veth([key(&pair.place, &pair.port), key(&inside, &pair.inner.name)]);
        }
        for cable in &topology.cables {
            self.keep_veth([&cable.a, &cable.b].map(|end| key(&end.place, &end.interface.name)));
        }
        for trunk in &topology.trunks {
            self.keep_veth([&trunk.a, &trunk.b].map(|end| key(&end.place, &end.port)));
        }
    }

    /// Keeps both ends of a veth, if they are each other's.
    fn keep_veth(&mut self, ends: [Key; 2]) {
        if let [Some(a), Some(b)] = [self.ours(&ends[0]), self.ours(&ends[1])]
            && (a.peer, b.peer) == (Some(b.ifindex), Some(a.ifindex))
        {
            self.kept.extend(ends);
        }
    }

    /// A link of ours in a namespace that stays.
    fn ours(&self, key: &Key) -> Option<&'a ObservedLink> {
        let link = self.observed.links.get(key)?;
        (link.ours && !self.gone_places.contains(&key.0)).then_some(link)
    }

    /// The link of this name, if it stays.
    pub(super) fn link(&self, place: &Place, name: &str) -> Option<&'a ObservedLink> {
        let key = (place.clone(), name.to_owned());
        self.kept.contains(&key).then(|| self.observed.links.get(&key)).flatten()
    }

    /// Whether the namespace of this place is removed, be it to be made anew.
    pub(super) fn is_gone(&self, place: &Place) -> bool {
        self.gone_places.contains(place)
    }

    /// The namespaces that are removed.
    pub(super) fn gone(&self) -> impl Iterator<Item = &'a Namespace> {
        self.gone.iter().copied()
    }

    /// The removal of every link of ours that does not stay, once for both ends of a veth.
    pub(super) fn deletions(&self, topology: &Topology, former: &[Topology]) -> Vec<Step> {
        let names = names(former.iter().chain([topology]));
        let mut told: BTreeSet<&(&str, String)> = BTreeSet::new();
        let mut steps = Vec::new();
        for (key @ (place, device), link) in &self.observed.links {
            if !link.ours || device == "lo" || self.kept.contains(key) {
                continue;
            }
            let (kind, name) = match names.get(key) {
                Some(known) if !told.insert(known) => continue,
                Some((kind, name)) => (*kind, name.clone()),
                None => ("link", super::step::end(place, device)),
            };
            steps.push(Step::DeleteLink { place: place.clone(), device: device.clone(), kind, name });
        }
        steps
    }
}

/// What the links of topologies are called.
fn names<'a>(topologies: impl Iterator<Item = &'a Topology>) -> BTreeMap<Key, (&'static str, String)> {
    let mut names = BTreeMap::new();
    for topology in topologies {
        for bridge in &topology.bridges {
            names.insert(key(&bridge.place, &bridge.name), ("bridge", bridge.name.to_string()));
        }
        for pair in &topology.pairs {
            let inside = Place::Namespace(pair.namespace.clone());
            for key in [key(&pair.place, &pair.port), key(&inside, &pair.inner.name)] {
                names.insert(key, ("pair", pair.name()));
            }
        }
        for cable in &topology.cables {
            for end in [&cable.a, &cable.b] {
                names.insert(key(&end.place, &end.interface.name), ("cable", cable.name()));
            }
        }
        for trunk in &topology.trunks {
            for end in [&trunk.a, &trunk.b] {
                names.insert(key(&end.place, &end.port), ("trunk", trunk.name()));
            }
        }
    }
    names
}

fn key(place: &Place, name: &IfName) -> Key {
    (place.clone(), name.to_string())
}
