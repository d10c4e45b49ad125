//! Making bridges.

use rtnetlink::LinkBridge;

use super::{Result, Rtnl, error::Context};
use crate::topology::Bridge;

/// `IFLA_BR_AGEING_TIME` is in `clock_t`, of which user space sees 100 a second (USER_HZ).
const CLOCK_TICKS: u32 = 100;

impl Rtnl {
    /// Makes a bridge, down, with everything the file says of it but its addresses.
    ///
    /// # Errors
    /// The name is taken, or the kernel lacks a feature (`EOPNOTSUPP`).
    pub async fn create_bridge(&self, bridge: &Bridge) -> Result<()> {
        use netlink_packet_route::link::BridgeStpState;
        let mut message = LinkBridge::new(bridge.name.as_str()).address(bridge.mac.bytes().to_vec());
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
}
