//! The forwarding databases of the bridges in a namespace.

use netlink_packet_route::{
    AddressFamily,
    neighbour::{NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState},
};

use super::{Result, Rtnl, error::Context, rtnl::dump};
use crate::topology::Mac;

/// An entry of a bridge's FDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// `None` where the message is not about a bridge's FDB (mirrors `fdb_fill_info` in
    /// net/bridge/br_fdb.c).
    pub(super) fn parse(message: &NeighbourMessage) -> Option<Self> {
        if message.header.family != AddressFamily::Bridge {
            return None;
        }
        let ages = matches!(message.header.state, NeighbourState::Reachable | NeighbourState::Stale);
        let mut entry =
            Self { bridge: 0, port: message.header.ifindex, mac: [0; 6], vlan: 0, ages, trusted: true };
        let mut addressed = false;
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    entry.mac = bytes.as_slice().try_into().ok()?;
                    addressed = true;
                }
                NeighbourAttribute::Controller(bridge) => entry.bridge = *bridge,
                NeighbourAttribute::Vlan(vlan) => entry.vlan = *vlan,
                NeighbourAttribute::CacheInfo(_) | NeighbourAttribute::Protocol(_) => {}
                NeighbourAttribute::ExtFlags(flags) => entry.trusted &= *flags == NeighbourExtFlags::empty(),
                _ => entry.trusted = false,
            }
        }
        // Permanent is an address of the bridge or a port; noarp is a static entry.
        entry.trusted &= ages || message.header.state == NeighbourState::Noarp;
        let known = NeighbourFlags::Controller | NeighbourFlags::Sticky | NeighbourFlags::ExtLearned;
        entry.trusted &= known.contains(message.header.flags);
        (entry.bridge != 0 && addressed).then_some(entry)
    }
}

impl Rtnl {
    /// All entries of all bridges of the namespace.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub async fn fdb(&self) -> Result<Vec<FdbEntry>> {
        let request = self.handle.neighbours().get().set_address_family(AddressFamily::Bridge);
        let messages: Vec<_> = dump(request.execute()).await.doing("list FDB entries of", self.netns())?;
        Ok(messages.iter().filter_map(FdbEntry::parse).collect())
    }

    /// Refreshes the FDB entry of `mac` on `port`, as if a frame had just been received there (`NTF_USE`:
    /// `br_fdb_update` in net/bridge/br_fdb.c). A missing entry is learned; a port that does not learn ignores the
    /// request. A kernel with `CONFIG_BRIDGE_VLAN_FILTERING` does the same to the entries in the port's VLANs, which a
    /// frame would do only on a bridge that filters (`br_fdb_add`).
    ///
    /// # Errors
    /// The port is gone, or no longer a bridge port.
    pub async fn learn(&self, port: u32, mac: Mac) -> Result<()> {
        self.handle
            .neighbours()
            .add_bridge(port, &mac.bytes())
            .state(NeighbourState::Reachable)
            .flags(NeighbourFlags::Use | NeighbourFlags::Controller)
            .replace()
            .execute()
            .await
            .doing("refresh station", mac)
    }

    /// Deletes the FDB entry of `mac` on `port` in a VLAN, or with `None` those without a VLAN and in each VLAN of the
    /// port (`br_fdb_delete` in net/bridge/br_fdb.c). An entry on another port is not deleted.
    ///
    /// # Errors
    /// There is no such entry, or the port is gone.
    pub async fn forget(&self, port: u32, mac: Mac, vlan: Option<u16>) -> Result<()> {
        let message = delete_message(port, mac, vlan);
        self.handle.neighbours().del(message).execute().await.doing("forget station", mac)
    }
}

/// The request that deletes an FDB entry: see [`Rtnl::forget`].
pub(super) fn delete_message(port: u32, mac: Mac, vlan: Option<u16>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = port;
    message.header.flags = NeighbourFlags::Controller;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.bytes().to_vec()));
    message.attributes.extend(vlan.map(NeighbourAttribute::Vlan));
    message
}
