//! Creates bridges and sets their options.

use netlink_packet_route::link::{BridgeStpState, InfoBridge, InfoData, InfoKind, LinkAttribute, LinkInfo};
use rtnetlink::{LinkBridge, LinkUnspec};

use super::{LinkFacts, Result, Rtnl, error::Context};
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
        self.handle.link().add(message.build()).execute().await.doing("make bridge", &bridge.name)
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
        self.handle.link().change(message).execute().await.doing("set an option of bridge", name)
    }
}

impl LinkFacts {
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
