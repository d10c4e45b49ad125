//! Gateways and routes: parsing, and the check that gateways are reachable.

use std::{collections::HashMap, net::IpAddr, ops::Range};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    Place, Route, addresses,
    declared::{Declared, InterfaceDecl, NamespaceDecl, RouteDecl},
    fault::Sink,
    keys::{self, MOST_ROUTES},
    parse::{self, Link},
    read::{At, Table, bounded},
};

/// The keys `gateway` and `routes`.
pub(super) fn read(table: &Table<'_>, sink: &mut Sink) -> Vec<RouteDecl> {
    let mut routes = gateways(table, sink);
    routes.extend(listed(table, sink));
    let mut seen: HashMap<IpNet, Range<usize>> = HashMap::new();
    for route in &routes {
        let Some(first) = seen.insert(route.route.to, route.span.clone()) else { continue };
        let (message, hint) = if route.route.to.prefix_len() == 0 {
            let family = if route.route.via.is_ipv4() { "IPv4" } else { "IPv6" };
            (format!("a second {family} gateway"), "a namespace has one gateway for each of IPv4 and IPv6")
        } else {
            (format!("a second route to {}", route.route.to), "keep one of them")
        };
        sink.add(&route.span, message, hint).also(&first, "the first");
    }
    routes
}

/// The default route's destination, in the address family of its gateway.
pub(super) fn default_by_way_of(via: IpAddr) -> IpNet {
    match via {
        IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
    }
}

fn gateways(table: &Table<'_>, sink: &mut Sink) -> Vec<RouteDecl> {
    let texts = table.one_or_two("gateway", sink);
    let vias = texts.iter().filter_map(|text| parse::gateway(text, table.example("gateway"), sink));
    let route = |via: At<IpAddr>| RouteDecl {
        route: Route { to: default_by_way_of(via.value), via: via.value },
        span: via.span.clone(),
        via,
    };
    vias.map(route).collect()
}

fn listed(table: &Table<'_>, sink: &mut Sink) -> Vec<RouteDecl> {
    let example = table.example("routes");
    let mut routes = Vec::new();
    for written in table.array("routes", sink) {
        routes.extend(route(&written, example, sink));
    }
    bounded(&mut routes, "routes", "a namespace", MOST_ROUTES, |route| route.span.clone(), sink);
    routes
}

fn route(written: &At<Table<'_>>, example: &str, sink: &mut Sink) -> Option<RouteDecl> {
    let table = &written.value;
    table.only_declared(sink);
    for key in keys::ROUTE.keys {
        if table.get(key.name).is_none() {
            let message = format!("a route without `{}`", key.name);
            sink.add(&written.span, message, format!("a route has both: {example}"));
        }
    }
    let to = table.string("to", sink);
    let via = table.string("via", sink).and_then(|text| parse::gateway(&text, table.example("via"), sink));
    let (to_text, via) = (to.as_ref()?, via);
    let to = match (to_text.value, &via) {
        ("default", Some(via)) => to_text.with(default_by_way_of(via.value)),
        ("default", None) => return None,
        _ => addresses::destination(to_text, sink)?,
    };
    let via = via?;
    if to.value.addr().is_ipv4() != via.value.is_ipv4() {
        let hint = "write the destination and the gateway both in IPv4, or both in IPv6";
        sink.add(&via.span, format!("{} cannot be reached via {}", to.value, via.value), hint)
            .also(&to.span, "of the other family");
        return None;
    }
    Some(RouteDecl { route: Route { to: to.value, via: via.value }, span: to.span, via })
}

/// Reports every gateway that is not in a subnet of its namespace.
pub(super) fn check(declared: &Declared, sink: &mut Sink) {
    let mut interfaces: HashMap<&Place, Vec<&InterfaceDecl>> = HashMap::new();
    for interface in &declared.interfaces {
        interfaces.entry(&interface.place).or_default().push(interface);
    }
    for namespace in &declared.namespaces {
        let place = Place::Namespace(namespace.name.value.clone());
        let own = interfaces.get(&place).map_or(&[][..], Vec::as_slice);
        check_namespace(namespace, &place, own, declared, sink);
    }
}

fn check_namespace(
    namespace: &NamespaceDecl,
    place: &Place,
    interfaces: &[&InterfaceDecl],
    declared: &Declared,
    sink: &mut Sink,
) {
    let name = &namespace.name.value;
    let bridges = || declared.bridges.iter().filter(|bridge| &bridge.place.value == place);
    let partial = declared.partial.contains(place)
        || interfaces.iter().any(|interface| !interface.addresses.is_complete)
        || bridges().any(|bridge| !bridge.addresses.is_complete);
    for route in namespace.routes.iter() {
        let via = &route.via;
        let holds = |address: &&At<IpNet>| address.value.contains(&via.value);
        let up = interfaces.iter().filter(|interface| interface.up);
        let own = || {
            let of_interfaces = up.clone().flat_map(|interface| &interface.addresses.items);
            bridges().flat_map(|bridge| &bridge.addresses.items).chain(of_interfaces)
        };
        if let Some(own) = own().find(|own| own.value.addr() == via.value) {
            let hint = "a gateway is another host; the bridge's own address is the usual one";
            sink.add(&via.span, format!("the gateway {} is `{name}` itself", via.value), hint)
                .also(&own.span, "its own address");
            continue;
        }
        if let Some(own) = own().find(holds) {
            if !addresses::is_host(&own.value, via.value) {
                let message =
                    format!("the gateway {} is no host in its subnet {}", via.value, own.value.trunc());
                let hint = "the first and the last address of an IPv4 subnet are the subnet's own";
                sink.add(&via.span, message, hint).also(&own.span, "the subnet");
            }
            continue;
        }
        if partial {
            continue;
        }
        let down = interfaces.iter().find(|interface| interface.addresses.items.iter().any(|a| holds(&a)));
        let message = format!("no interface of `{name}` is in the subnet of its gateway {}", via.value);
        let fault = match down {
            Some(down) => {
                let hint = format!("{} is, but down: take its `up = false` out", down.title());
                sink.add(&via.span, message, hint).also(&down.name.span, "down")
            }
            None => sink.add(&via.span, message, reachable(via.value, interfaces, declared)),
        };
        fault.label("out of reach");
    }
}

/// The hint for an unreachable gateway: the address of a bridge that the namespace is linked to, if there is one.
fn reachable(via: IpAddr, interfaces: &[&InterfaceDecl], declared: &Declared) -> String {
    for interface in interfaces {
        let Some(At { value: Link::Bridge(linked), .. }) = &interface.link else { continue };
        let Some(bridge) = declared.bridges.iter().find(|bridge| bridge.name.value.as_str() == linked) else {
            continue;
        };
        let same_family = |address: &&At<IpNet>| address.value.addr().is_ipv4() == via.is_ipv4();
        if let Some(address) = bridge.addresses.items.iter().find(same_family) {
            return format!("bridge `{linked}`, which {} is on, has {}", interface.title(), address.value);
        }
    }
    String::from("give one of its interfaces an address in that subnet, or correct the gateway")
}
