//! Compares interfaces and ports with the topology.

use ipnet::IpNet;

use super::{Master, Step, steps::Planner};
use crate::topology::{IfName, Interface, Mac, Neighbour, NsName, Place, RouteKey, Sysctl, Topology};

impl Planner<'_> {
    /// An inner end, or an end of a cable.
    pub(super) fn interface(&mut self, place: &Place, interface: &Interface) {
        let name = interface.name.as_str();
        let member = self.standing.link(place, name).filter(|link| link.master == Master::Bond);
        let dad = !interface.ipv6.skips_dad();
        if let Some(member) = member {
            // A bond sets MAC and MTU of its members, brings them up, and has their addresses (`bond_enslave` in
            // drivers/net/bonding/bond_main.c). None of that is drift.
            let is_left = |address: &&IpNet| {
                let of_former = |former| addresses_of(former, place, name).contains(address);
                member.addresses.contains(address) || !self.former.iter().any(of_former)
            };
            let wanted: Vec<IpNet> = interface.addresses.iter().filter(is_left).copied().collect();
            self.addresses(place, name, &wanted, dad);
        } else {
            self.mac(place, name, interface.mac);
            self.mtu(place, name, interface.mtu);
            self.addresses(place, name, &interface.addresses, dad);
        }
        self.sizes(place, name, interface.sizes);
        if interface.up {
            if member.is_none() {
                self.subnets(place, name, &interface.addresses);
            }
            self.up(place, name);
        } else if member.is_none() && self.standing.link(place, name).is_some_and(|link| link.up) {
            self.disturb(place, name);
            self.plan.raise.push(Step::Down { place: place.clone(), device: name.to_owned() });
        }
        if self.standing.link(place, name).is_none() {
            self.disturb(place, name);
        }
        self.neighbours(place, interface);
    }

    /// Adds missing permanent neighbours and removes those of an earlier topology. Those that the user added stay.
    fn neighbours(&mut self, place: &Place, interface: &Interface) {
        let name = interface.name.as_str();
        // The kernel removes all neighbours of an interface whose MAC changes (`neigh_changeaddr` in net/core/neighbour.c).
        let is_new_mac = |step: &Step| matches!(step, Step::Mac { place: at, device, .. } if at == place && device == name);
        let are_lost = self.plan.make.iter().any(is_new_mac);
        let there = self.standing.link(place, name).map_or(&[][..], |link| &link.neighbours);
        let of_address = |address| there.iter().find(move |there| there.address == address);
        let (place, device) = (place.clone(), name.to_owned());
        let is_wanted =
            |of: &Neighbour| interface.neighbours.iter().any(|wanted| wanted.address == of.address);
        let was = |of: &&Neighbour| {
            let former = self.former.iter().flat_map(|former| former.interfaces_in(&place));
            let mut former = former.filter(|former| former.name == interface.name);
            former.any(|former| former.neighbours.contains(of))
        };
        let surplus: Vec<Neighbour> =
            there.iter().filter(was).filter(|of| !is_wanted(of) && !are_lost).copied().collect();
        for neighbour in surplus {
            let (place, device) = (place.clone(), device.clone());
            self.plan.raise.push(Step::DeleteNeighbour { place, device, neighbour });
        }
        for &neighbour in &interface.neighbours {
            let present = of_address(neighbour.address);
            if are_lost || present != Some(&neighbour) {
                let from = present.map(|present| present.mac).filter(|mac| *mac != neighbour.mac);
                let (place, device) = (place.clone(), device.clone());
                self.plan.raise.push(Step::Neighbour { place, device, from, neighbour });
            }
        }
    }

    /// Marks a link that lost its mark, or that a killed run created and did not mark.
    pub(super) fn mark(
        &mut self,
        place: &Place,
        device: &str,
        (mark, altname): (String, Option<String>),
        settings: Vec<Sysctl>,
    ) {
        if self.standing.link(place, device).is_some_and(|link| !link.marked) {
            let (place, device) = (place.clone(), device.to_owned());
            self.plan.make.push(Step::Mark { place, device, mark, altname, settings });
        }
    }

    /// Enslaves an existing port that is not on its bridge: it was released, the bridge was deleted, or the file names
    /// another bridge.
    pub(super) fn enslave(&mut self, place: &Place, port: &IfName, bridge: &IfName) {
        let Some(there) = self.standing.link(place, port.as_str()) else { return };
        let bridge_stays = self.standing.link(place, bridge.as_str()).is_some();
        if there.bridge.as_deref() != Some(bridge.as_str()) || !bridge_stays {
            self.plan.make.push(Step::Enslave {
                place: place.clone(),
                device: port.to_string(),
                from: there.bridge.clone().filter(|_| bridge_stays),
                bridge: bridge.clone(),
            });
        }
    }

    pub(super) fn mac(&mut self, place: &Place, device: &str, mac: Mac) {
        if let Some(link) = self.standing.link(place, device)
            && link.mac != Some(mac.bytes())
        {
            let (place, device) = (place.clone(), device.to_owned());
            self.plan.make.push(Step::Mac { place, device, from: link.mac, mac });
        }
    }

    /// Adds missing addresses and removes those of an earlier topology. Addresses that the user added stay.
    pub(super) fn addresses(&mut self, place: &Place, device: &str, wanted: &[IpNet], dad: bool) {
        let there = self.standing.link(place, device).map_or(&[][..], |link| &link.addresses);
        let was = |address: &&IpNet| {
            self.former.iter().any(|former| addresses_of(former, place, device).contains(address))
        };
        let surplus: Vec<IpNet> =
            there.iter().filter(|address| !wanted.contains(address)).filter(was).copied().collect();
        let step = |address| (place.clone(), device.to_owned(), address);
        for &address in &surplus {
            let (place, device, address) = step(address);
            self.plan.raise.push(Step::DeleteAddress { place, device, address });
        }
        if !surplus.is_empty() {
            self.disturb(place, device);
        }
        // Deleting the primary IPv4 address of a subnet also deletes the secondary ones (`__inet_del_ifa`).
        let goes_too = |address: &IpNet| {
            address.addr().is_ipv4() && surplus.iter().any(|gone| gone.trunc() == address.trunc())
        };
        for &address in wanted.iter().filter(|address| !there.contains(address) || goes_too(address)) {
            let (place, device, address) = step(address);
            self.plan.raise.push(Step::Address { place, device, address, dad });
        }
    }

    /// Adds connected routes that were removed. The kernel adds them itself with an address, or when the interface
    /// comes up.
    pub(super) fn subnets(&mut self, place: &Place, device: &str, wanted: &[IpNet]) {
        let Some(link) = self.standing.link(place, device).filter(|link| link.up) else { return };
        let mut known: Vec<IpNet> = Vec::new();
        for subnet in wanted.iter().filter(|address| address.prefix_len() < address.max_prefix_len()) {
            let subnet = subnet.trunc();
            // The first of the subnet's addresses is the source address of packets.
            let first = link.addresses.iter().find(|there| there.trunc() == subnet);
            let is_there = self.observed.subnets.contains(&(place.clone(), device.to_owned(), subnet));
            let Some(&address) = first.filter(|_| !is_there && !known.contains(&subnet)) else { continue };
            known.push(subnet);
            let (place, device) = (place.clone(), device.to_owned());
            if !self.comes_again(&place, &device, subnet) && !self.has_route(&place, subnet) {
                self.plan.raise.push(Step::Subnet { place, device, address });
            }
        }
    }

    /// Whether the addresses of an IPv4 subnet are deleted, so that those that stay are added again.
    fn comes_again(&self, place: &Place, device: &str, subnet: IpNet) -> bool {
        let is_about = |step: &Step| {
            matches!(step, Step::DeleteAddress { place: at, device: of, address }
                if at == place && of == device && address.trunc() == subnet)
        };
        subnet.addr().is_ipv4() && self.plan.raise.iter().any(is_about)
    }

    /// Whether the file has its own route to an IPv4 subnet, instead of the connected one.
    fn has_route(&self, place: &Place, subnet: IpNet) -> bool {
        let mut namespaces = self.topology.namespaces.iter();
        let here =
            namespaces.find(|namespace| matches!(place, Place::Namespace(name) if *name == namespace.name));
        let mut routes = here.into_iter().flat_map(|namespace| namespace.routes.iter());
        subnet.addr().is_ipv4() && routes.any(|route| route.key() == RouteKey::usual(subnet))
    }

    /// Brings an interface or a bridge up.
    pub(super) fn up(&mut self, place: &Place, device: &str) {
        if self.is_down(place, device) {
            self.plan.raise.push(Step::Up { place: place.clone(), device: device.to_owned(), port: false });
        }
    }

    /// Brings a port up.
    pub(super) fn port_up(&mut self, place: &Place, port: &IfName) {
        if self.is_down(place, port.as_str()) {
            self.plan.raise.push(Step::Up { place: place.clone(), device: port.to_string(), port: true });
        }
    }

    fn is_down(&self, place: &Place, device: &str) -> bool {
        !self.standing.link(place, device).is_some_and(|link| link.up)
    }

    fn disturb(&mut self, place: &Place, device: &str) {
        self.disturbed.insert((place.clone(), device.to_owned()));
    }
}

/// The addresses that a topology gives an interface, a bridge or a loopback.
pub(super) fn addresses_of<'a>(topology: &'a Topology, place: &Place, device: &str) -> &'a [IpNet] {
    let is_in = |namespace: &NsName| matches!(place, Place::Namespace(name) if name == namespace);
    if device == "lo" {
        let own = topology.namespaces.iter().find(|namespace| is_in(&namespace.name));
        return own.map_or(&[], |namespace| &namespace.loopback);
    }
    let mut inner = topology.pairs.iter().filter(|pair| is_in(&pair.namespace)).map(|pair| &pair.inner);
    let ends = topology.cables.iter().flat_map(|cable| [&cable.a, &cable.b]);
    let mut ends = ends.filter(|end| &end.place == place).map(|end| &end.interface);
    let is_it = |interface: &&Interface| interface.name.as_str() == device;
    if let Some(interface) = inner.find(is_it).or_else(|| ends.find(is_it)) {
        return &interface.addresses;
    }
    let bridge = topology.bridges.iter().find(|b| &b.place == place && b.name.as_str() == device);
    bridge.map_or(&[], |bridge| &bridge.addresses)
}
