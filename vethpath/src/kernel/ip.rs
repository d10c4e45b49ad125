//! IP in a namespace: addresses, and neighbour tables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NlasIterator, Parseable as _};
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};
use netlink_sys::protocols::NETLINK_ROUTE;
use rtnetlink::AddressMessageBuilder;

use super::{
    Context, Netns, Result, RouteSocket, Rtnl, blocking,
    netlink::{self, NetlinkError},
};
use crate::topology::{Family, Mac, Neighbour};

/// Message type of linux/rtnetlink.h.
const RTM_GETADDR: u16 = 22;

impl Rtnl {
    /// Adds an address. IPv6 addresses are usable at once: duplicate address detection is off (`IFA_F_NODAD`), since
    /// the lab knows its addresses. An address that exists already is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn add_address(&self, ifindex: u32, address: IpNet) -> Result<()> {
        let mut request = self.handle()?.address().add(ifindex, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        match request.execute().await.doing("add address", address) {
            Err(error) if error.is_present() => Ok(()),
            other => other,
        }
    }

    /// Removes an address. An address that does not exist is no error. IPv4 addresses of the same subnet that were
    /// added after it may be removed too (`promote_secondaries`).
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn delete_address(&self, ifindex: u32, address: IpNet) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = match address {
            IpNet::V4(_) => AddressFamily::Inet,
            IpNet::V6(_) => AddressFamily::Inet6,
        };
        (message.header.prefix_len, message.header.index) = (address.prefix_len(), ifindex);
        message.attributes.push(AddressAttribute::Local(address.addr()));
        match self.handle()?.address().del(message).execute().await.doing("remove address", address) {
            Err(error) if error.is_missing() || error.is_unassigned() => Ok(()),
            other => other,
        }
    }
}

impl RouteSocket {
    /// All addresses in the namespace, each with the ifindex of its interface.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub fn addresses(&self) -> Result<Vec<(u32, IpNet)>> {
        // `struct ifaddrmsg` with AF_UNSPEC.
        const ANY: [u8; 8] = [0; 8];
        let mut addresses = Vec::new();
        let dumped = self.dump_each(RTM_GETADDR, &ANY, |payload| {
            addresses.extend(parse_address(payload)?);
            Ok(())
        });
        dumped.doing("list addresses of", self.netns())?;
        Ok(addresses)
    }
}

/// Parses an address and the ifindex of its interface; `None` if it has none. The label is left out: it may contain any
/// bytes.
fn parse_address(payload: &[u8]) -> std::result::Result<Option<(u32, IpNet)>, NetlinkError> {
    // `struct ifaddrmsg`, and attributes of linux/if_addr.h.
    const HEADER: usize = 8;
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    let malformed = || NetlinkError::Malformed("an address cannot be parsed");
    let (header, rest) = payload.split_first_chunk::<HEADER>().ok_or_else(malformed)?;
    let [_, length, _, _, index @ ..] = *header;
    let (mut local, mut address) = (None, None);
    for attribute in netlink::attributes(rest) {
        let attribute = attribute?;
        let value = attribute.value();
        let ip = value.try_into().map(|ip: [u8; 4]| IpAddr::from(ip));
        let ip = ip.or_else(|_| value.try_into().map(|ip: [u8; 16]| IpAddr::from(ip)));
        match attribute.kind() {
            LOCAL => local = ip.ok(),
            ADDRESS => address = ip.ok(),
            _ => {}
        }
    }
    // IFA_LOCAL is the interface's own address. On point-to-point links IFA_ADDRESS is the peer's.
    let net = local.or(address).and_then(|ip| IpNet::new(ip, length).ok());
    Ok(net.map(|net| (u32::from_ne_bytes(index), net)))
}

/// The message that adds an address. Without `dad`, IPv6 addresses are usable at once: see [`Rtnl::add_address`].
pub(super) fn address_message(index: u32, address: IpNet, dad: bool) -> AddressMessage {
    let length = address.prefix_len();
    match address {
        IpNet::V4(net) => {
            AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(net.addr(), length).build()
        }
        IpNet::V6(net) => {
            let builder = AddressMessageBuilder::<Ipv6Addr>::new().index(index);
            let mut message = builder.address(net.addr(), length).build();
            if !dad {
                message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            }
            message
        }
    }
}

/// The message that adds a permanent neighbour, or without a MAC removes one.
pub(super) fn neighbour_message(ifindex: u32, address: IpAddr, mac: Option<Mac>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    let (family, destination) = match address {
        IpAddr::V4(ip) => (AddressFamily::Inet, NeighbourAddress::Inet(ip)),
        IpAddr::V6(ip) => (AddressFamily::Inet6, NeighbourAddress::Inet6(ip)),
    };
    (message.header.family, message.header.ifindex) = (family, ifindex);
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message.attributes.extend(mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.bytes().to_vec())));
    message
}

impl RouteSocket {
    /// The permanent neighbours in the namespace, each with the ifindex of its interface. Those without a MAC are left out.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub fn permanent_neighbours(&self) -> Result<Vec<(u32, Neighbour)>> {
        const RTM_GETNEIGH: u16 = 30;
        let mut neighbours = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            // `struct ndmsg`
            let mut wanted = [0; 12];
            wanted[0] = u8::from(family);
            let dumped = self.dump_each(RTM_GETNEIGH, &wanted, |payload| {
                let message = NeighbourMessage::parse(payload);
                let message = message.map_err(|_| NetlinkError::Malformed("a neighbour cannot be parsed"))?;
                neighbours.extend(parse_neighbour(&message));
                Ok(())
            });
            dumped.doing("list neighbours of", self.netns())?;
        }
        Ok(neighbours)
    }
}

fn parse_neighbour(message: &NeighbourMessage) -> Option<(u32, Neighbour)> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::from(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(IpAddr::from(*ip)),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = bytes.as_slice().try_into().ok().and_then(|bytes| Mac::unicast(bytes).ok());
            }
            _ => {}
        }
    }
    Some((message.header.ifindex, Neighbour { address: address?, mac: mac? }))
}

/// A neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourTable {
    /// Its address family.
    pub family: Family,
    /// Number of entries, including permanent ones.
    pub entries: u32,
    /// Limit on entries that are not permanent (`gc_thresh3`).
    pub limit: u32,
}

/// The tables, read in any namespace: only the machine's initial namespace has the sysctls.
///
/// # Errors
/// The kernel refuses the dump.
pub fn neighbour_tables(netns: &Netns) -> Result<Vec<NeighbourTable>> {
    const RTM_GETNEIGHTBL: u16 = 66;
    let socket = blocking(netns, NETLINK_ROUTE)?;
    let read = || -> std::result::Result<Vec<_>, NetlinkError> {
        let replies = netlink::dump(&socket, RTM_GETNEIGHTBL, &[0; NDTMSG])?;
        let tables = replies.iter().map(|reply| parse_table(reply));
        tables.filter_map(std::result::Result::transpose).collect()
    };
    read().doing("list neighbour tables in", netns)
}

/// Size of `struct ndtmsg` (linux/neighbour.h).
const NDTMSG: usize = 4;

/// Parses one message; `None` if it has a table's settings for one device (`neightbl_fill_param_info`), or is of
/// another family.
fn parse_table(reply: &[u8]) -> std::result::Result<Option<NeighbourTable>, NetlinkError> {
    const THRESH3: u16 = 4;
    const CONFIG: u16 = 5;
    /// Offset of `ndtc_entries` in `struct ndt_config`.
    const ENTRIES: usize = 4;
    let malformed = || NetlinkError::Malformed("a neighbour table cannot be parsed");
    let (header, attributes) = reply.split_first_chunk::<NDTMSG>().ok_or_else(malformed)?;
    let family = match i32::from(header[0]) {
        nix::libc::AF_INET => Family::Ipv4,
        nix::libc::AF_INET6 => Family::Ipv6,
        _ => return Ok(None),
    };
    let (mut entries, mut limit) = (None, None);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(|_| malformed())?;
        let number = |at: usize| {
            let bytes = attribute.value().get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u32::from_ne_bytes)
        };
        match attribute.kind() {
            THRESH3 => limit = number(0),
            CONFIG => entries = number(ENTRIES),
            _ => {}
        }
    }
    Ok(entries.zip(limit).map(|(entries, limit)| NeighbourTable { family, entries, limit }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tables_are_there_with_their_limits() {
        let tables = neighbour_tables(&Netns::current().unwrap()).unwrap();
        let setting = |family: Family| {
            let path = format!("/proc/sys/{}", family.limit().replace('.', "/"));
            // Only the machine's initial namespace has it.
            std::fs::read_to_string(path).ok().map(|text| text.trim().parse::<u32>().unwrap())
        };
        assert!(tables.iter().any(|table| table.family == Family::Ipv4), "{tables:?}");
        for table in &tables {
            assert!(
                table.limit > 0 && setting(table.family).is_none_or(|limit| limit == table.limit),
                "{table:?}"
            );
        }
    }

    #[test]
    fn what_is_cut_off_is_malformed_and_nothing_panics() {
        assert!(parse_table(&[2, 0, 0]).is_err());
        assert_eq!(parse_table(&[2, 0, 0, 0]).unwrap(), None, "the settings of a device");
        assert_eq!(parse_table(&[99, 0, 0, 0, 1]).unwrap(), None);
        assert!(parse_table(&[2, 0, 0, 0, 9, 0, 4, 0, 1]).is_err());
    }
}
