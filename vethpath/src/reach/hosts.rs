//! The hosts of a lab with their addresses, and which address of a host another one asks.

use std::{collections::HashSet, net::IpAddr};

use ipnet::IpNet;

use crate::{
    kernel::{
        Neighbour, Netns, Result, RouteSocket,
        echo::{EchoSocket, is_reachable_from_elsewhere},
        pool,
    },
    topology::{Family, NsName},
};

/// A host that sends and answers echo requests.
pub(super) struct Host {
    /// Its addresses, without those of a single link, with the ifindex of their interface.
    pub(super) addresses: Vec<(u32, IpNet)>,
    /// A socket for each family of which it has an address.
    pub(super) sockets: [Option<EchoSocket>; 2],
    pub(super) route: RouteSocket,
    /// The neighbours that it had before.
    pub(super) neighbours: HashSet<Neighbour>,
}

impl Host {
    /// Moves the calling thread into the host, and opens its sockets there.
    fn entering(name: &NsName) -> Result<Self> {
        let route = RouteSocket::entering(&Netns::named(name)?)?;
        let addresses = addresses(&route)?;
        let socket = |family: Family| {
            let is_used = addresses.iter().any(|(_, net)| family.has(net.addr()));
            is_used.then(|| EchoSocket::here(family)).transpose()
        };
        let [ipv4, ipv6] = Family::ALL.map(socket);
        let neighbours = route.neighbours()?.into_iter().collect();
        Ok(Self { sockets: [ipv4?, ipv6?], addresses, route, neighbours })
    }

    /// The socket of a family.
    pub(super) fn socket(&self, family: Family) -> Option<&EchoSocket> {
        self.sockets[usize::from(family == Family::Ipv6)].as_ref()
    }

    /// The neighbour entry that a packet to this address makes, if it is on a link of the host.
    pub(super) fn neighbour(&self, address: IpAddr) -> Option<Neighbour> {
        let (ifindex, _) = self.addresses.iter().find(|(_, net)| is_on(net, address))?;
        Some((*ifindex, address))
    }
}

/// Opens all hosts. Each holds four descriptors.
pub(super) fn open(names: &[NsName]) -> Result<Vec<Host>> {
    pool::cpu_bound(names, Host::entering).into_iter().collect()
}

/// The addresses of a host by which others can reach it.
pub(super) fn addresses(route: &RouteSocket) -> Result<Vec<(u32, IpNet)>> {
    let mut addresses = route.addresses()?;
    addresses.retain(|(_, net)| is_reachable_from_elsewhere(net.addr()));
    Ok(addresses)
}

/// Whether an address is in the subnet of an interface, and not the interface's own.
fn is_on(net: &IpNet, address: IpAddr) -> bool {
    net.contains(&address) && net.addr() != address
}

/// The address of `to` that a host asks: the first in one of its own subnets, or else the first of all. `None` if either
/// has no address of the family.
#[must_use]
pub fn target(from: &[(u32, IpNet)], to: &[(u32, IpNet)], family: Family) -> Option<IpAddr> {
    let of = |net: &&IpNet| family.has(net.addr());
    let own: Vec<&IpNet> = from.iter().map(|(_, net)| net).filter(of).collect();
    if own.is_empty() {
        return None;
    }
    let mut candidates = to.iter().map(|(_, net)| net).filter(of).map(IpNet::addr);
    let near = candidates.clone().find(|address| own.iter().any(|net| is_on(net, *address)));
    near.or_else(|| candidates.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<(u32, IpNet)> {
        texts.iter().map(|text| (1, text.parse().unwrap())).collect()
    }

    #[test]
    fn an_address_on_the_same_link_is_asked_and_else_the_first() {
        let asked = |from: &[&str], to: &[&str], family| {
            target(&nets(from), &nets(to), family).map(|address| address.to_string())
        };
        let router = ["10.255.0.1/32", "10.0.1.1/24", "10.0.0.1/24", "fd00::1/64"];
        assert_eq!(asked(&["10.0.0.9/24"], &router, Family::Ipv4).as_deref(), Some("10.0.0.1"));
        assert_eq!(asked(&["10.9.0.9/24"], &router, Family::Ipv4).as_deref(), Some("10.255.0.1"));
        assert_eq!(asked(&["10.0.0.9/24"], &router, Family::Ipv6), None, "it has no IPv6 address");
        assert_eq!(asked(&["fd00::9/64"], &router, Family::Ipv6).as_deref(), Some("fd00::1"));
        assert_eq!(asked(&["fd00::9/64"], &["10.0.0.1/24"], Family::Ipv6), None);
    }
}
