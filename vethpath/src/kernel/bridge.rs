//! Bridges: creates them, sets their options, and reads and changes their forwarding databases.

use netlink_packet_core::{DefaultNla, NLA_TYPE_MASK};
use netlink_packet_route::{
    AddressFamily,
    link::{BridgeStpState, InfoBridge, InfoData, InfoKind, LinkAttribute, LinkInfo},
    neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
};
use rtnetlink::{LinkBridge, LinkUnspec, LinkVeth};

use super::{Context, LinkFacts, NetlinkError, Netns, PortAttribute, Result, Rtnl, netlink};
use crate::topology::{Bridge, BridgeOption, Mac};

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

/// An entry of a bridge's FDB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FdbEntry {
    /// The bridge, by ifindex.
    pub bridge: u32,
    /// The port, or the bridge itself for some of its own addresses.
    pub port: u32,
    /// The address.
    pub mac: [u8; 6],
    /// Its VLAN; 0 for none.
    pub vlan: u16,
    /// Whether the bridge removes it when it receives no frame from that address for the ageing time.
    pub ages: bool,
    /// Whether the bridge forwards frames to that address by that port, and nothing else applies: not an address of the
    /// bridge or of a port itself, not locked, no unknown flag.
    pub trusted: bool,
}

impl FdbEntry {
    /// Whether both are of one address, bridge and VLAN.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.bridge, self.mac, self.vlan) == (other.bridge, other.mac, other.vlan)
    }

    /// Parses the payload of RTM_NEWNEIGH or RTM_DELNEIGH. `None` where it is not about a bridge's FDB. Mirrors
    /// `fdb_fill_info` in net/bridge/br_fdb.c. A host may make the bridge learn a hundred thousand entries a second, so
    /// nothing is allocated.
    pub(super) fn parse(payload: &[u8]) -> std::result::Result<Option<Self>, NetlinkError> {
        // `struct ndmsg`, and attributes of linux/neighbour.h.
        const HEADER: usize = 12;
        const LLADDR: u16 = 2;
        const CACHEINFO: u16 = 3;
        const VLAN: u16 = 5;
        const MASTER: u16 = 9;
        const PROTOCOL: u16 = 12;
        const FLAGS_EXT: u16 = 15;
        let malformed = || NetlinkError::Malformed("an FDB entry cannot be parsed");
        let (header, rest) = payload.split_first_chunk::<HEADER>().ok_or_else(malformed)?;
        if AddressFamily::from(header[0]) != AddressFamily::Bridge {
            return Ok(None);
        }
        let word =
            |bytes: &[u8]| bytes.first_chunk().map(|word| u32::from_ne_bytes(*word)).ok_or_else(malformed);
        let state = NeighbourState::from(u16::from_ne_bytes([header[8], header[9]]));
        let ages = matches!(state, NeighbourState::Reachable | NeighbourState::Stale);
        let mut entry =
            Self { bridge: 0, port: word(&header[4..])?, mac: [0; 6], vlan: 0, ages, trusted: true };
        let mut addressed = false;
        for attribute in netlink::attributes(rest) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() & NLA_TYPE_MASK {
                LLADDR => {
                    let Ok(mac) = value.try_into() else { return Ok(None) };
                    (entry.mac, addressed) = (mac, true);
                }
                MASTER => entry.bridge = word(value)?,
                VLAN => entry.vlan = u16::from_ne_bytes(*value.first_chunk().ok_or_else(malformed)?),
                CACHEINFO | PROTOCOL => {}
                FLAGS_EXT => entry.trusted &= word(value)? == 0,
                _ => entry.trusted = false,
            }
        }
        // Permanent is an address of the bridge or a port; noarp is a static entry.
        entry.trusted &= ages || state == NeighbourState::Noarp;
        let known = NeighbourFlags::Controller | NeighbourFlags::Sticky | NeighbourFlags::ExtLearned;
        entry.trusted &= known.contains(NeighbourFlags::from_bits_retain(header[10]));
        Ok((entry.bridge != 0 && addressed).then_some(entry))
    }
}

/// The request for the FDB entry of a bridge, an address and a VLAN (`rtnl_fdb_get` in net/core/rtnetlink.c).
pub(super) fn fdb_get_message(&(bridge, mac, vlan): &(u32, [u8; 6], u16)) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    message.attributes.push(NeighbourAttribute::Controller(bridge));
    message.attributes.extend((vlan != 0).then_some(NeighbourAttribute::Vlan(vlan)));
    message
}

/// The request that deletes the FDB entries of a MAC on a port.
pub(super) fn fdb_delete_message(port: u32, mac: &[u8]) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = port;
    message.header.flags = NeighbourFlags::Controller;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    message
}

/// The request that refreshes an FDB entry: see [`RouteSocket::learn`](super::RouteSocket::learn).
pub(super) fn fdb_refresh_message(port: u32, mac: Mac) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = port;
    message.header.state = NeighbourState::Reachable;
    message.header.flags = NeighbourFlags::Use | NeighbourFlags::Controller;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.bytes().to_vec()));
    message
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
