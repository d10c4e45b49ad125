//! Subnets of a lab that the machine has on other devices, or routes elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use ipnet::IpNet;

use super::{Error, NetnsCache, observe::routed};
use crate::{
    kernel::{LinkFacts, Netns, Result, RouteSocket, sysctl},
    plan::{ObservedLink, collisions, is_ours, owner},
    topology::{IfName, Place, SysctlKey, Topology, UplinkRoute},
};

/// A subnet of the lab, and an address of the machine on another device that overlaps with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Overlap {
    /// The lab's device on the machine.
    ours: IfName,
    /// Its subnet.
    subnet: IpNet,
    /// The other device.
    device: String,
    /// The address of that.
    address: IpNet,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ours, subnet, device, address } = self;
        write!(f, "subnet {subnet} of {ours} overlaps with {address} on {device}")
    }
}

/// The subnets of the lab on the machine that overlap with those of other devices there.
///
/// # Errors
/// The kernel refuses to list links or addresses.
pub fn overlaps(topology: &Topology) -> Result<Vec<Overlap>> {
    let ours: Vec<(&IfName, IpNet)> = on_the_machine(topology).collect();
    if ours.is_empty() {
        return Ok(Vec::new());
    }
    let socket = RouteSocket::open(&Netns::current()?)?;
    let links = socket.links()?;
    let other = |ifindex: u32| {
        let is_it =
            |link: &&LinkFacts| link.ifindex == ifindex && !is_ours(link.alias.as_deref(), &topology.lab);
        Some(links.iter().find(is_it)?.name.clone())
    };
    let addresses = socket.addresses()?;
    let others: Vec<_> =
        addresses.into_iter().filter_map(|(ifindex, address)| Some((other(ifindex)?, address))).collect();
    Ok(find(&ours, &others))
}

/// Fails if the machine routes a subnet of the lab's fabric already. Changes nothing.
///
/// # Errors
/// It does, or the kernel refuses to list links, addresses or routes.
pub fn check_routes(topology: &Topology) -> std::result::Result<(), Error> {
    let new: Vec<&UplinkRoute> = topology.machine_routes().collect();
    if new.is_empty() {
        return Ok(());
    }
    let socket = RouteSocket::open(&Netns::current()?)?;
    let mut addresses: BTreeMap<u32, Vec<IpNet>> = BTreeMap::new();
    for (ifindex, address) in socket.addresses()? {
        addresses.entry(ifindex).or_default().push(address);
    }
    let observed = |link: LinkFacts| {
        let alias = link.alias.as_deref();
        let seen = ObservedLink {
            ours: is_ours(alias, &topology.lab),
            owner: owner(alias),
            ifindex: link.ifindex,
            addresses: addresses.remove(&link.ifindex).unwrap_or_default(),
            ..ObservedLink::default()
        };
        ((Place::Host, link.name), seen)
    };
    let links = socket.links()?.into_iter().map(observed).collect();
    let found = collisions(topology, &new, &routed(topology, &socket.routes()?, &links));
    if found.is_empty() { Ok(()) } else { Err(Error::Collisions(found)) }
}

/// Fails on a kernel without IPv6, which the uplink of the fabric needs.
pub(super) fn check_ipv6(places: &NetnsCache) -> std::result::Result<(), Error> {
    let setting = SysctlKey::of_interface("ipv6", "default", "disable_ipv6");
    match sysctl::read_all(&places.netns(&Place::Host)?, &[setting])?.pop().flatten() {
        Some(_) => Ok(()),
        None => Err(Error::NoIpv6),
    }
}

/// The devices that the lab has on the machine, and their subnets. The uplink of the fabric has none.
fn on_the_machine(topology: &Topology) -> impl Iterator<Item = (&IfName, IpNet)> {
    let bridges = topology.bridges.iter().map(|bridge| (&bridge.place, &bridge.name, &bridge.addresses));
    let cables = topology.cables.iter().filter(|cable| !topology.is_uplink(cable));
    let ends = cables.flat_map(|cable| [&cable.a, &cable.b]);
    let ends = ends.map(|end| (&end.place, &end.interface.name, &end.interface.addresses));
    bridges
        .chain(ends)
        .filter(|(place, ..)| **place == Place::Host)
        .flat_map(|(_, name, addresses)| addresses.iter().map(move |address| (name, address.trunc())))
}

/// `others` are addresses of the machine. Link-local ones are passed over: each IPv6 interface has them.
fn find(ours: &[(&IfName, IpNet)], others: &[(String, IpNet)]) -> Vec<Overlap> {
    let is_link_local = |net: &IpNet| matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local());
    let others: Vec<_> = others.iter().filter(|(_, net)| !is_link_local(net)).collect();
    let mut found = BTreeSet::new();
    for &(device, subnet) in ours {
        let meets = |address: &IpNet| subnet.contains(&address.addr()) || address.contains(&subnet.addr());
        found.extend(others.iter().filter(|(_, address)| meets(address)).map(|(other, address)| Overlap {
            ours: device.clone(),
            subnet,
            device: other.clone(),
            address: *address,
        }));
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Source, read};

    #[test]
    fn subnets_of_other_devices_are_found_in_both_directions() {
        let text = "[bridge.br0]\naddresses = ['172.17.5.1/24', 'fe80::1/64', '2001:db8::1/64']\n\
                    [bridge.br1]\nnamespace = 'ns'\naddresses = ['192.0.2.1/24']\n\
                    [namespace.ns]\n";
        let topology = read(Source { path: "lab.toml", text }, Some("lab"))
            .unwrap_or_else(|faults| panic!("{faults:?}"));
        let ours: Vec<_> = on_the_machine(&topology).collect();
        let others = [
            ("docker0", "172.17.0.1/16"),
            ("eth7", "172.17.5.9/32"),
            ("eth8", "172.18.0.1/16"),
            ("eth9", "192.0.2.9/24"),
            ("eth0", "fe80::2/64"),
            ("wg0", "2001:db8::5/128"),
        ];
        let others = others.map(|(device, net)| (device.to_owned(), net.parse().unwrap()));
        let found: Vec<_> = find(&ours, &others).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "subnet 172.17.5.0/24 of br0 overlaps with 172.17.0.1/16 on docker0",
                "subnet 172.17.5.0/24 of br0 overlaps with 172.17.5.9/32 on eth7",
                "subnet 2001:db8::/64 of br0 overlaps with 2001:db8::5/128 on wg0",
            ]
        );
    }
}
