//! Removing what a lab has in its own namespaces, and these: many at once.

use super::{
    Error,
    observe::{self, Macs},
};
use crate::{
    kernel::{Direct, LinkFacts, Netns, Result, crew, netns},
    plan::is_ours,
    state::{Directory, History, stop},
    topology::{LabName, Namespace, Place},
};

/// What tells a lab's links from others.
#[derive(Clone, Copy)]
pub(super) struct Ours<'a> {
    /// The lab.
    pub(super) lab: &'a LabName,
    /// The MACs with which its links are made, or were.
    pub(super) macs: &'a Macs,
}

impl Ours<'_> {
    /// Whether a link of a place is the lab's: it carries its mark, or is its by name and MAC and was never
    /// marked.
    pub(super) fn has(&self, place: &Place, link: &LinkFacts) -> bool {
        let expected = self.macs.get(&(place.clone(), link.name.clone()));
        link.name != "lo" && observe::owned(link, expected, self.lab, true)
    }
}

/// Removes the links of a place that `doomed` accepts, all at once. One that is gone with its other end is
/// no fault.
pub(super) fn remove(direct: &Direct, place: &Place, doomed: impl Fn(&LinkFacts) -> bool) -> Result<()> {
    let left = direct.delete(doomed)?;
    if left.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = left.iter().map(|link| format!("{place}:{}", link.name)).collect();
    let still = if names.len() == 1 { "it is still there" } else { "they are still there" };
    Err(crate::kernel::Error::new("remove link", names.join(", "), std::io::Error::other(still)))
}

/// Removes namespaces that the lab has made, with all of the lab's that is in them. What is not the
/// lab's is left. Returns the faults.
pub(super) fn namespaces(namespaces: &[&Namespace], ours: Ours<'_>) -> Vec<Error> {
    let faults = crew::waiting(namespaces, |namespace| clear(namespace, ours));
    faults.into_iter().flatten().map(Error::from).collect()
}

/// On a thread that ends in the namespace.
fn clear(namespace: &Namespace, ours: Ours<'_>) -> Vec<crate::kernel::Error> {
    let name = &namespace.name;
    let work = || {
        if !netns::exists(name) {
            return Ok(Vec::new());
        }
        if netns::is_left_over(name) {
            // What only the user's file calls the lab's may be somebody else's.
            if has_recorded(ours.lab, namespace) {
                netns::unbind(name)?;
            }
            return Ok(Vec::new());
        }
        let direct = Direct::entering(&Netns::named(name)?)?;
        let loopback = direct.links(false)?.into_iter().find(|link| link.name == "lo");
        if !loopback.is_some_and(|lo| is_ours(lo.alias.as_deref(), ours.lab)) {
            return Ok(Vec::new());
        }
        let place = Place::Namespace(name.clone());
        let removed = remove(&direct, &place, |link| ours.has(&place, link));
        stop::here_if_told();
        let unbound = netns::unbind(name);
        stop::here_if_told();
        Ok(removed.err().into_iter().chain(unbound.err()).collect())
    };
    work().unwrap_or_else(|error| vec![error])
}

/// Whether the lab's journal has this namespace, as it does before it is made.
pub(super) fn has_recorded(lab: &LabName, namespace: &Namespace) -> bool {
    let Ok(Some(history)) = History::read(&Directory::of(lab)) else { return false };
    let mut recorded = history.topologies().flat_map(|topology| &topology.namespaces);
    recorded.any(|recorded| recorded.name == namespace.name)
}
