//! Seeing what is there of a lab.

use std::collections::{BTreeMap, HashMap};

use super::{Error, Places, adopted, nat};
use crate::{
    kernel::{LinkFacts, Netns, Rtnl, netns},
    plan::{Found, Observed, ObservedLink, is_ours},
    topology::{Mac, Masquerade, Namespace, Place, Topology},
};

/// Looks at everything that has a name of the lab's.
///
/// `begun` says that the lab has a journal: then a link without any mark that has the name *and*
/// the derived MAC of one of ours is ours, made by a run that was killed before it could mark it.
///
/// # Errors
/// The kernel refuses, or the journal cannot be read.
pub async fn observe(topology: &Topology, places: &mut Places, begun: bool) -> Result<Observed, Error> {
    let mut observed = Observed::default();
    let macs = expected_macs(topology);
    let mut here = vec![Place::Host];
    for namespace in &topology.namespaces {
        if let Some(found) = find(namespace, topology, begun).await? {
            observed.namespaces.insert(namespace.name.clone(), found);
            if found == Found::Ours {
                here.push(Place::Namespace(namespace.name.clone()));
            }
        }
    }
    for place in here {
        let rtnl = places.get(&place)?;
        let links = rtnl.links().await?;
        let names: HashMap<u32, String> =
            links.iter().map(|link| (link.ifindex, link.name.clone())).collect();
        let mut addresses: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for (ifindex, address) in rtnl.addresses().await? {
            addresses.entry(ifindex).or_default().push(address);
        }
        if let Place::Namespace(name) = &place {
            observed.routes.insert(name.clone(), rtnl.routes().await?);
        }
        for link in links {
            let key = (place.clone(), link.name.clone());
            let seen = ObservedLink {
                ours: owned(&link, macs.get(&key), topology, begun),
                up: link.up,
                bridge: link.controller.and_then(|index| names.get(&index).cloned()),
                mtu: link.mtu,
                addresses: addresses.remove(&link.ifindex).unwrap_or_default(),
            };
            observed.links.insert(key, seen);
        }
    }
    for nat in Masquerade::of(topology) {
        let known = nat.place == Place::Host
            || matches!(&nat.place, Place::Namespace(name) if observed.namespaces.get(name) == Some(&Found::Ours));
        if known && nat::is_there(places.get(&nat.place)?.netns(), &nat)? {
            observed.masquerading.insert(nat.place);
        }
    }
    Ok(observed)
}

/// What has a namespace's name in `/run/netns`.
async fn find(namespace: &Namespace, topology: &Topology, begun: bool) -> Result<Option<Found>, Error> {
    if !netns::exists(&namespace.name) {
        return Ok(None);
    }
    if netns::is_left_over(&namespace.name) {
        // Ours if a run of ours was killed between making the file and mounting on it.
        return if begun {
            netns::unbind(&namespace.name)?;
            Ok(None)
        } else {
            Ok(Some(Found::LeftOver))
        };
    }
    let there = Netns::named(&namespace.name)?;
    Ok(Some(if is_the_labs(namespace, topology, &there).await? { Found::Ours } else { Found::Foreign }))
}

/// Whether the namespace that has the name is the lab's: one of ours is known by the mark on its loopback.
///
/// # Errors
/// The journal cannot be read, or the kernel refuses.
pub(super) async fn is_the_labs(
    namespace: &Namespace,
    topology: &Topology,
    there: &Netns,
) -> Result<bool, Error> {
    if namespace.adopt.is_some() {
        return adopted::is_the_labs(namespace, topology, there).await;
    }
    let loopback = Rtnl::open(there)?.link("lo").await?;
    Ok(loopback.is_some_and(|lo| is_ours(lo.alias.as_deref(), &topology.lab)))
}

/// Whether a link is the lab's.
pub(super) fn owned(link: &LinkFacts, expected: Option<&Mac>, topology: &Topology, begun: bool) -> bool {
    match &link.alias {
        Some(alias) => is_ours(Some(alias), &topology.lab),
        None => begun && expected.is_some_and(|mac| link.mac == Some(mac.bytes())),
    }
}

/// The MACs with which our links are made.
pub(super) fn expected_macs(topology: &Topology) -> HashMap<(Place, String), Mac> {
    let mut macs = HashMap::new();
    for bridge in &topology.bridges {
        macs.insert((bridge.place.clone(), bridge.name.to_string()), bridge.mac);
    }
    for pair in &topology.pairs {
        macs.insert((pair.place.clone(), pair.port.to_string()), pair.port_mac);
        macs.insert((Place::Namespace(pair.namespace.clone()), pair.inner.name.to_string()), pair.inner.mac);
    }
    for end in topology.cables.iter().flat_map(|cable| [&cable.a, &cable.b]) {
        macs.insert((end.place.clone(), end.interface.name.to_string()), end.interface.mac);
    }
    for end in topology.trunks.iter().flat_map(|trunk| [&trunk.a, &trunk.b]) {
        macs.insert((end.place.clone(), end.port.to_string()), end.mac);
    }
    macs
}
