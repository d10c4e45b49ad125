//! Gateways and routes: parsing, and the check that what they name is there.

use std::{collections::HashMap, net::IpAddr, ops::Range};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use toml::de::DeValue;

use super::{
    Fate, IfName, MAIN_TABLE, NextHop, Place, Route, RouteKey, addresses,
    declared::{Declared, HopDecl, InterfaceDecl, NamespaceDecl, RouteDecl},
    fault::Sink,
    keys::{self, MOST_ROUTES},
    parse::{self, Link},
    read::{At, Table, bounded},
    route::is_link_local,
};

/// The keys `gateway` and `routes`. Routes without a gateway come first, since gateways may be reached by them.
pub(super) fn read(table: &Table<'_>, sink: &mut Sink) -> Vec<RouteDecl> {
    let mut routes = gateways(table, sink);
    routes.extend(listed(table, sink));
    let mut seen: HashMap<RouteKey, Range<usize>> = HashMap::new();
    for route in &routes {
        let key = route.route.key();
        let Some(first) = seen.insert(key, route.span.clone()) else { continue };
        let (message, hint) = if key == RouteKey::usual(key.to) && key.to.prefix_len() == 0 {
            let family = if key.to.addr().is_ipv4() { "IPv4" } else { "IPv6" };
            let hint = "a namespace has one gateway for each of IPv4 and IPv6; another default route needs a \
                        `metric` or a `table`, or both are `nexthops` of one route";
            (format!("a second {family} gateway"), hint)
        } else {
            let hint =
                "keep one of them; two need different `metric`s or `table`s, or are `nexthops` of one route";
            (format!("a second route to {}", key.to), hint)
        };
        sink.add(&route.span, message, hint).also(&first, "the first");
    }
    routes.sort_by_key(|route| route.route.has_gateway());
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
    vias.map(|via| RouteDecl::by(default_by_way_of(via.value), via)).collect()
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

/// The keys that say where a route leads. Those of the first group go together, the others stand alone.
const WAYS: [&[&str]; 4] = [&["via", "dev", "onlink"], &["nexthops"], &["blackhole"], &["unreachable"]];

fn route(written: &At<Table<'_>>, example: &str, sink: &mut Sink) -> Option<RouteDecl> {
    let table = &written.value;
    table.only_declared(sink);
    if table.get("to").is_none() {
        sink.add(&written.span, "a route without `to`", format!("a route has a destination: {example}"));
    }
    let to = table.string("to", sink);
    let numbers = ["metric", "table", "mtu"].map(|key| table.integer(key, sink));
    let src = table.string("src", sink).and_then(|text| parse::next_hop(&text, table.example("src"), sink));
    let fate = fate(table, sink)?;
    let ways = way(written, fate, example, sink)?;
    let hops = match ways {
        "nexthops" => nexthops(table, sink)?,
        "via" => vec![hop(&written.with(table), sink)?],
        _ => Vec::new(),
    };
    let to = destination(to.as_ref()?, &hops, sink)?;
    if let Some(src) = src.as_ref().filter(|src| src.value.is_ipv4() != to.value.addr().is_ipv4()) {
        let message = format!("packets to {} cannot have the source address {}", to.value, src.value);
        sink.add(&src.span, message, "write one of the destination's family")
            .also(&to.span, "the destination");
    }
    for via in hops.iter().filter_map(|hop| hop.0.via.as_ref()) {
        // The kernel takes IPv6 gateways of IPv4 routes (`RTA_VIA`), and not the reverse.
        if to.value.addr().is_ipv6() && via.value.is_ipv4() {
            let hint = "write an IPv6 gateway";
            sink.add(&via.span, format!("{} cannot be reached via {}", to.value, via.value), hint)
                .also(&to.span, "of the other family");
            return None;
        }
    }
    let [metric, number, mtu] = numbers.map(|at| at.map(|at| at.value));
    let mut route = Route {
        fate,
        metric,
        mtu,
        table: number.filter(|table| *table != MAIN_TABLE),
        ..Route::to(to.value)
    };
    route.src = src.as_ref().map(|src| src.value);
    // The kernel's own metric is no other route than that without one.
    route.metric = metric.filter(|_| Route { metric: None, ..route.clone() }.key() != route.key());
    if ways == "nexthops" {
        route.nexthops = hops.iter().map(|(hop, weight)| model(hop, *weight)).collect();
    } else if let [(hop, weight)] = &hops[..] {
        let NextHop { via, dev, onlink, .. } = model(hop, *weight);
        (route.via, route.dev, route.onlink) = (via, dev, onlink);
    }
    let hops = hops.into_iter().map(|(hop, _)| hop).collect();
    Some(RouteDecl { route, span: to.span, hops, src: src.map(|src| src.span) })
}

fn model(hop: &HopDecl, weight: u32) -> NextHop {
    let HopDecl { via, dev, onlink } = hop;
    let (via, dev) = (via.as_ref().map(|via| via.value), dev.as_ref().map(|dev| dev.value.clone()));
    NextHop { via, dev, onlink: *onlink, weight }
}

fn fate(table: &Table<'_>, sink: &mut Sink) -> Option<Fate> {
    let mut fate = Fate::Unicast;
    for other in [Fate::Blackhole, Fate::Unreachable] {
        if table.get(other.name()).is_some() && table.boolean(other.name(), sink)?.value {
            fate = other;
        }
    }
    Some(fate)
}

/// The first key of the group of [`WAYS`] that a route has.
fn way(written: &At<Table<'_>>, fate: Fate, example: &str, sink: &mut Sink) -> Option<&'static str> {
    let table = &written.value;
    let has = |key: &str| match key {
        "blackhole" | "unreachable" => {
            matches!(table.get(key).map(|value| value.get_ref()), Some(DeValue::Boolean(true)))
        }
        _ => table.get(key).is_some(),
    };
    let ways = WAYS.into_iter().filter(|keys| keys.iter().any(|key| has(key)));
    let ways: Vec<&[&'static str]> = ways.collect();
    match ways[..] {
        [way] if way[0] == "via" && table.get("via").is_none() && table.get("dev").is_none() => {
            let _ = table.boolean("onlink", sink);
            let message = "a route with `onlink`, and without `via`";
            sink.add(&written.span, message, "write the gateway too: `via` and `dev`");
        }
        [way] => {
            let others = ["src", "mtu"].into_iter().filter(|_| fate != Fate::Unicast);
            for key in others.filter(|key| table.get(key).is_some()) {
                let message = format!("`{key}` of a route that is `{}`", fate.name());
                sink.add(&written.span, message, "leave it out: no packet is sent by the route");
            }
            return Some(way[0]);
        }
        [] => {
            let hint = format!("write `via`, `dev`, `nexthops`, `blackhole` or `unreachable` too: {example}");
            sink.add(&written.span, "a route without `via`", hint);
        }
        [first, second, ..] => {
            let message = format!("a route with both `{}` and `{}`", first[0], second[0]);
            sink.add(&written.span, message, "keep one of them: each says where the route leads");
        }
    }
    None
}

/// A way of a route, and its weight.
fn hop(written: &At<&Table<'_>>, sink: &mut Sink) -> Option<(HopDecl, u32)> {
    let table = written.value;
    let via = match table.string("via", sink) {
        Some(text) => Some(parse::next_hop(&text, table.example("via"), sink)?),
        None if table.get("via").is_some() => return None,
        None => None,
    };
    let dev = match table.string("dev", sink) {
        Some(text) => Some(text.with(parse::named::<IfName>(text.value, &text.span, sink)?)),
        None if table.get("dev").is_some() => return None,
        None => None,
    };
    let onlink = table.boolean("onlink", sink).filter(|onlink| onlink.value);
    if let (Some(via), None) = (via.as_ref().filter(|via| is_link_local(via.value)), &dev) {
        let message =
            format!("`{}` is link-local, the same on every link, and the route has no `dev`", via.value);
        sink.add(&via.span, message, format!("name the interface: {}", table.example("dev")));
        return None;
    }
    if let Some(onlink) = onlink.as_ref().filter(|_| via.is_none() || dev.is_none()) {
        let hint = "write both `via` and `dev` with it, or leave it out";
        sink.add(&onlink.span, "`onlink` says that a gateway is on the link of an interface", hint);
        return None;
    }
    Some((HopDecl { via, dev, onlink: onlink.is_some() }, 1))
}

fn nexthops(table: &Table<'_>, sink: &mut Sink) -> Option<Vec<(HopDecl, u32)>> {
    let written = table.array("nexthops", sink);
    let mut hops = Vec::new();
    for each in &written {
        each.value.only_declared(sink);
        let weight = each.value.integer("weight", sink).map_or(1, |weight| weight.value);
        let hop = hop(&each.with(&each.value), sink);
        if each.value.get("via").is_none() {
            let hint = format!("write its gateway: {}", table.example("nexthops"));
            sink.add(&each.span, "a next hop without `via`", hint);
            return None;
        }
        let (hop, _) = hop?;
        let is_same = |other: &HopDecl| {
            let of = |hop: &HopDecl| {
                (hop.via.as_ref().map(|via| via.value), hop.dev.as_ref().map(|dev| dev.value.clone()))
            };
            of(other) == of(&hop)
        };
        if hops.iter().any(|(other, _): &(HopDecl, u32)| is_same(other)) {
            sink.add(&each.span, "the same next hop twice", "write it once, with a `weight`");
            return None;
        }
        hops.push((hop, weight));
    }
    if written.len() < 2 {
        let span = table.get("nexthops").map(toml::Spanned::span).unwrap_or_default();
        sink.add(&span, "`nexthops` are the several ways of a route", "write at least two, or `via` for one");
        return None;
    }
    let span = |(hop, _): &(HopDecl, u32)| hop.via.as_ref().map(|via| via.span.clone()).unwrap_or_default();
    bounded(&mut hops, "nexthops", "a route", keys::MOST_NEXTHOPS, span, sink);
    Some(hops)
}

/// The destination. `default` is of the family of the gateways.
fn destination(written: &At<&str>, hops: &[(HopDecl, u32)], sink: &mut Sink) -> Option<At<IpNet>> {
    if written.value != "default" {
        return addresses::destination(written, sink);
    }
    let vias: Vec<IpAddr> = hops.iter().filter_map(|hop| Some(hop.0.via.as_ref()?.value)).collect();
    if let Some(&via) = vias.iter().find(|via| via.is_ipv6()).or(vias.first()) {
        return Some(written.with(default_by_way_of(via)));
    }
    let message = "a default route without a gateway is of either family";
    sink.add(&written.span, message, "write to = \"0.0.0.0/0\" or to = \"::/0\"");
    None
}

/// Reports what routes name and their namespace does not have: gateways in its subnets, interfaces, source addresses.
pub(super) fn check(declared: &Declared, sink: &mut Sink) {
    let mut interfaces: HashMap<&Place, Vec<&InterfaceDecl>> = HashMap::new();
    for interface in &declared.interfaces {
        interfaces.entry(&interface.place).or_default().push(interface);
    }
    for namespace in &declared.namespaces {
        let place = Place::Namespace(namespace.name.value.clone());
        let own = interfaces.get(&place).map_or(&[][..], Vec::as_slice);
        Here::of(namespace, &place, own, declared).check(sink);
    }
}

/// A device with its addresses, and whether it is up.
type OwnDevice<'d> = (&'d At<IfName>, &'d [At<IpNet>], bool);

/// A namespace with its devices.
struct Here<'d> {
    namespace: &'d NamespaceDecl,
    interfaces: &'d [&'d InterfaceDecl],
    declared: &'d Declared,
    /// Its devices.
    devices: Vec<OwnDevice<'d>>,
    /// Whether a device or an address of it could not be read.
    is_partial: bool,
}

impl<'d> Here<'d> {
    fn of(
        namespace: &'d NamespaceDecl,
        place: &Place,
        interfaces: &'d [&'d InterfaceDecl],
        declared: &'d Declared,
    ) -> Self {
        let bridges = || declared.bridges.iter().filter(|bridge| &bridge.place.value == place);
        let is_partial = declared.partial.contains(place)
            || interfaces.iter().any(|interface| !interface.addresses.is_complete)
            || !namespace.loopback.is_complete
            || bridges().any(|bridge| !bridge.addresses.is_complete);
        let own = interfaces.iter().map(|own| (&own.name, &own.addresses.items[..], own.up));
        let bridges = bridges().map(|bridge| (&bridge.name, &bridge.addresses.items[..], true));
        Self { namespace, interfaces, declared, devices: bridges.chain(own).collect(), is_partial }
    }

    fn check(&self, sink: &mut Sink) {
        for route in self.namespace.routes.iter() {
            if let (Some(adopt), true) = (&self.namespace.adopt, route.hops.is_empty()) {
                let fate = route.route.fate.name();
                let message =
                    format!("a route that is `{fate}` would stay in an adopted namespace after `down`");
                sink.add(&route.span, message, "leave it out, and add it where the namespace is made")
                    .also(&adopt.span, "adopted here");
            }
            for hop in &route.hops {
                let is_known = hop.dev.as_ref().is_none_or(|dev| self.check_device(dev, sink));
                if let Some(via) = hop.via.as_ref().filter(|_| is_known) {
                    self.check_gateway(via, hop, sink);
                }
            }
            self.check_source(route, sink);
        }
    }

    /// Whether the namespace has a device that a route names. Reports it if not, or if it is down.
    fn check_device(&self, dev: &At<IfName>, sink: &mut Sink) -> bool {
        let name = &self.namespace.name.value;
        match self.devices.iter().find(|(device, ..)| device.value == dev.value) {
            Some((_, _, true)) => return true,
            Some((device, _, false)) => {
                let message = format!("a route by `{}`, which is down", dev.value);
                sink.add(&dev.span, message, "take its `up = false` out, or the route")
                    .also(&device.span, "down");
            }
            None if self.is_partial => {}
            None => {
                let here = self.devices.iter().map(|(device, ..)| device.value.as_str());
                let hint = match sink.closest(dev.value.as_str(), here) {
                    Some(closest) => format!("did you mean `{closest}`?"),
                    None => format!("declare it: [namespace.{name}.interface.{}]", dev.value),
                };
                sink.add(&dev.span, format!("`{name}` has no interface `{}`", dev.value), hint)
                    .label("not declared");
            }
        }
        false
    }

    fn check_gateway(&self, via: &At<IpAddr>, hop: &HopDecl, sink: &mut Sink) {
        let name = &self.namespace.name.value;
        let holds = |address: &&At<IpNet>| address.value.contains(&via.value);
        let is_by_it = |device: &&At<IfName>| hop.dev.as_ref().is_none_or(|dev| dev.value == device.value);
        let addresses = |only: bool| {
            let up = self.devices.iter().filter(move |(device, _, up)| *up && (!only || is_by_it(device)));
            up.flat_map(|(_, addresses, _)| addresses.iter())
        };
        let mut own = addresses(false).chain(&self.namespace.loopback.items);
        let own = own.find(|own| own.value.addr() == via.value);
        if let Some(own) = own.filter(|_| !is_link_local(via.value)) {
            let hint = "a gateway is another host; the bridge's own address is the usual one";
            sink.add(&via.span, format!("the gateway {} is `{name}` itself", via.value), hint)
                .also(&own.span, "its own address");
            return;
        }
        if hop.onlink || is_link_local(via.value) {
            return;
        }
        if let Some(own) = addresses(true).find(holds) {
            if !addresses::is_host(&own.value, via.value) {
                let message =
                    format!("the gateway {} is no host in its subnet {}", via.value, own.value.trunc());
                let hint = "the first and the last address of an IPv4 subnet are the subnet's own";
                sink.add(&via.span, message, hint).also(&own.span, "the subnet");
            }
            return;
        }
        let leads_there = |route: &RouteDecl| {
            let [HopDecl { via: None, dev: Some(dev), .. }] = &route.hops[..] else { return false };
            route.route.to.contains(&via.value) && is_by_it(&dev)
        };
        if self.is_partial || self.namespace.routes.iter().any(leads_there) {
            return;
        }
        let down =
            self.interfaces.iter().find(|interface| interface.addresses.items.iter().any(|a| holds(&a)));
        let message = match &hop.dev {
            Some(dev) => {
                format!("`{}` of `{name}` is not in the subnet of its gateway {}", dev.value, via.value)
            }
            None => format!("no interface of `{name}` is in the subnet of its gateway {}", via.value),
        };
        let fault = match down.filter(|down| !down.up) {
            Some(down) => {
                let hint = format!("{} is, but down: take its `up = false` out", down.title());
                sink.add(&via.span, message, hint).also(&down.name.span, "down")
            }
            None => sink.add(&via.span, message, reachable(via.value, hop, self.interfaces, self.declared)),
        };
        fault.label("out of reach");
    }

    /// Reports a source address that the namespace does not have, or that is not usable when the route is added.
    fn check_source(&self, route: &RouteDecl, sink: &mut Sink) {
        let (Some(src), Some(span)) = (route.route.src, &route.src) else { return };
        let name = &self.namespace.name.value;
        let is_it = |at: &At<IpNet>| at.value.addr() == src;
        let owner = self.devices.iter().find(|(_, addresses, _)| addresses.iter().any(is_it));
        match owner {
            None if self.namespace.loopback.items.iter().any(is_it) => {}
            // Its owner may have given it that one.
            None if self.is_partial || self.namespace.adopt.is_some() => {}
            None => {
                let hint = "write one of its addresses, or give it to one of its interfaces";
                sink.add(span, format!("`{name}` does not have the address {src}"), hint);
            }
            Some((device, ..)) => {
                let own = self.interfaces.iter().find(|own| own.name.value == device.value);
                let dad = own.and_then(|own| own.dad.as_ref()).map_or(self.declared.dad, |dad| dad.value);
                if dad && src.is_ipv6() {
                    let message = format!("{src} is checked for duplicates when the route is added");
                    let hint = format!("write `dad = false` under the interface `{}`", device.value);
                    sink.add(span, message, hint).also(&device.span, "its interface");
                }
            }
        }
    }
}

/// The hint for an unreachable gateway: the address of a bridge that the namespace is linked to, if there is one.
fn reachable(via: IpAddr, hop: &HopDecl, interfaces: &[&InterfaceDecl], declared: &Declared) -> String {
    if hop.dev.is_some() {
        return String::from("write `onlink = true` if it is on the interface's link nevertheless");
    }
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
