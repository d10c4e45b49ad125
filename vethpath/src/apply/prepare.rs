//! Making the inner ends of XDP ports ready to send and receive, and putting back what they had.

use std::collections::BTreeSet;

use crate::{
    kernel::{Netns, Result, Rtnl, netns, xdp},
    state::Found,
    topology::{NsName, Pair, Topology},
};

/// What is to be switched at the inner end of a pair, each as it is now; `None` if it is ready.
///
/// # Errors
/// The inner end is gone, or the kernel refuses.
pub async fn unready(pair: &Pair, inside: &Rtnl) -> Result<Option<Found>> {
    let ifindex = inside.expect_link(&pair.inner.name).await?.ifindex;
    let features = xdp::unready(inside.netns(), ifindex)?;
    Ok((!features.is_empty()).then(|| Found::at(pair, ifindex, features)))
}

/// Switches what was found.
///
/// # Errors
/// The kernel refuses.
pub fn switch(found: &Found, inside: &Netns) -> Result<()> {
    let wanted: Vec<_> = found.features.iter().map(|(name, on)| (name.clone(), !on)).collect();
    xdp::switch(inside, found.ifindex, &wanted)
}

/// Puts back what was found. An inner end that is gone needs nothing.
///
/// # Errors
/// The kernel refuses.
pub fn restore(found: &Found) -> Result<()> {
    if !netns::exists(&found.namespace) || netns::is_left_over(&found.namespace) {
        return Ok(());
    }
    match xdp::switch(&Netns::named(&found.namespace)?, found.ifindex, &found.features) {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}

/// Those of `found` that no pair of the topology wants switched any more.
#[must_use]
pub fn unwanted(found: Vec<Found>, topology: &Topology) -> Vec<Found> {
    let places = topology.domains();
    let pairs = places.iter().flat_map(|place| topology.xdp_pairs(place));
    let wanted: BTreeSet<(&NsName, _)> = pairs.map(|pair| (&pair.namespace, &pair.inner.name)).collect();
    found.into_iter().filter(|found| !wanted.contains(&(&found.namespace, &found.interface))).collect()
}
