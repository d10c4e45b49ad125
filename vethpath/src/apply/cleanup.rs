//! Removes a lab's namespaces and its objects in them, many in parallel.

use std::collections::BTreeSet;

use super::{Error, namespaces::is_same_netns, observe::Ours};
use crate::{
    kernel::{LinkFacts, Netns, Result, RouteSocket, netns, pool},
    plan::is_ours,
    state::{self, Directory, History, Saved, test_hooks},
    topology::{LabName, NsName, Place},
};

/// Removes the links of a place that `doomed` accepts, in one batch. A veth end that went with its other end is no
/// error.
pub(super) fn remove(socket: &RouteSocket, place: &Place, doomed: impl Fn(&LinkFacts) -> bool) -> Result<()> {
    let left = socket.delete(doomed)?;
    if left.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = left.iter().map(|link| format!("{place}:{}", link.name)).collect();
    let still = if names.len() == 1 { "it is still there" } else { "they are still there" };
    Err(crate::kernel::Error::new("remove link", names.join(", "), std::io::Error::other(still)))
}

/// Removes namespaces that the lab has created, with the lab's objects in them. A namespace that is not the lab's is
/// left. Returns errors, and messages about namespaces that were left.
pub(super) fn namespaces(names: &[&NsName], ours: Ours<'_>, facts: &Saved) -> (Vec<Error>, Vec<String>) {
    let (mut faults, mut messages) = (Vec::new(), Vec::new());
    for (name, done) in names.iter().zip(pool::io_bound(names, |name| clear(name, ours, facts))) {
        match done {
            Ok(Some(removed)) => faults.extend(removed.into_iter().map(Error::from)),
            Ok(None) => {
                messages.push(format!("namespace {name} does not belong to lab {}; not removed", ours.lab))
            }
            Err(error) => faults.push(error.into()),
        }
    }
    (faults, messages)
}

/// Leaves the calling thread in the namespace. `None` if it is not the lab's.
fn clear(name: &NsName, ours: Ours<'_>, facts: &Saved) -> Result<Option<Vec<crate::kernel::Error>>> {
    if !netns::exists(name) {
        return Ok(Some(Vec::new()));
    }
    if netns::is_left_over(name) {
        // A name that is only in the user's file may not be the lab's.
        if has_recorded(ours.lab, name) {
            netns::unbind(name)?;
        }
        return Ok(Some(Vec::new()));
    }
    let there = Netns::named(name)?;
    let socket = RouteSocket::entering(&there)?;
    if !has_made(name, &there, &socket.links()?, ours.lab, facts)? {
        return Ok(None);
    }
    let place = Place::Namespace(name.clone());
    let removed = remove(&socket, &place, |link| ours.has(&place, link));
    test_hooks::kill_point();
    let unbound = netns::unbind(name);
    test_hooks::kill_point();
    Ok(Some(removed.err().into_iter().chain(unbound.err()).collect()))
}

/// Whether the lab has made the namespace that the calling thread is in, and whose links these are.
pub(super) fn has_made(
    name: &NsName,
    there: &Netns,
    links: &[LinkFacts],
    lab: &LabName,
    facts: &Saved,
) -> Result<bool> {
    let loopback = links.iter().find(|link| link.loopback);
    let is_marked = loopback.is_some_and(|lo| is_ours(lo.alias.as_deref(), lab));
    // Root of the namespace may have removed the mark.
    Ok(match facts.made.get(name.as_str()) {
        Some(id) if !is_marked => id.is(&there.id_here()?),
        _ => is_marked,
    })
}

/// Whether the lab's record has this namespace. The record is written before the namespace is created.
pub(super) fn has_recorded(lab: &LabName, name: &NsName) -> bool {
    let records = History::salvage(&Directory::of(lab));
    records.iter().flat_map(|record| &record.topology.namespaces).any(|recorded| &recorded.name == name)
}

/// Namespaces that carry a lab's mark.
#[derive(Default)]
pub(super) struct Marked {
    /// Those that it has created.
    pub(super) made: Vec<NsName>,
    /// Those that it has adopted, or has interfaces in.
    pub(super) adopted: Vec<NsName>,
    /// Those that another lab has created by its record; root of such a namespace has set the mark.
    pub(super) others: Vec<NsName>,
}

/// Finds namespaces with the lab's mark, except those that are `known`.
pub(super) fn marked(lab: &LabName, facts: &Saved, known: &BTreeSet<&NsName>) -> Marked {
    let mut marked = Marked::default();
    let others = state::labs().unwrap_or_default().into_iter().filter(|other| other != lab);
    let others: Vec<_> = others.filter_map(|other| Saved::read(&Directory::of(&other)).ok()).collect();
    for name in netns::names().into_iter().filter(|name| !known.contains(name) && !netns::is_left_over(name))
    {
        let found = Netns::named(&name).and_then(|there| {
            let links = RouteSocket::open(&there)?.links()?;
            let mut ours = links.iter().filter(|link| is_ours(link.alias.as_deref(), lab)).peekable();
            let has_any = ours.peek().is_some();
            let is_made = ours.any(|link| link.loopback) || is_same_netns(&facts.made, &name, &there)?;
            let is_others = others
                .iter()
                .any(|other| is_same_netns(&other.made, &name, &there).is_ok_and(|is_same| is_same));
            Ok((is_made, has_any || is_same_netns(&facts.adopted, &name, &there)?, is_others))
        });
        match found {
            Ok((true, _, true)) => marked.others.push(name),
            Ok((true, ..)) => marked.made.push(name),
            Ok((false, true, _)) => marked.adopted.push(name),
            _ => {}
        }
    }
    marked
}
