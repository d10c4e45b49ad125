//! What the kernel changes by itself, of what the file states.

use std::collections::{BTreeMap, btree_map::Entry};

use super::{Error, execute::Executor};
use crate::{
    kernel::LinkFacts,
    topology::{Bridge, Place, Topology},
};

/// Gives bridges the MTU that the file states, where the kernel has taken it back. It makes a bridge's MTU the
/// least of its ports' whenever one comes or goes, until somebody has set it to another than it has
/// (`br_mtu_auto_adjust` in net/bridge/br_if.c); nothing tells whether somebody has. As low as the least
/// of the ports is as it should be.
pub(super) async fn bridge_mtus(topology: &Topology, executor: &mut Executor<'_>) -> Result<(), Error> {
    let mut listed: BTreeMap<&Place, Vec<LinkFacts>> = BTreeMap::new();
    for (bridge, mtu) in topology.bridges.iter().filter_map(|bridge| Some((bridge, bridge.mtu?))) {
        let Bridge { place, name, .. } = bridge;
        let rtnl = executor.namespaces().get(place)?;
        let links = match listed.entry(place) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(rtnl.links().await?),
        };
        let Some(there) = links.iter().find(|link| link.name == name.as_str()) else { continue };
        let ports = links.iter().filter(|link| link.controller == Some(there.ifindex));
        if there.mtu != mtu && ports.map(|port| port.mtu).min() != Some(there.mtu) {
            executor.journal.note(&format!("keep mtu {place}:{name}: {} -> {mtu}", there.mtu))?;
            rtnl.set_mtu(there.ifindex, mtu, format_args!("{place}:{name}")).await?;
        }
    }
    Ok(())
}
