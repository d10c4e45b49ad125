//! Prepares the inner ends of XDP ports to send and receive, and restores their offloads.

use std::collections::BTreeMap;

use crate::{
    kernel::{LinkFacts, Netns, Result, Rtnl, netns, xdp},
    plan::Offloads,
    plan::is_ours,
    topology::{LabName, NsName, Pair},
};

/// The offloads to switch at the inner ends of `pairs` in one namespace, with their present state. Inner ends that are
/// ready or missing are left out.
///
/// # Errors
/// A kernel request fails.
pub async fn unready(pairs: &[&Pair], inside: &Rtnl) -> Result<Vec<Offloads>> {
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let mut features = xdp::unready(inside.netns())?;
    let links = inside.links().await?;
    let ifindexes: BTreeMap<&str, u32> =
        links.iter().map(|link| (link.name.as_str(), link.ifindex)).collect();
    let of_pair = |pair: &&Pair| {
        let ifindex = *ifindexes.get(pair.inner.name.as_str())?;
        Some(Offloads::at(pair, ifindex, features.remove(&ifindex)?))
    };
    Ok(pairs.iter().filter_map(of_pair).collect())
}

/// Inner ends of `pairs` in one namespace that are up with GRO on, with that state. Missing ones are left out.
///
/// # Errors
/// A kernel request fails.
pub async fn missed(pairs: &[&Pair], inside: &Rtnl) -> Result<Vec<Offloads>> {
    let (ready, links) = (xdp::ready(inside.netns())?, inside.links().await?);
    let of_pair = |pair: &&Pair| {
        let inner = links.iter().find(|link| link.name == pair.inner.name.as_str() && link.up)?;
        let has_gro = ready.get(&inner.ifindex).is_some_and(|ready| ready.gro);
        has_gro.then(|| Offloads::at(pair, inner.ifindex, vec![(xdp::GRO.to_owned(), true)]))
    };
    Ok(pairs.iter().filter_map(of_pair).collect())
}

/// Inverts the features that were found.
///
/// # Errors
/// A kernel request fails.
pub fn switch(found: &Offloads, inside: &Netns) -> Result<()> {
    let wanted: Vec<_> = found.features.iter().map(|(name, on)| (name.clone(), !on)).collect();
    xdp::switch(inside, found.ifindex, &wanted)
}

/// Restores the features that were found. Does nothing if the inner end is gone, or if the device of that name is
/// another one or not the lab's.
///
/// # Errors
/// A kernel request fails.
pub async fn restore(found: &Offloads, lab: &LabName) -> Result<()> {
    if !netns::exists(&found.namespace) || netns::is_left_over(&found.namespace) {
        return Ok(());
    }
    let inside = Netns::named(&found.namespace)?;
    let link = Rtnl::open(&inside)?.link(found.interface.as_str()).await?;
    let is_it = |link: LinkFacts| link.ifindex == found.ifindex && is_ours(link.alias.as_deref(), lab);
    if !link.is_some_and(is_it) {
        return Ok(());
    }
    match xdp::switch(&inside, found.ifindex, &found.features) {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}

/// Groups pairs by the namespaces of their inner ends.
#[must_use]
pub fn by_namespace<'a>(pairs: impl Iterator<Item = &'a Pair>) -> BTreeMap<&'a NsName, Vec<&'a Pair>> {
    let mut sorted: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for pair in pairs {
        sorted.entry(&pair.namespace).or_default().push(pair);
    }
    sorted
}
