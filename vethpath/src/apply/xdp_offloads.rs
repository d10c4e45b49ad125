//! Prepares the inner ends of XDP ports to send and receive, and restores their offloads.

use super::{
    Error,
    execute::Executor,
    observe::{by_namespace, unready},
};
use crate::{
    kernel::{LinkFacts, Netns, Result, RouteSocket, Rtnl, netns, xdp},
    plan::{Change, Offloads, is_ours},
    topology::{LabName, Pair, Place, Topology},
};

/// Inner ends of `pairs` in one namespace that are up with GRO on, with that state. Missing ones are left out.
///
/// # Errors
/// A kernel request fails.
async fn missed(pairs: &[&Pair], inside: &Rtnl) -> Result<Vec<Offloads>> {
    let (ready, links) = (xdp::ready(inside.netns())?, inside.socket().links()?);
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
fn switch(found: &Offloads, inside: &Netns) -> Result<()> {
    let wanted: Vec<_> = found.features.iter().map(|(name, on)| (name.clone(), !on)).collect();
    xdp::switch(inside, found.ifindex, &wanted)
}

/// Restores the features that were found. Does nothing if the inner end is gone, or if the device of that name is
/// another one or not the lab's.
///
/// # Errors
/// A kernel request fails.
pub async fn restore(found: &Offloads, lab: &LabName) -> Result<()> {
    if !netns::is_present(&found.namespace) {
        return Ok(());
    }
    let inside = Netns::named(&found.namespace)?;
    let link = RouteSocket::open(&inside)?.link(found.interface.as_str())?;
    let is_it = |link: LinkFacts| link.ifindex == found.ifindex && is_ours(link.alias.as_deref(), lab);
    if !link.is_some_and(is_it) {
        return Ok(());
    }
    match xdp::switch(&inside, found.ifindex, &found.features) {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}

/// Prepares inner ends for XDP before programs are attached.
pub(super) async fn set_up(
    pairs: impl Iterator<Item = &Pair>,
    executor: &mut Executor<'_>,
) -> std::result::Result<(), Error> {
    for (namespace, pairs) in by_namespace(pairs) {
        let inside = executor.namespaces().get(&Place::Namespace(namespace.clone()))?;
        for found in unready(&pairs, &inside).await? {
            executor.set_up_xdp(&found, inside.netns())?;
        }
    }
    Ok(())
}

/// Makes the driver update stale XDP feature flags of ports, by toggling GRO of their inner ends. The flags are stale
/// if GRO was enabled while the inner end was down (see kernel/xdp.rs).
pub(super) async fn refresh_features(
    topology: &Topology,
    executor: &mut Executor<'_>,
) -> std::result::Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    for (_, place) in topology.domains() {
        let pairs: Vec<_> = topology.xdp_pairs(&place).collect();
        if pairs.is_empty() {
            continue;
        }
        let here = executor.namespaces().get(&place)?;
        let (takers, links) = (xdp::takers_in(here.netns())?, here.socket().links()?);
        let is_missed = |pair: &&Pair| {
            let port = links.iter().find(|link| link.name == pair.port.as_str());
            port.is_some_and(|port| port.up && !takers.contains(&port.ifindex))
        };
        for (namespace, pairs) in by_namespace(pairs.into_iter().filter(is_missed)) {
            let inside = executor.namespaces().get(&Place::Namespace(namespace.clone()))?;
            for found in missed(&pairs, &inside).await? {
                changes.push(executor.toggle_gro(&found, inside.netns())?);
            }
        }
    }
    Ok(changes)
}

impl Executor<'_> {
    /// Prepares an inner end for XDP. Its offloads are written to the journal first. They are restored when its port no
    /// longer wants XDP, or when the lab is taken down.
    fn set_up_xdp(&mut self, found: &Offloads, inside: &Netns) -> std::result::Result<(), Error> {
        self.journal.append(&found.to_string())?;
        Ok(switch(found, inside)?)
    }

    /// Toggles GRO of an inner end off and on. If the run ends in between, the journal says that GRO was on.
    fn toggle_gro(&mut self, found: &Offloads, inside: &Netns) -> std::result::Result<Change, Error> {
        self.journal.append(&found.to_string())?;
        xdp::renew(inside, found.ifindex)?;
        let name = format_args!("{}:{}", found.namespace, found.interface);
        Ok(Change::of("offloads", name).values(None::<&str>, found.original()))
    }

    /// Restores the offloads of an inner end.
    pub(super) async fn restore_xdp(&mut self, found: &Offloads) -> std::result::Result<(), Error> {
        restore(found, self.lab).await?;
        Ok(self.journal.append(&found.restored())?)
    }
}
