//! Bridges: creates them, and reads and sets their options.

use netlink_packet_core::DefaultNla;
use netlink_packet_route::link::{BridgeStpState, InfoBridge, InfoData, InfoKind, LinkAttribute, LinkInfo};
use rtnetlink::{LinkBridge, LinkUnspec, LinkVeth};

use super::{Context, LinkFacts, Netns, PortAttribute, Result, Rtnl};
use crate::topology::{Bridge, BridgeOption};

/// `IFLA_BR_AGEING_TIME` is in `clock_t`, of which user space counts 100 a second (USER_HZ).
const CLOCK_TICKS: u32 = 100;

impl Rtnl {
    /// Creates a bridge, down, with all options from the file but its addresses.
    ///
    /// # Errors
    /// The name is taken, or the kernel lacks a feature (`EOPNOTSUPP`).
    pub async fn create_bridge(&self, bridge: &Bridge) -> Result<()> {
        // The builder would bring it up.
        let mut message = LinkBridge::new(bridge.name.as_str()).down().address(bridge.mac.bytes().to_vec());
        if bridge.stp {
            message = message.stp_state(BridgeStpState::KernelStp);
        }
        if let Some(seconds) = bridge.ageing_time {
            message = message.ageing_time(seconds.saturating_mul(CLOCK_TICKS));
        }
        if bridge.vlan_filtering {
            message = message.vlan_filtering(true);
        }
        if let Some(mtu) = bridge.mtu {
            message = message.mtu(mtu);
        }
        self.handle()?.link().add(message.build()).execute().await.doing("make bridge", &bridge.name)
    }

    /// Sets one option of an existing bridge, and leaves all others.
    ///
    /// # Errors
    /// The bridge is gone, or the kernel lacks the feature (`EOPNOTSUPP`).
    pub async fn set_bridge_option(
        &self,
        ifindex: u32,
        option: BridgeOption,
        name: impl std::fmt::Display,
    ) -> Result<()> {
        let info = match option {
            BridgeOption::Stp(true) => InfoBridge::StpState(BridgeStpState::KernelStp),
            BridgeOption::Stp(false) => InfoBridge::StpState(BridgeStpState::Disabled),
            BridgeOption::AgeingTime(seconds) => InfoBridge::AgeingTime(seconds.saturating_mul(CLOCK_TICKS)),
            BridgeOption::VlanFiltering(on) => InfoBridge::VlanFiltering(on),
        };
        let info = vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(vec![info]))];
        let message = LinkUnspec::new_with_index(ifindex);
        let message = message.append_extra_attribute(LinkAttribute::LinkInfo(info)).build();
        self.handle()?.link().change(message).execute().await.doing("set an option of bridge", name)
    }
}

/// Attributes that this vethpath does not know, as the kernel sets them for a new bridge and a new port. With any other
/// value, they may mean anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnknownDefaults {
    /// Attributes of the bridge.
    pub bridge: Vec<DefaultNla>,
    /// Attributes of the port.
    pub port: Vec<DefaultNla>,
}

impl UnknownDefaults {
    /// Reads them from a bridge in a namespace that ends with this call. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// The kernel refuses to make the namespace, or the devices.
    pub async fn read() -> Result<Self> {
        const BRIDGE: &str = "bridge";
        const PORT: &str = "port";
        const PEER: &str = "peer";
        let netns = Netns::create("unknown attributes")?;
        let rtnl = Rtnl::open(&netns)?;
        let message = LinkBridge::new(BRIDGE).build();
        rtnl.handle()?.link().add(message).execute().await.doing("make bridge", BRIDGE)?;
        let bridge = rtnl.link(BRIDGE)?.unwrap_or_default();
        let message = LinkVeth::new(PORT, PEER).controller(bridge.ifindex).build();
        rtnl.handle()?.link().add(message).execute().await.doing("make veth pair", PORT)?;
        let port = rtnl.link(PORT)?.unwrap_or_default();
        let (options, attributes) = (bridge.bridge.unwrap_or_default(), port.port.unwrap_or_default());
        let unknown_option = |option| match option {
            InfoBridge::Other(unknown) => Some(unknown),
            _ => None,
        };
        let unknown_attribute = |attribute| match attribute {
            PortAttribute::Other(unknown) => Some(unknown),
            _ => None,
        };
        Ok(Self {
            bridge: options.into_iter().filter_map(unknown_option).collect(),
            port: attributes.into_iter().filter_map(unknown_attribute).collect(),
        })
    }
}

impl LinkFacts {
    /// Whether it is a bridge with VLANs, even if it does not filter by them: the kernel has
    /// `CONFIG_BRIDGE_VLAN_FILTERING`, without which it reports no default PVID (`br_fill_info` in
    /// net/bridge/br_netlink.c).
    #[must_use]
    pub fn has_vlans(&self) -> bool {
        self.bridge.iter().flatten().any(|info| matches!(info, InfoBridge::VlanDefaultPvid(_)))
    }

    /// The options of a bridge that the kernel reports; empty if it is no bridge.
    #[must_use]
    pub fn bridge_options(&self) -> Vec<BridgeOption> {
        // During a topology change the kernel uses and reports another ageing time (`__br_set_topology_change` in
        // net/bridge/br_stp.c).
        let attributes = || self.bridge.iter().flatten();
        let is_changing = attributes().any(|info| matches!(info, InfoBridge::TopologyChange(1..)));
        let option = |info: &InfoBridge| match info {
            InfoBridge::AgeingTime(_) if is_changing => None,
            InfoBridge::StpState(state) => Some(BridgeOption::Stp(*state != BridgeStpState::Disabled)),
            InfoBridge::AgeingTime(ticks) => Some(BridgeOption::AgeingTime(ticks / CLOCK_TICKS)),
            InfoBridge::VlanFiltering(on) => Some(BridgeOption::VlanFiltering(*on)),
            _ => None,
        };
        attributes().filter_map(option).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::sandbox::in_new_namespace;

    #[test]
    fn a_new_bridge_and_a_new_port_are_read_and_gone() {
        in_new_namespace(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let found = runtime.block_on(UnknownDefaults::read()).unwrap();
            // Numbers of attributes that are known: IFLA_BR_AGEING_TIME, IFLA_BRPORT_STATE.
            let has = |attributes: &[DefaultNla], kind| {
                attributes.iter().any(|one| netlink_packet_core::Nla::kind(one) == kind)
            };
            assert!(!has(&found.bridge, 4) && !has(&found.port, 1), "{found:?}");
            assert_eq!(runtime.block_on(UnknownDefaults::read()).unwrap(), found);
        });
    }
}
