//! Gateway addresses that no host has, and hosts outside their bridge's subnet.

use std::{collections::HashSet, net::IpAddr};

use ipnet::IpNet;

use super::net::{Net, Station, is_alone, is_link_local};
use crate::topology::{Place, fault::Sink, read::At};

pub(super) fn warn(net: &Net<'_>, sink: &mut Sink) {
    nobody(net, sink);
    outside(net, sink);
}

/// Warns of gateways that no device has. That a gateway is in a subnet of its namespace is checked before.
fn nobody(net: &Net<'_>, sink: &mut Sink) {
    let mut seen: HashSet<(usize, IpAddr)> = HashSet::new();
    for namespace in &net.declared.namespaces {
        let place = Place::Namespace(namespace.name.value.clone());
        for route in namespace.routes.iter() {
            let via = route.via.value;
            let Some((near, _)) = net.on_link(&place, via) else { continue };
            let is_told = || seen.contains(&(near.segment, via));
            if net.owner(near.segment, via).is_some() || is_told() || has_strangers(net, near.segment) {
                continue;
            }
            let _ = seen.insert((near.segment, via));
            let message = format!("nobody where `{}` leads has the gateway's address {via}", near.title());
            let hint = "give it to an interface or bridge there; all is well if a machine outside of the file has it";
            sink.warn(&route.via.span, message, hint).also(near.span, "by this one");
        }
    }
}

/// Whether a segment may have addresses that are not in the file: those of an adopted namespace, or of an interface
/// that is configured by other means.
fn has_strangers(net: &Net<'_>, segment: usize) -> bool {
    net.segments[segment].iter().map(|&n| &net.stations[n]).any(|station| {
        let is_adopted = matches!(station.place, Place::Namespace(_)) && net.known(station.place).is_none();
        !station.is_bridge && (station.addresses.is_empty() || is_adopted)
    })
}

/// Warns of hosts outside the subnets of their bridge, which cannot be their gateway. Several subnets on one
/// segment are accepted if routes lead into them, or if VLANs separate them.
fn outside(net: &Net<'_>, sink: &mut Sink) {
    let routed = routed(net);
    for (segment, stations) in net.segments.iter().enumerate() {
        let of_segment =
            || net.declared.bridges.iter().zip(&net.segment_of_bridge).filter(|&(_, s)| *s == segment);
        if of_segment().any(|(bridge, _)| bridge.vlan_filtering) {
            continue;
        }
        let subnets: Vec<&At<IpNet>> = of_segment()
            .flat_map(|(bridge, _)| &bridge.addresses.items)
            .filter(|at| !is_link_local(at.value.addr()))
            .collect();
        if subnets.is_empty() {
            continue;
        }
        let of_vias: Vec<IpAddr> =
            routed.iter().filter(|&&(s, _)| s == segment).map(|&(_, via)| via).collect();
        for station in stations.iter().map(|&n| &net.stations[n]).filter(|station| station.bridge.is_some()) {
            for is_v4 in [true, false] {
                let inside =
                    |at: &At<IpNet>| subnets.iter().any(|subnet| subnet.value.contains(&at.value.addr()));
                let own = || of_family(station, is_v4);
                let Some(bridge) = subnets.iter().find(|at| at.value.addr().is_ipv4() == is_v4) else {
                    continue;
                };
                let routed = own().any(|at| of_vias.iter().any(|via| at.value.contains(via)));
                let Some(first) = own().next().filter(|_| !routed && !own().any(inside)) else { continue };
                let message = format!(
                    "`{}` has {}, which is outside of {}, the subnet of its bridge",
                    station.title(),
                    first.value,
                    bridge.value.trunc()
                );
                let hint = format!(
                    "give it an address in {}, or the bridge one in {}",
                    bridge.value.trunc(),
                    first.value.trunc()
                );
                sink.warn(&first.span, message, hint).also(&bridge.span, "the bridge's");
            }
        }
    }
}

/// Gateways, each with its segment.
fn routed(net: &Net<'_>) -> HashSet<(usize, IpAddr)> {
    let mut routed = HashSet::new();
    for namespace in &net.declared.namespaces {
        let place = Place::Namespace(namespace.name.value.clone());
        for route in namespace.routes.iter() {
            if let Some((near, _)) = net.on_link(&place, route.via.value) {
                let _ = routed.insert((near.segment, route.via.value));
            }
        }
    }
    routed
}

/// A station's addresses of one family that are not link-local and whose subnet has other addresses.
fn of_family<'s>(station: &'s Station<'_>, is_v4: bool) -> impl Iterator<Item = &'s At<IpNet>> {
    station.addresses.iter().filter(move |at| {
        at.value.addr().is_ipv4() == is_v4 && !is_link_local(at.value.addr()) && !is_alone(at.value)
    })
}
