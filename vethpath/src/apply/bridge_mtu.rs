//! Sets MTUs of bridges again after the kernel has adjusted them.

use std::collections::{BTreeMap, btree_map::Entry};

use super::{Error, execute::Executor};
use crate::{
    kernel::LinkFacts,
    topology::{Bridge, Place, Topology},
};

/// Sets bridges to the MTU of the file where the kernel has changed it. Whenever a port is added or removed, the kernel
/// sets a bridge's MTU to the least of its ports', unless a different one was set explicitly before
/// (`br_mtu_auto_adjust` in net/bridge/br_if.c). Whether that is so cannot be read. An MTU equal to the least of the
/// ports is accepted.
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
            executor.journal.append(&format!("keep mtu {place}:{name}: {} -> {mtu}", there.mtu))?;
            rtnl.set_mtu(there.ifindex, mtu, format_args!("{place}:{name}")).await?;
        }
    }
    Ok(())
}
