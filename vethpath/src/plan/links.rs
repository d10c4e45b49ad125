//! Decides which links of the lab are kept and which are removed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Found, Observed, ObservedLink, Step};
use crate::topology::{IfName, Namespace, Place, Topology};

type Key = (Place, String);

/// The observed links and namespaces, and which of them are kept.
pub(super) struct Standing<'a> {
    observed: &'a Observed,
    /// Namespaces of the lab that are removed, including those that are then recreated.
    gone: Vec<&'a Namespace>,
    gone_places: BTreeSet<Place>,
    /// Links of the lab that are of the wanted kind, with the wanted peer, and loopbacks.
    kept: BTreeSet<Key>,
}

impl<'a> Standing<'a> {
    /// Compares the observed state with the topology and the former ones.
    pub(super) fn of(topology: &Topology, former: &'a [Topology], observed: &'a Observed) -> Self {
        let mut gone: BTreeMap<&str, &Namespace> = BTreeMap::new();
        for namespace in former.iter().flat_map(|former| &former.namespaces) {
            let wanted = topology.namespaces.iter().find(|wanted| wanted.name == namespace.name);
            let goes = match observed.namespaces.get(&namespace.name) {
                Some(Found::Ours) => {
                    observed.moved.contains(&namespace.name)
                        || wanted.is_none_or(|wanted| wanted.adopt != namespace.adopt)
                }
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
        for namespace in &topology.namespaces {
            let place = Place::Namespace(namespace.name.clone());
            let is_there = self.observed.namespaces.get(&namespace.name) == Some(&Found::Ours);
            if is_there && !self.gone_places.contains(&place) {
                self.kept.insert((place, "lo".to_owned()));
            }
        }
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

    /// Keeps both ends of a veth if they are each other's peer.
    fn keep_veth(&mut self, ends: [Key; 2]) {
        if let [Some(a), Some(b)] = [self.ours(&ends[0]), self.ours(&ends[1])]
            && (a.peer, b.peer) == (Some(b.ifindex), Some(a.ifindex))
        {
            self.kept.extend(ends);
        }
    }

    /// A link of the lab in a namespace that is kept.
    fn ours(&self, key: &Key) -> Option<&'a ObservedLink> {
        let link = self.observed.links.get(key)?;
        (link.ours && !self.gone_places.contains(&key.0)).then_some(link)
    }

    /// The link of this name, if it is kept.
    pub(super) fn link(&self, place: &Place, name: &str) -> Option<&'a ObservedLink> {
        let key = (place.clone(), name.to_owned());
        self.kept.contains(&key).then(|| self.observed.links.get(&key)).flatten()
    }

    /// Whether the namespace of this place is removed, even if it is then recreated.
    pub(super) fn is_gone(&self, place: &Place) -> bool {
        self.gone_places.contains(place)
    }

    /// The namespaces that are removed.
    pub(super) fn gone(&self) -> impl Iterator<Item = &'a Namespace> {
        self.gone.iter().copied()
    }

    /// The steps that remove every link of the lab that is not kept. A veth is removed by one of its ends.
    pub(super) fn deletions(&self, topology: &Topology, former: &[Topology]) -> Vec<Step> {
        let names = names(former.iter().chain([topology]));
        let mut seen: BTreeSet<&(&str, String)> = BTreeSet::new();
        let mut steps = Vec::new();
        for (key @ (place, device), link) in &self.observed.links {
            if !link.ours || device == "lo" || self.kept.contains(key) {
                continue;
            }
            let (kind, name) = match names.get(key) {
                Some(known) if !seen.insert(known) => continue,
                Some((kind, name)) => (*kind, name.clone()),
                None => ("link", super::step::end(place, device)),
            };
            steps.push(Step::DeleteLink { place: place.clone(), device: device.clone(), kind, name });
        }
        steps
    }
}

/// The kinds and names of the links of topologies, for output.
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
