//! MTUs.

use super::{Step, steps::Planner};
use crate::topology::{Bridge, MTU_V6, Pair, Place, Sysctl, Topology, Trunk};

/// The default MTU of a veth or a bridge in bytes (`ETH_DATA_LEN`).
const DEFAULT: u32 = 1500;

impl Planner<'_> {
    /// Compares an existing interface's MTU. New interfaces are created with theirs.
    pub(super) fn mtu(&mut self, place: &Place, device: &str, wanted: Option<u32>) {
        let Some(link) = self.standing.link(place, device) else { return };
        let mtu = wanted.unwrap_or(DEFAULT);
        if link.mtu != mtu {
            self.renew_ipv6(place, device, link.mtu, mtu);
            let (place, device) = (place.clone(), device.to_owned());
            self.plan.make.push(Step::Mtu { place, device, from: link.mtu, mtu });
        }
    }

    /// IPv6 is removed from a device whose MTU is below the IPv6 minimum. Once the MTU reaches it, the device gets IPv6
    /// back with default settings (`addrconf_notify` in net/ipv6/addrconf.c). So the settings of the file are written
    /// again.
    fn renew_ipv6(&mut self, place: &Place, device: &str, from: u32, to: u32) {
        if from >= MTU_V6 || to < MTU_V6 {
            return;
        }
        let settings = self.device_settings(place, device);
        if !settings.is_empty() {
            self.plan.raise.push(Step::Sysctls { place: place.clone(), settings });
        }
    }

    /// The settings with which a device of the lab is created.
    fn device_settings(&self, place: &Place, device: &str) -> Vec<Sysctl> {
        let topology = self.topology;
        let inner = topology
            .pairs
            .iter()
            .filter(|pair| matches!(place, Place::Namespace(name) if name == &pair.namespace));
        let ends = topology.cables.iter().flat_map(|cable| [&cable.a, &cable.b]);
        let ends = ends.filter(|end| &end.place == place).map(|end| &end.interface);
        let mut interfaces = inner.map(|pair| &pair.inner).chain(ends);
        if let Some(interface) = interfaces.find(|interface| interface.name.as_str() == device) {
            return [interface.ipv6.settings(device), interface.sysctls.clone()].concat();
        }
        let mut bridges = topology.bridges.iter().filter(|bridge| &bridge.place == place);
        if let Some(bridge) = bridges.find(|bridge| bridge.name.as_str() == device) {
            return [bridge.ipv6.settings(device), bridge.sysctls.clone()].concat();
        }
        Pair::port_settings(place, device)
    }

    /// The kernel sets a bridge's MTU to the least of its ports' until it is set explicitly (`br_mtu_auto_adjust` in
    /// net/bridge/br_if.c). That value is accepted, even if the file states another.
    pub(super) fn bridge_mtu(&mut self, bridge: &Bridge) {
        let Some(there) = self.standing.link(&bridge.place, bridge.name.as_str()) else { return };
        let least = self.least_port_mtu(bridge);
        // The kernel raises the bridge's MTU together with its ports'.
        if let Some(mtu) = bridge.mtu.or(least) {
            self.renew_ipv6(&bridge.place, bridge.name.as_str(), there.mtu, mtu);
        }
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

    /// The least MTU that a bridge's ports will have, including ports that are not the lab's.
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
    /// The smaller MTU of its bridges, in bytes; `None` is the kernel's default.
    #[must_use]
    pub fn mtu(&self, topology: &Topology) -> Option<u32> {
        [&self.a, &self.b].iter().filter_map(|end| topology.bridge(&end.place, &end.bridge)?.mtu).min()
    }
}
