//! Neighbour entries of a namespace: lists and removes them.

use std::net::IpAddr;

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage},
};

use super::{Context, NetlinkError, Result, RouteSocket, netlink, route_socket::Request};

const RTM_GETNEIGH: u16 = 30;

/// A neighbour: the ifindex of the interface that leads to it, and its address.
pub type Neighbour = (u32, IpAddr);

impl RouteSocket {
    /// All neighbours in the namespace, of IPv4 and IPv6.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub fn neighbours(&self) -> Result<Vec<Neighbour>> {
        // `struct ndmsg` with AF_UNSPEC.
        const ANY: [u8; 12] = [0; 12];
        let mut neighbours = Vec::new();
        let dumped = self.dump_each(RTM_GETNEIGH, &ANY, |payload| {
            neighbours.extend(parse(payload)?);
            Ok(())
        });
        dumped.doing("list neighbours of", self.netns())?;
        Ok(neighbours)
    }

    /// Removes neighbours. One that is not there is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn delete_neighbours(&self, neighbours: &[Neighbour]) -> Result<()> {
        let request = |neighbour: &Neighbour| Request {
            message: Message::DelNeighbour(message(*neighbour)),
            flags: 0,
            operation: "remove neighbour",
            object: neighbour.1.to_string(),
        };
        let replies = self.change(neighbours.iter().map(request).collect())?;
        let refused =
            replies.into_iter().filter_map(std::result::Result::err).find(|error| !error.is_missing());
        refused.map_or(Ok(()), Err)
    }
}

fn message((ifindex, address): Neighbour) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = ifindex;
    let (family, destination) = match address {
        IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
    };
    message.header.family = family;
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message
}

/// Parses an entry; `None` for one of another family, such as of a bridge's FDB.
fn parse(payload: &[u8]) -> std::result::Result<Option<Neighbour>, NetlinkError> {
    // `struct ndmsg`, and an attribute of linux/neighbour.h.
    const HEADER: usize = 12;
    const DST: u16 = 1;
    let malformed = || NetlinkError::Malformed("a neighbour cannot be parsed");
    let (header, rest) = payload.split_first_chunk::<HEADER>().ok_or_else(malformed)?;
    let [_, _, _, _, a, b, c, d, ..] = *header;
    let ifindex = u32::from_ne_bytes([a, b, c, d]);
    for attribute in netlink::attributes(rest) {
        let attribute = attribute?;
        if attribute.kind() != DST {
            continue;
        }
        let value = attribute.value();
        let ip = value.try_into().map(|ip: [u8; 4]| IpAddr::from(ip));
        let ip = ip.or_else(|_| value.try_into().map(|ip: [u8; 16]| IpAddr::from(ip)));
        return Ok(ip.ok().map(|ip| (ifindex, ip)));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Netns, sandbox};

    #[test]
    fn neighbours_are_found_and_removed_and_others_stay() {
        sandbox::in_new_namespace(|| {
            let ip = |line: &str| sandbox::run("ip", &line.split(' ').collect::<Vec<_>>());
            let _ = ip("link add v0 type bridge");
            let _ = ip("link set v0 up");
            let all: Vec<IpAddr> =
                ["10.0.0.9", "10.0.0.10", "fd00::9"].map(|address| address.parse().unwrap()).to_vec();
            for address in &all {
                let _ = ip(&format!("neigh add {address} lladdr 02:00:00:00:00:01 dev v0 nud permanent"));
            }
            let socket = RouteSocket::here(&Netns::current().unwrap()).unwrap();
            let index = socket.index("v0").unwrap();
            let mut found = socket.neighbours().unwrap();
            found.retain(|(_, address)| all.contains(address));
            found.sort_unstable();
            assert_eq!(found, all.iter().map(|&address| (index, address)).collect::<Vec<_>>());
            let gone = "10.0.0.77".parse().unwrap();
            socket.delete_neighbours(&[(index, gone), (index, all[0]), (index, all[2])]).unwrap();
            let left = ip("neigh show nud permanent");
            assert!(left.contains("10.0.0.10 ") && !left.contains("10.0.0.9 "), "{left}");
            assert!(!ip("-6 neigh show nud permanent").contains("fd00::9 "));
        });
    }

    #[test]
    fn what_is_cut_off_is_malformed() {
        assert!(parse(&[0; 11]).is_err());
        assert_eq!(parse(&[0; 12]).unwrap(), None);
        let mut entry = vec![0; 12];
        entry.extend([8, 0, 1, 0, 10, 0, 0]);
        assert!(parse(&entry).is_err());
    }
}
