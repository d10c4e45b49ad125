//! Bridges of other programs that a lab adopts. Nothing of them is changed.

use super::{Error, NetnsCache, error::Refusal};
use crate::{
    kernel::{Netns, RouteSocket},
    plan::owner,
    state::{self, AdoptedAt, Directory, Record},
    topology::{AdoptedBridge, Namespace, Place, Topology},
};

/// Looks the bridges up that a lab adopts, and checks that no other lab has them. Changes nothing.
///
/// # Errors
/// One does not exist, or is no bridge, or is another lab's; or the kernel or a state folder refuses.
pub(super) fn bridges(topology: &Topology, places: &mut NetnsCache) -> Result<Vec<AdoptedAt>, Error> {
    let mut found = Vec::new();
    for bridge in &topology.adopted {
        let netns = netns(bridge, topology, places)?;
        let refused = |cause: Refusal| Error::Bridge {
            bridge: bridge.name.clone(),
            place: bridge.place.clone(),
            cause,
        };
        let link = RouteSocket::open(&netns)?.link(bridge.name.as_str())?;
        let link = link.ok_or_else(|| refused(Refusal::Missing))?;
        if link.bridge.is_none() {
            return Err(refused(Refusal::NoBridge));
        }
        if let Some(lab) = owner(link.alias.as_deref()) {
            return Err(refused(Refusal::MadeBy(lab)));
        }
        found.push(AdoptedAt { bridge: bridge.name.clone(), netns: netns.id()? });
    }
    check(topology, &found)?;
    Ok(found)
}

/// Checks that no other lab has adopted these bridges of a lab.
///
/// # Errors
/// One has, or a state folder cannot be read.
pub(super) fn check(topology: &Topology, found: &[AdoptedAt]) -> Result<(), Error> {
    if found.is_empty() {
        return Ok(());
    }
    for lab in state::known_labs()?.into_iter().filter(|lab| *lab != topology.lab) {
        // Another lab's record that cannot be read is reported by its own commands.
        let Ok(Some(Record { adopted, .. })) = Record::read(&Directory::of(&lab)) else { continue };
        if let Some((bridge, _)) = topology.adopted.iter().zip(found).find(|(_, at)| adopted.contains(at)) {
            let (bridge, place) = (bridge.name.clone(), bridge.place.clone());
            return Err(Error::Bridge { bridge, place, cause: Refusal::AdoptedBy(lab) });
        }
    }
    Ok(())
}

/// The namespace of a bridge. One that the lab adopts may not have its name yet.
fn netns(bridge: &AdoptedBridge, topology: &Topology, places: &mut NetnsCache) -> Result<Netns, Error> {
    let named = |namespace: &&Namespace| bridge.place == Place::Namespace(namespace.name.clone());
    if let Some(namespace) = topology.namespaces.iter().find(named)
        && let Some(adopt) = &namespace.adopt
    {
        match places.adoptions().open(adopt, namespace.name.as_str()) {
            Ok(Some(netns)) => return Ok(netns),
            Ok(None) => {}
            Err(error) if error.is_missing() => return Err(Error::adopt(namespace, adopt, "no such file")),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(places.netns(&bridge.place)?)
}
