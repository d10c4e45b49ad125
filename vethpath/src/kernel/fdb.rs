//! Forwarding databases of bridges: reads their entries, and adds, refreshes and deletes them.

use netlink_packet_core::NLA_TYPE_MASK;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
};
use nix::libc;

use super::{
    Context, NetlinkError, Result,
    netlink::{self, Reply},
    route_socket::{PUT, Request, RouteSocket},
};
use crate::topology::Mac;

const RTM_GETNEIGH: u16 = 30;

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

impl RouteSocket {
    /// Refreshes the FDB entries of MACs on ports, as if a frame had just been received there (`NTF_USE`:
    /// `br_fdb_update` in net/bridge/br_fdb.c). A missing entry is learned; a port that does not learn ignores the
    /// request. A kernel with `CONFIG_BRIDGE_VLAN_FILTERING` does the same to the entries in the port's VLANs, which a
    /// frame would do only on a bridge that filters (`br_fdb_add`). Returns the result of each.
    ///
    /// # Errors
    /// The socket fails. A port that is gone only fails its own entry.
    pub fn learn(&self, stations: &[(u32, Mac)]) -> Result<Vec<Result<()>>> {
        let request = |&(port, mac): &(u32, Mac)| Request {
            message: Message::NewNeighbour(fdb_refresh_message(port, mac)),
            flags: PUT,
            operation: "refresh the FDB entry of",
            object: mac.to_string(),
        };
        self.change(stations.iter().map(request).collect())
    }

    /// Calls `take` with each entry of the FDB of one port, or of all FDBs of the namespace, until it returns false.
    /// Returns whether the dump is complete. The kernel looks at all entries of a bridge for each of its ports, and sends
    /// parts of some hundred entries. If an entry is removed between two parts, it may skip another (`br_fdb_dump` in
    /// net/bridge/br_fdb.c).
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub fn fdb(&mut self, port: Option<u32>, mut take: impl FnMut(FdbEntry) -> bool) -> Result<bool> {
        let family = u8::from(AddressFamily::Bridge);
        // With a filter `struct ifinfomsg`, else `struct ndmsg` (`valid_fdb_dump_legacy` in net/core/rtnetlink.c).
        let (mut filtered, mut all) = ([0; 16], [0; 12]);
        (filtered[0], all[0]) = (family, family);
        filtered[4..8].copy_from_slice(&port.unwrap_or_default().to_ne_bytes());
        let header: &[u8] = if port.is_some() { &filtered } else { &all };
        let dumped = self.dump_each(RTM_GETNEIGH, header, |payload| {
            let entry = FdbEntry::parse(payload)?;
            if entry.is_none_or(&mut take) { Ok(()) } else { Err(NetlinkError::TooLarge) }
        });
        match dumped {
            Err(NetlinkError::TooLarge) => {
                // The rest of the dump ends with its socket.
                *self = Self::open(self.netns())?;
                Ok(false)
            }
            dumped => dumped.doing("list FDB entries of", self.netns()).map(|()| true),
        }
    }

    /// The FDB entries of these bridges, addresses and VLANs, in this order; `None` for one that does not exist.
    /// Minimum kernel: Linux 5.0 (`ndo_fdb_get`).
    ///
    /// # Errors
    /// The kernel refuses for another reason.
    pub fn fdb_entries(&self, keys: &[(u32, [u8; 6], u16)]) -> Result<Vec<Option<FdbEntry>>> {
        let request = |key: &_| Message::GetNeighbour(fdb_get_message(key));
        let replies = self.get(&keys.iter().map(request).collect::<Vec<_>>())?;
        let entry = |reply: Reply| match reply {
            Ok(payload) => FdbEntry::parse(&payload),
            // The bridge may be gone, or the device is none (`rtnl_fdb_get` in net/core/rtnetlink.c).
            Err(error)
                if matches!(
                    error.errno(),
                    Some(libc::ENOENT | libc::ENODEV | libc::EINVAL | libc::EOPNOTSUPP)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        };
        replies.into_iter().map(|reply| entry(reply).doing("look up FDB entries of", self.netns())).collect()
    }

    /// Deletes FDB entries. Without a VLAN, those in each VLAN of the port are deleted too (`br_fdb_delete` in
    /// net/bridge/br_fdb.c). An entry on another port is not. Returns the result of each.
    ///
    /// # Errors
    /// The socket fails.
    pub fn forget(&self, entries: &[FdbEntry]) -> Result<Vec<Result<()>>> {
        let request = |entry: &FdbEntry| {
            let mut message = fdb_delete_message(entry.port, &entry.mac);
            message.attributes.extend((entry.vlan != 0).then_some(NeighbourAttribute::Vlan(entry.vlan)));
            Request {
                message: Message::DelNeighbour(message),
                flags: 0,
                operation: "delete the FDB entry of",
                object: Mac::unicast(entry.mac).map_or_else(|error| error.to_string(), |mac| mac.to_string()),
            }
        };
        self.change(entries.iter().map(request).collect())
    }
}

/// The request for the FDB entry of a bridge, an address and a VLAN (`rtnl_fdb_get` in net/core/rtnetlink.c).
fn fdb_get_message(&(bridge, mac, vlan): &(u32, [u8; 6], u16)) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    message.attributes.push(NeighbourAttribute::Controller(bridge));
    message.attributes.extend((vlan != 0).then_some(NeighbourAttribute::Vlan(vlan)));
    message
}

/// The request that deletes the FDB entries of a MAC on a port.
fn fdb_delete_message(port: u32, mac: &[u8]) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = port;
    message.header.flags = NeighbourFlags::Controller;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    message
}

/// The request that refreshes an FDB entry: see [`RouteSocket::learn`].
fn fdb_refresh_message(port: u32, mac: Mac) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = port;
    message.header.state = NeighbourState::Reachable;
    message.header.flags = NeighbourFlags::Use | NeighbourFlags::Controller;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.bytes().to_vec()));
    message
}
