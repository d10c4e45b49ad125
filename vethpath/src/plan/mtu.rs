//! MTUs.

use super::{Step, steps::Planner};
use crate::topology::{Bridge, Place, Topology, Trunk};

/// What a veth or a bridge has that nobody gave one (`ETH_DATA_LEN`), in bytes.
const DEFAULT: u32 = 1500;

impl Planner<'_> {
    /// What is made gets its MTU as it is made; what is there may have another one.
    pub(super) fn mtu(&mut self, place: &Place, device: &str, wanted: Option<u32>) {
        let Some(link) = self.standing.link(place, device) else { return };
        let mtu = wanted.unwrap_or(DEFAULT);
        if link.mtu != mtu {
            let (place, device) = (place.clone(), device.to_owned());
            self.plan.make.push(Step::Mtu { place, device, from: link.mtu, mtu });
        }
    }

    /// The kernel lowers a bridge's MTU to the least of its ports' until somebody sets it
    /// (`br_mtu_auto_adjust` in net/bridge/br_if.c): that is right, whether or not the file states one.
    pub(super) fn bridge_mtu(&mut self, bridge: &Bridge) {
        let Some(there) = self.standing.link(&bridge.place, bridge.name.as_str()) else { return };
        let least = self.least_port_mtu(bridge);
        let mtu = match (bridge.mtu, least) {
            (_, Some(least)) if there.mtu == least => return,
            (Some(mtu), _) | (None, Some(mtu)) => mtu,
            (None, None) => return,
        };
        if there.mtu != mtu {
            let (place, device) = (bridge.place.clone(), bridge.name.to_string());
            self.plan.make.push(Step::Mtu { place, device, from: there.mtu, mtu });
        }
    }

    /// The least MTU that a bridge's ports will have, those of others among them.
    fn least_port_mtu(&self, bridge: &Bridge) -> Option<u32> {
        let pairs = self.topology.pairs.iter().filter(|pair| pair.place == bridge.place);
        let pairs = pairs.filter(|pair| pair.bridge == bridge.name).map(|pair| pair.inner.mtu);
        let is_end = |trunk: &&Trunk| {
            [&trunk.a, &trunk.b].iter().any(|end| end.place == bridge.place && end.bridge == bridge.name)
        };
        let trunks = self.topology.trunks.iter().filter(is_end).map(|trunk| trunk.mtu(self.topology));
        let foreign = self.observed.links.iter().filter(|((place, _), link)| {
            place == &bridge.place && !link.ours && link.bridge.as_deref() == Some(bridge.name.as_str())
        });
        let wanted = pairs.chain(trunks).map(|mtu| mtu.unwrap_or(DEFAULT));
        wanted.chain(foreign.map(|(_, link)| link.mtu)).min()
    }
}

impl Trunk {
    /// The smaller MTU of its bridges, in bytes; `None` is the kernel's.
    #[must_use]
    pub fn mtu(&self, topology: &Topology) -> Option<u32> {
        [&self.a, &self.b].iter().filter_map(|end| topology.bridge(&end.place, &end.bridge)?.mtu).min()
    }
}
