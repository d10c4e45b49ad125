//! Removing what a lab has in its own namespaces, and these: many at once.

use std::collections::HashMap;

use super::{Error, observe};
use crate::{
    kernel::{Direct, LinkFacts, Netns, Result, crew, netns},
    plan::is_ours,
    topology::{Mac, Namespace, Place, Topology},
};

/// The MACs with which a lab's links are made, by place and name.
pub(super) type Macs = HashMap<(Place, String), Mac>;

/// Removes the lab's links in a place: those that carry its mark, or are its by name and MAC and were
/// never marked.
pub(super) fn links(direct: &Direct, place: &Place, macs: &Macs, topology: &Topology) -> Result<()> {
    let ours = |link: &LinkFacts| {
        link.name != "lo"
            && observe::owned(link, macs.get(&(place.clone(), link.name.clone())), topology, true)
    };
    match direct.delete(ours)?.first() {
        None => Ok(()),
        Some(left) => {
            let source = std::io::Error::other("it is still there");
            Err(crate::kernel::Error::new("remove link", format!("{place}:{}", left.name), source))
        }
    }
}

/// Removes namespaces that the lab has made, with all of the lab's that is in them. What is not the
/// lab's is left. Returns the faults.
pub(super) fn namespaces(namespaces: &[&Namespace], macs: &Macs, topology: &Topology) -> Vec<Error> {
    // Where bridges are, the ends of most of the others' links are.
    let fabric = |namespace: &&&Namespace| {
        let place = Place::Namespace(namespace.name.clone());
        topology.bridges.iter().any(|bridge| bridge.place == place)
    };
    let (first, then): (Vec<&Namespace>, Vec<&Namespace>) = namespaces.iter().partition(fabric);
    let clear = |namespace: &&Namespace| clear(namespace, macs, topology);
    let faults = [crew::waiting(&first, clear), crew::waiting(&then, clear)];
    faults.into_iter().flatten().flatten().map(Error::from).collect()
}

/// On a thread that ends in the namespace.
fn clear(namespace: &Namespace, macs: &Macs, topology: &Topology) -> Vec<crate::kernel::Error> {
    let name = &namespace.name;
    let work = || {
        if !netns::exists(name) {
            return Ok(Vec::new());
        }
        if netns::is_left_over(name) {
            netns::unbind(name)?;
            return Ok(Vec::new());
        }
        let direct = Direct::entering(&Netns::named(name)?)?;
        let loopback = direct.links(false)?.into_iter().find(|link| link.name == "lo");
        if !loopback.is_some_and(|lo| is_ours(lo.alias.as_deref(), &topology.lab)) {
            return Ok(Vec::new());
        }
        let left = links(&direct, &Place::Namespace(name.clone()), macs, topology);
        netns::unbind(name)?;
        Ok(left.err().into_iter().collect())
    };
    work().unwrap_or_else(|error| vec![error])
}
