//! Warnings about a valid lab: likely mistakes, and things that cannot work. They are not errors, since each may be
//! intended. The host, adopted namespaces and manual configuration are not in the file.

mod net;
mod paths;

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;

use self::net::{Device, Net, is_alone, is_link_local};
use super::{
    Place,
    declared::Declared,
    fault::Sink,
    links::{Joint, Links},
    read::At,
};

/// The default MTU of Ethernet devices, in bytes.
const USUAL: u32 = 1500;

/// Checks a lab that was read completely and whose links resolve.
pub(super) fn warn(declared: &Declared, links: &Links, joints: &[Joint], sink: &mut Sink) {
    let net = Net::new(declared, links, joints);
    same_subnet(&net, sink);
    unassigned_gateways(&net, sink);
    outside_of_bridges(&net, sink);
    mtus(&net, joints, sink);
    paths::warn(&net, sink);
    spreads(&net, sink);
    without_route_to_machine(&net, sink);
}

/// Warns of two devices of one namespace in the same subnet.
///
/// The kernel adds the connected route of an address when its device comes up, after existing routes to the same
/// subnet (`fib_add_ifaddr` in net/ipv4/fib_frontend.c appends; `fib6_add_rt2node` in net/ipv6/ip6_fib.c inserts
/// after those of the same metric). The first route is used: that of the device that `up` brings up first.
fn same_subnet(net: &Net<'_>, sink: &mut Sink) {
    for devices in net.places.values() {
        let mut first: HashMap<IpNet, (usize, &At<IpNet>)> = HashMap::new();
        for &n in devices.iter().filter(|&&n| net.devices[n].up) {
            for at in net.devices[n].addresses {
                if is_link_local(at.value.addr()) || is_alone(at.value) {
                    continue;
                }
                let &mut (winner, address) = first.entry(at.value.trunc()).or_insert((n, at));
                if winner != n {
                    let (winner, loser) = (net.devices[winner].title(), net.devices[n].title());
                    let subnet = at.value.trunc();
                    let message = format!(
                        "`{winner}` and `{loser}` are in one subnet, {subnet}: its route uses `{winner}`"
                    );
                    let hint =
                        format!("packets to {subnet} never leave by `{loser}`; give each its own subnet");
                    sink.warn(&at.span, message, hint)
                        .label("loses")
                        .also(&address.span, "wins: it comes up first");
                }
            }
        }
    }
}

/// Warns of gateways that no device has. That a gateway is in a subnet of its namespace is checked before.
fn unassigned_gateways(net: &Net<'_>, sink: &mut Sink) {
    let mut seen: HashSet<(usize, IpAddr)> = HashSet::new();
    for namespace in &net.declared.namespaces {
        let place = Place::Namespace(namespace.name.value.clone());
        for route in namespace.routes.iter() {
            let Some(At { value: via, span }) = route.gateway() else { continue };
            let via = *via;
            let Some((near, _)) = net.on_link(&place, via) else { continue };
            let is_reported = || seen.contains(&(near.segment, via));
            if net.owner(near.segment, via).is_some()
                || is_reported()
                || has_unknown_addresses(net, near.segment)
            {
                continue;
            }
            let _ = seen.insert((near.segment, via));
            let message =
                format!("no device on the segment of `{}` has the gateway's address {via}", near.title());
            let hint = "assign it to an interface or bridge there; ignore this if a machine outside of the file has it";
            sink.warn(span, message, hint).also(near.span, "the interface");
        }
    }
}

/// Whether a segment may have addresses that are not in the file: those of an adopted namespace, or of an interface
/// that is configured by other means.
fn has_unknown_addresses(net: &Net<'_>, segment: usize) -> bool {
    net.segments[segment].iter().map(|&n| &net.devices[n]).any(|device| {
        let is_adopted = matches!(device.place, Place::Namespace(_)) && net.known(device.place).is_none();
        !device.is_bridge && (device.addresses.is_empty() || is_adopted)
    })
}

/// Warns of hosts outside the subnets of their bridge, which cannot be their gateway. Several subnets on one
/// segment are accepted if routes lead into them, or if VLANs separate them.
fn outside_of_bridges(net: &Net<'_>, sink: &mut Sink) {
    let routed = routed(net);
    for (segment, devices) in net.segments.iter().enumerate() {
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
        for device in devices.iter().map(|&n| &net.devices[n]).filter(|device| device.bridge.is_some()) {
            for is_v4 in [true, false] {
                let inside =
                    |at: &At<IpNet>| subnets.iter().any(|subnet| subnet.value.contains(&at.value.addr()));
                let own = || of_family(device, is_v4);
                let Some(bridge) = subnets.iter().find(|at| at.value.addr().is_ipv4() == is_v4) else {
                    continue;
                };
                let routed = own().any(|at| of_vias.iter().any(|via| at.value.contains(via)));
                let Some(first) = own().next().filter(|_| !routed && !own().any(inside)) else { continue };
                let message = format!(
                    "`{}` has {}, which is outside of {}, the subnet of its bridge",
                    device.title(),
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
            for via in route.gateways() {
                if let Some((near, _)) = net.on_link(&place, via.value) {
                    let _ = routed.insert((near.segment, via.value));
                }
            }
        }
    }
    routed
}

/// A device's addresses of one family that are not link-local and whose subnet has other addresses.
fn of_family<'s>(device: &'s Device<'_>, is_v4: bool) -> impl Iterator<Item = &'s At<IpNet>> {
    device.addresses.iter().filter(move |at| {
        at.value.addr().is_ipv4() == is_v4 && !is_link_local(at.value.addr()) && !is_alone(at.value)
    })
}

/// Warns of frames that a host may send and that are too large for another device on the segment. A bridge drops them
/// silently (`is_skb_forwardable` in net/core/dev.c).
fn mtus(net: &Net<'_>, joints: &[Joint], sink: &mut Sink) {
    for devices in &net.segments {
        // The two ends of a cable have the same MTU, or the file is rejected.
        let on_bridges = || devices.iter().map(|&n| &net.devices[n]).filter(|s| s.bridge.is_some());
        let Some(least) = on_bridges().min_by_key(|device| mtu(net, device)) else { continue };
        let largest = |device: &&Device<'_>| (mtu(net, device), Reverse(device.span.start));
        let Some(most) = on_bridges().max_by_key(largest) else { continue };
        if mtu(net, most) > mtu(net, least) {
            between_hosts(net, most, least, sink);
            continue;
        }
        on_trunks(net, most, joints, sink);
    }
}

fn between_hosts(net: &Net<'_>, most: &Device<'_>, least: &Device<'_>, sink: &mut Sink) {
    let (large, small) = (mtu(net, most), mtu(net, least));
    let message = format!(
        "`{}` may send packets of {large} bytes, and `{}` on the same segment accepts {small}: larger ones are dropped",
        most.title(),
        least.title()
    );
    let hint = "give all interfaces of a segment the same MTU, preferably by `mtu` of the bridge";
    let written = |device: &Device<'_>| device.interface.and_then(|i| i.mtu.clone());
    let (span, other) = match (written(most), written(least)) {
        (Some(most), _) => (most.span, least.span),
        (None, Some(least)) => (least.span, most.span),
        (None, None) => (most.span.clone(), least.span),
    };
    sink.warn(&span, message, hint).also(other, "the other");
}

/// A trunk has the smaller `mtu` of its two bridges, regardless of the hosts on them.
fn on_trunks(net: &Net<'_>, most: &Device<'_>, joints: &[Joint], sink: &mut Sink) {
    let large = mtu(net, most);
    let bridges = &net.declared.bridges;
    for joint in joints.iter().filter(|joint| net.segment_of_bridge[joint.value.0] == most.segment) {
        let (a, b) = (&bridges[joint.value.0], &bridges[joint.value.1]);
        let small = [a, b].iter().filter_map(|bridge| bridge.mtu.as_ref()).map(|mtu| mtu.value).min();
        let small = small.unwrap_or(USUAL);
        if large > small {
            let message = format!(
                "`{}` may send packets of {large} bytes, and the trunk `{}` - `{}` accepts {small}: larger ones are dropped",
                most.title(),
                a.name.value,
                b.name.value
            );
            let hint = format!("write mtu = {large} under both bridges");
            sink.warn(&joint.span, message, hint).also(most.span, "sends larger packets");
            return;
        }
    }
}

fn mtu(net: &Net<'_>, device: &Device<'_>) -> u32 {
    let own = device.interface.and_then(|interface| interface.mtu.as_ref());
    let theirs = device.bridge.and_then(|bridge| net.declared.bridges[bridge].mtu.as_ref());
    own.or(theirs).map_or(USUAL, |mtu| mtu.value)
}

/// Warns of hosts in the fabric that have no route to the machine. On a bridge of the machine's they would be in its
/// subnet.
fn without_route_to_machine(net: &Net<'_>, sink: &mut Sink) {
    let Some(machine) = net.uplink() else { return };
    let own = || machine.addresses.iter().map(|at| at.value).filter(|net| is_alone(*net));
    for (bridge, segment) in net.declared.bridges.iter().zip(&net.segment_of_bridge) {
        if !net.is_fabric(&bridge.place.value) || !bridge.is_reached() {
            continue;
        }
        for subnet in bridge.addresses.items.iter().filter(|at| !is_link_local(at.value.addr())) {
            let of_family = |net: &IpNet| net.addr().is_ipv4() == subnet.value.addr().is_ipv4();
            let Some(machine) = own().find(of_family) else { continue };
            let hosts = net.segments[*segment].iter().map(|&n| &net.devices[n]);
            let has_no_route = |host: &&Device<'_>| {
                host.up
                    && host.bridge.is_some()
                    && net.known(host.place).is_some()
                    && host.addresses.iter().any(|at| subnet.value.contains(&at.value.addr()))
                    && matches!(paths::hop(net, host.place, machine.addr()), paths::Hop::Nowhere)
            };
            let unreachable: Vec<_> = hosts.filter(has_no_route).collect();
            let [first, others @ ..] = &unreachable[..] else { continue };
            let message = match others.len() {
                0 => format!("`{}` has no route to the machine, and cannot reply to it", first.title()),
                n => format!(
                    "`{}` and {n} more on `{}` have no route to the machine, and cannot reply to it",
                    first.title(),
                    bridge.name.value
                ),
            };
            let hint = format!(
                "write gateway = \"{}\" under [namespace.{}], or `host = false` under the bridge, if the machine need not \
                 reach it",
                subnet.value.addr(),
                first.place
            );
            let _ = sink.warn(first.span, message, hint).also(&subnet.span, "its gateway");
        }
    }
}

/// Warns of a group on bridges that no trunk joins: its members cannot reach each other.
fn spreads(net: &Net<'_>, sink: &mut Sink) {
    for spread in &net.declared.spreads {
        let segment = |name: &String| {
            let position = net.declared.bridges.iter().position(|b| b.name.value.as_str() == name);
            position.map(|position| net.segment_of_bridge[position])
        };
        let Some(first) = spread.bridges.first() else { continue };
        let apart = spread.bridges.iter().find(|bridge| segment(bridge) != segment(first));
        if let Some(apart) = apart {
            let message = format!(
                "no trunks join the bridges of group `{}`: members on `{first}` cannot reach those on `{apart}`",
                spread.group
            );
            let hint =
                format!("join them: trunks = [\"{apart}\"] under [bridge.{first}]; or make a chain of them");
            sink.warn(&spread.span, message, hint);
        }
    }
}
