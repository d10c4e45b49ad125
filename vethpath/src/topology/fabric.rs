//! `fabric = true`: bridges without a `namespace` are in a namespace that the lab creates, `LAB-fabric`.
//!
//! An *uplink*, which is a cable, joins that namespace to the machine. Its next hops are IPv6 link-local addresses, for
//! IPv4 too (RFC 5549; `RTA_VIA`, Linux 5.2), so it needs no subnet. The machine has a route to each subnet of these
//! bridges, and the namespace a default route to the machine.

use std::{
    net::{IpAddr, Ipv6Addr},
    ops::Range,
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::{
    Cable, IfName, LabName, Mac, NsName, OffloadSizes, Place, Sysctl, SysctlKey, Topology,
    declared::{BridgeDecl, Declared, FabricDecl, InterfaceDecl, NamespaceDecl},
    derive::{uplink_addresses, uplink_name},
    fault::Sink,
    parse::Link,
    read::{At, List},
};

/// The uplink's name in the namespace, and the name that the machine's end is derived from.
const UPLINK: &str = "uplink";

/// The address of the uplink's end in the namespace: the machine's next hop.
const INSIDE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The address of the machine's end: the next hop of the namespace.
const OUTSIDE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

/// The default MTU of a veth in bytes (`ETH_DATA_LEN`).
const USUAL_MTU: u32 = 1500;

/// The namespace of bridges without a `namespace`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fabric {
    /// The namespace, one of the lab's.
    pub namespace: NsName,
    /// The machine's end of the uplink, which is one of the lab's cables. `None` if the machine has a route to none of
    /// the bridges.
    pub uplink: Option<IfName>,
}

/// A route by the uplink.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UplinkRoute {
    /// Whose route it is: the machine's, or the fabric's.
    pub place: Place,
    /// The end of the uplink there.
    pub device: IfName,
    /// The destination.
    pub to: IpNet,
    /// The address of the other end.
    pub via: Ipv6Addr,
    /// The MAC of the other end, for a permanent neighbour: rules of the machine may drop neighbour discovery.
    pub mac: Mac,
}

impl Topology {
    /// Whether a place is the fabric.
    #[must_use]
    pub fn is_fabric(&self, place: &Place) -> bool {
        let Some(Fabric { namespace, .. }) = &self.fabric else { return false };
        matches!(place, Place::Namespace(name) if name == namespace)
    }

    /// The machine's end of the uplink.
    #[must_use]
    pub fn uplink(&self) -> Option<&IfName> {
        self.fabric.as_ref()?.uplink.as_ref()
    }

    /// Whether a cable is the uplink.
    #[must_use]
    pub fn is_uplink(&self, cable: &Cable) -> bool {
        cable.a.place == Place::Host && self.uplink() == Some(&cable.a.interface.name)
    }

    /// The machine's routes to subnets of the fabric.
    pub fn machine_routes(&self) -> impl Iterator<Item = &UplinkRoute> {
        self.uplink_routes.iter().filter(|route| route.place == Place::Host)
    }

    /// A bridge of the fabric that has this subnet.
    #[must_use]
    pub fn fabric_bridge(&self, subnet: IpNet) -> Option<&IfName> {
        let has_it = |bridge: &&super::Bridge| {
            self.is_fabric(&bridge.place) && bridge.addresses.iter().any(|net| net.trunc() == subnet)
        };
        self.bridges.iter().find(has_it).map(|bridge| &bridge.name)
    }
}

/// Whether two subnets have an address in common.
#[must_use]
pub fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// The fabric of a file whose `fabric` is at `wanted`.
pub(super) fn declare(lab: &LabName, wanted: Option<Range<usize>>, declared: &mut Declared, sink: &mut Sink) {
    for bridge in &declared.bridges {
        check_host_key(bridge, wanted.is_some(), sink);
    }
    let Some(span) = wanted else { return };
    if declared.bridges.iter().all(|bridge| bridge.is_placed) {
        return;
    }
    let Ok(namespace) = format!("{lab}-fabric").parse::<NsName>() else {
        unreachable!("a lab's name is shorter than a namespace's, and made of the same characters")
    };
    if let Some(other) = declared.namespaces.iter().find(|other| other.name.value == namespace) {
        let message =
            format!("`fabric` creates a namespace `{namespace}`, and the file has one of that name");
        let hint = "rename that one, or the lab";
        let _ = sink.add(&other.name.span, message, hint).also(&span, "creates it");
        return;
    }
    let is_named_so = |bridge: &&BridgeDecl| !bridge.is_placed && bridge.name.value.as_str() == UPLINK;
    if let Some(bridge) = declared.bridges.iter().find(is_named_so) {
        let message = format!("`{UPLINK}` is the interface by which the fabric reaches the machine");
        let _ = sink.add(&bridge.name.span, message, "rename the bridge").also(&span, "makes a fabric");
        return;
    }
    let at = |place: &Place| At::new(place.clone(), span.clone());
    let place = Place::Namespace(namespace.clone());
    declared.bridges.iter_mut().filter(|b| !b.is_placed).for_each(|bridge| bridge.place = at(&place));
    let of_fabric = || declared.bridges.iter().filter(|bridge| bridge.place.value == place);
    let of_any = families(of_fabric());
    let namespace_decl = NamespaceDecl {
        name: At::new(namespace.clone(), span.clone()),
        adopt: None,
        routes: Arc::default(),
        sysctls: forwarding(of_any).into_iter().map(|setting| At::new(setting, span.clone())).collect(),
        resolver: super::Resolver::default(),
        rules: Vec::new(),
        loopback: List::default(),
    };
    let reached = families(of_fabric().filter(|bridge| bridge.is_reached()));
    let uplink = (reached.0 || reached.1).then(|| uplink(lab, &namespace, &span, reached, declared));
    declared.namespaces.push(namespace_decl);
    let device = uplink.as_ref().map(|[outside, _]| outside.name.value.clone());
    declared.interfaces.extend(uplink.into_iter().flatten());
    declared.fabric = Some(FabricDecl { namespace, uplink: device });
    check_subnets(&place, declared, sink);
}

/// `host = false` is about the machine's route to the fabric.
fn check_host_key(bridge: &BridgeDecl, has_fabric: bool, sink: &mut Sink) {
    let Some(host) = bridge.host.as_ref().filter(|host| !host.value) else { return };
    let name = &bridge.name.value;
    if bridge.is_placed {
        let message = format!("`host` applies to bridges of the fabric, and `{name}` has a `namespace`");
        let _ = sink.add(&host.span, message, "remove one of the two").also(&bridge.place.span, "here");
    } else if !has_fabric {
        let message =
            format!("`host = false` omits the machine's route to bridge `{name}`, which only a fabric has");
        let hint = "write `fabric = true` at the top of the file, or use `--fabric`; or leave `host` out";
        let _ = sink.add(&host.span, message, hint);
    } else if bridge.nat {
        let message =
            format!("`nat` of bridge `{name}` needs the machine's route, which `host = false` omits");
        let _ = sink.add(&host.span, message, "leave `host` out, or leave `nat` out");
    }
}

/// The subnets of a bridge to which routes can lead. That of a link-local address is on every link.
fn subnets(bridge: &BridgeDecl) -> impl Iterator<Item = &At<IpNet>> {
    let is_routable = |at: &&At<IpNet>| !is_link_local(&at.value);
    bridge.addresses.items.iter().filter(is_routable)
}

fn is_link_local(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

/// Whether bridges have subnets of IPv4, and of IPv6.
fn families<'d>(bridges: impl Iterator<Item = &'d BridgeDecl>) -> (bool, bool) {
    bridges.flat_map(subnets).fold((false, false), |(v4, v6), at| {
        let is_v4 = at.value.addr().is_ipv4();
        (v4 || is_v4, v6 || !is_v4)
    })
}

/// The settings of a namespace that forwards these families.
fn forwarding((v4, v6): (bool, bool)) -> Vec<Sysctl> {
    let on = |key| Sysctl { key, value: "1".into() };
    let v4 = v4.then(|| on(SysctlKey::net(&["ipv4", "ip_forward"])));
    let v6 = v6.then(|| on(SysctlKey::of_interface("ipv6", "all", "forwarding")));
    v4.into_iter().chain(v6).collect()
}

/// The ends of the uplink: the machine's, and the fabric's. The machine's end has addresses with a full prefix. They are
/// the source addresses of its packets to hosts, which would otherwise be any of the machine's, or none.
fn uplink(
    lab: &LabName,
    namespace: &NsName,
    span: &Range<usize>,
    (v4, v6): (bool, bool),
    declared: &Declared,
) -> [InterfaceDecl; 2] {
    let outside_name = uplink_name(lab, namespace.as_str(), UPLINK);
    let Ok(inside_name) = UPLINK.parse::<IfName>() else { unreachable!("letters are an interface name") };
    let (own_v4, own_v6) = uplink_addresses(lab);
    let net = |address: IpAddr, length| IpNet::new(address, length).ok();
    let own = [v4.then(|| net(own_v4.into(), 32)), v6.then(|| net(own_v6.into(), 128))];
    let outside: Vec<IpNet> =
        net(OUTSIDE.into(), 64).into_iter().chain(own.into_iter().flatten().flatten()).collect();
    let places = [Place::Host, Place::Namespace(namespace.clone())];
    let names = [outside_name, inside_name];
    let addresses = [outside, net(INSIDE.into(), 64).into_iter().collect()];
    let mtu = mtu(declared);
    let end = |n: usize, addresses: Vec<IpNet>| {
        let at = |value| At::new(value, span.clone());
        // The machine may switch IPv6 off for new interfaces.
        let key = SysctlKey::of_interface("ipv6", names[n].as_str(), "disable_ipv6");
        InterfaceDecl {
            place: places[n].clone(),
            name: At::new(names[n].clone(), span.clone()),
            link: Some(At::new(Link::Interface(places[1 - n].clone(), names[1 - n].clone()), span.clone())),
            addresses: List { items: addresses.into_iter().map(at).collect(), is_complete: true },
            mac: None,
            mtu: mtu.map(|mtu| At::new(mtu, span.clone())),
            sysctls: vec![At::new(Sysctl { key, value: "0".into() }, span.clone())],
            up: true,
            dad: Some(At::new(false, span.clone())),
            accept_ra: Some(At::new(false, span.clone())),
            autoconf: None,
            sizes: OffloadSizes::default(),
            neighbours: Vec::new(),
            datapath: None,
            port: None,
        }
    };
    let [outside, inside] = addresses;
    [end(0, outside), end(1, inside)]
}

/// The largest MTU of the lab, if it is larger than the kernel's default: the uplink must not be the narrowest link.
fn mtu(declared: &Declared) -> Option<u32> {
    let of_bridges = declared.bridges.iter().filter_map(|bridge| bridge.mtu.as_ref());
    let of_interfaces = declared.interfaces.iter().filter_map(|interface| interface.mtu.as_ref());
    let most = of_bridges.chain(of_interfaces).map(|mtu| mtu.value).max();
    most.filter(|mtu| *mtu > USUAL_MTU)
}

/// Reports devices of the lab on the machine that are in a subnet of the fabric.
fn check_subnets(fabric: &Place, declared: &Declared, sink: &mut Sink) {
    let bridges =
        declared.bridges.iter().map(|bridge| (&bridge.place.value, &bridge.name, &bridge.addresses));
    let interfaces = declared.interfaces.iter().map(|own| (&own.place, &own.name, &own.addresses));
    let on_machine = bridges.chain(interfaces).filter(|(place, ..)| **place == Place::Host);
    for (name, at) in
        on_machine.flat_map(|(_, name, addresses)| addresses.items.iter().map(move |at| (name, at)))
    {
        let of_fabric = declared.bridges.iter().filter(|bridge| &bridge.place.value == fabric);
        let mut reached = of_fabric.filter(|bridge| bridge.is_reached()).flat_map(subnets);
        if let Some(other) = reached.find(|other| overlap(&at.value, &other.value)) {
            let message = format!(
                "the machine would reach {} both by `{}` and by the fabric",
                at.value.trunc(),
                name.value
            );
            let hint = "give each a subnet of its own, or write `host = false` under the fabric's bridge";
            let _ = sink.add(&at.span, message, hint).also(&other.span, "in the fabric");
        }
    }
}

/// The routes by the uplink: the machine's to each subnet, and the default routes of the fabric.
pub(super) fn routes(topology: &Topology) -> Vec<UplinkRoute> {
    let Some(cable) = topology.cables.iter().find(|cable| topology.is_uplink(cable)) else {
        return Vec::new();
    };
    let (outside, inside) = (&cable.a, &cable.b);
    let mut routes: Vec<UplinkRoute> = Vec::new();
    for bridge in topology.bridges.iter().filter(|bridge| topology.is_fabric(&bridge.place) && bridge.host) {
        for net in bridge.addresses.iter().filter(|net| !is_link_local(net)) {
            let route = UplinkRoute {
                place: outside.place.clone(),
                device: outside.interface.name.clone(),
                to: net.trunc(),
                via: INSIDE,
                mac: inside.interface.mac,
            };
            // Two bridges may be in one subnet, if trunks lead from one to the other.
            if !routes.contains(&route) {
                routes.push(route);
            }
        }
    }
    let has = |is_v4: bool| routes.iter().any(|route| route.to.addr().is_ipv4() == is_v4);
    let v4 = has(true).then(|| IpNet::V4(Ipv4Net::default()));
    let v6 = has(false).then(|| IpNet::V6(Ipv6Net::default()));
    let default = |to| UplinkRoute {
        place: inside.place.clone(),
        device: inside.interface.name.clone(),
        to,
        via: OUTSIDE,
        mac: outside.interface.mac,
    };
    let defaults: Vec<_> = v4.into_iter().chain(v6).map(default).collect();
    routes.extend(defaults);
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So that no lab's name is too long for its fabric.
    #[test]
    fn every_lab_has_room_for_the_name_of_its_fabric() {
        let lab: LabName = "x".repeat(LabName::MOST).parse().unwrap();
        assert!(format!("{lab}-fabric").parse::<NsName>().is_ok());
    }

    #[test]
    fn subnets_overlap_where_one_has_the_other() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        assert!(overlap(&net("10.0.0.1/8"), &net("10.9.0.1/24")));
        assert!(overlap(&net("10.9.0.1/24"), &net("10.0.0.1/8")));
        assert!(overlap(&net("fd00::1/64"), &net("fd00::2/64")));
        assert!(!overlap(&net("10.9.0.1/24"), &net("10.9.1.1/24")));
        assert!(!overlap(&net("10.9.0.1/24"), &net("::/0")));
    }
}
