//! Holes in the routing between namespaces: a router that does not forward, a router without a route, and hosts
//! without a route back. A path over the host, an adopted namespace or an address that no device has is not
//! checked.

use std::{cmp::Reverse, collections::HashSet, net::IpAddr};

use ipnet::IpNet;

use super::net::{Device, Net, is_alone, is_link_local};
use crate::topology::{
    Place, Sysctl,
    declared::{NamespaceDecl, RouteDecl},
    fault::Sink,
    read::At,
};

/// Hops from router to router that are followed in all.
const MOST_HOPS: usize = 1_000_000;
/// Routers on one path.
const MOST_ROUTERS: usize = 64;

/// Warns once for each router and each subnet, not for each host.
pub(super) fn warn(net: &Net<'_>, sink: &mut Sink) {
    if net.declared.namespaces.iter().all(|namespace| namespace.routes.is_empty()) {
        return;
    }
    let mut check = Check { net, left: MOST_HOPS, reported: HashSet::new() };
    let subnets = subnets(net);
    let mut seen: HashSet<(usize, IpNet, IpAddr)> = HashSet::new();
    for namespace in net.declared.namespaces.iter().filter(|namespace| namespace.adopt.is_none()) {
        let place = Place::Namespace(namespace.name.value.clone());
        let Some((&place, _)) = net.places.get_key_value(&place) else { continue };
        for route in namespace.routes.iter() {
            let Some(via) = route.gateway() else { continue };
            let Some((near, source)) = net.on_link(place, via.value) else { continue };
            let router = net.owner(near.segment, via.value);
            // Hosts of one segment with the same gateway are checked once.
            if router.is_some_and(|router| net.known(router.place).is_some())
                && seen.insert((near.segment, route.route.to, via.value))
            {
                let case = Case { from: namespace, place, route, via, segment: near.segment, source };
                subnets.iter().for_each(|subnet| check.check_route(&case, subnet, sink));
            }
        }
    }
}

/// A subnet on a segment, with one host in it.
struct Subnet<'n, 'd> {
    net: IpNet,
    segment: usize,
    host: &'n Device<'d>,
    address: IpAddr,
}

/// The subnets of the lab, without duplicates.
fn subnets<'n, 'd>(net: &'n Net<'d>) -> Vec<Subnet<'n, 'd>> {
    let mut seen = HashSet::new();
    let mut subnets = Vec::new();
    for host in net.devices.iter().filter(|device| device.up) {
        for at in host.addresses.iter().filter(|at| !is_link_local(at.value.addr()) && !is_alone(at.value)) {
            let (net, segment) = (at.value.trunc(), host.segment);
            if seen.insert((segment, net)) {
                subnets.push(Subnet { net, segment, host, address: at.value.addr() });
            }
        }
    }
    subnets
}

/// A route of a namespace, and the source address and segment of packets that use it.
struct Case<'n> {
    from: &'n NamespaceDecl,
    place: &'n Place,
    route: &'n RouteDecl,
    via: &'n At<IpAddr>,
    segment: usize,
    source: IpNet,
}

/// How a packet's path ends.
enum End<'n, 'd> {
    /// On the destination segment. Lists the ingress device of each router on the path.
    There(Vec<&'n Device<'d>>),
    /// At a namespace without a route to the destination.
    Lost(&'n Place),
    /// Not determined by the file.
    Unknown,
}

struct Check<'n, 'd> {
    net: &'n Net<'d>,
    /// The remaining number of hops. A very large lab is only checked in part.
    left: usize,
    /// The warnings already given.
    reported: HashSet<String>,
}

impl<'n, 'd> Check<'n, 'd> {
    /// Follows a route to a subnet of the lab, if it leads there, and the path back.
    fn check_route(&mut self, case: &Case<'n>, to: &Subnet<'n, 'd>, sink: &mut Sink) {
        let is_by_it = case.route.route.to.contains(&to.address)
            && to.host.place != case.place
            && matches!(hop(self.net, case.place, to.address), Hop::Via(via) if via == case.via.value);
        if !self.step() || !is_by_it {
            return;
        }
        match self.walk(case.place, to.address, to.segment) {
            End::There(routers) => {
                let all = self.all_forward(case, to, &routers, sink);
                if all && !self.masquerades(case, &routers) {
                    self.check_return(case, to, &routers, sink);
                }
            }
            // A default route does not imply that every subnet is reachable by it.
            End::Lost(at) if at != case.place && case.route.route.to.prefix_len() > 0 => {
                if self.reported.insert(format!("lost {at} {}", to.net)) {
                    let (from, via) = (&case.from.name.value, case.via.value);
                    let message =
                        format!("`{at}` has no route to {}, to which `{from}` sends via {via}", to.net);
                    let hint = format!("give `{at}` a route to {}, or remove this one", to.net);
                    sink.warn(&case.via.span, message, hint);
                }
            }
            End::Lost(_) | End::Unknown => {}
        }
    }

    /// Warns of routers on the path that do not forward. Returns whether all do.
    fn all_forward(
        &mut self,
        case: &Case<'_>,
        to: &Subnet<'_, '_>,
        routers: &[&'n Device<'d>],
        sink: &mut Sink,
    ) -> bool {
        let is_v4 = to.address.is_ipv4();
        let (family, setting) =
            if is_v4 { ("IPv4", "net.ipv4.ip_forward") } else { ("IPv6", "net.ipv6.conf.all.forwarding") };
        let mut all = true;
        for ingress in routers.iter().filter(|ingress| !forwards(self.net, ingress, is_v4)) {
            all = false;
            let router = ingress.place;
            if self.reported.insert(format!("forward {router} {family}")) {
                let message = format!(
                    "`{}` sends to {} via `{router}`, which does not forward {family}",
                    case.from.name.value, to.net
                );
                let hint = format!("write sysctls = {{ \"{setting}\" = 1 }} under [namespace.{router}]");
                let fault = sink.warn(&case.via.span, message, hint);
                if let Some(router) = self.net.known(router) {
                    fault.also(&router.name.span, "does not forward");
                }
            }
        }
        all
    }

    /// Whether a router on the path masquerades the source address.
    fn masquerades(&self, case: &Case<'_>, routers: &[&'n Device<'d>]) -> bool {
        // The machine masquerades for the fabric: between its bridges, packets keep their addresses.
        let nats = |router: &Place| {
            let bridges = self
                .net
                .declared
                .bridges
                .iter()
                .filter(move |b| b.nat && !self.net.is_fabric(router) && &b.place.value == router);
            bridges
                .flat_map(|bridge| &bridge.addresses.items)
                .any(|at| at.value.contains(&case.source.addr()))
        };
        routers.iter().any(|ingress| nats(ingress.place))
    }

    /// Warns of hosts in a subnet that have no route back to the source.
    fn check_return(
        &mut self,
        case: &Case<'_>,
        to: &Subnet<'_, '_>,
        routers: &[&'n Device<'d>],
        sink: &mut Sink,
    ) {
        let net = self.net;
        let source = case.source.trunc();
        let key = format!("back {} {} {source}", to.segment, to.net);
        if self.reported.contains(&key) {
            return;
        }
        let mut without_route: Vec<(&Device<'_>, &Place)> = Vec::new();
        for host in net.segments[to.segment].iter().map(|&n| &net.devices[n]).filter(|host| host.up) {
            let is_there = host.addresses.iter().any(|at| at.value.trunc() == to.net);
            let is_router = routers.iter().any(|router| router.place == host.place);
            if !is_there || is_router || net.known(host.place).is_none() || !self.step() {
                continue;
            }
            if let End::Lost(at) = self.walk(host.place, case.source.addr(), case.segment) {
                without_route.push((host, at));
            }
        }
        let [(host, at), others @ ..] = &without_route[..] else { return };
        let _ = self.reported.insert(key);
        let others = match others.len() {
            0 => String::new(),
            n => format!(", nor do those to {n} more hosts there"),
        };
        let message = format!(
            "`{at}` has no route back to {source}: packets from `{}` to `{}` get no reply{others}",
            case.from.name.value,
            host.title()
        );
        let by = routers.last().and_then(|router| {
            let own = net.own(router.place).filter(|own| own.segment == to.segment);
            own.flat_map(|own| own.addresses).find(|at| at.value.trunc() == to.net)
        });
        let hint = match by.filter(|_| *at == host.place) {
            Some(by) => format!(
                "write routes = [{{ to = \"{source}\", via = \"{}\" }}] there, or a gateway",
                by.value.addr()
            ),
            None => format!("give `{at}` a route to {source}"),
        };
        sink.warn(&case.via.span, message, hint).also(host.span, "cannot reply");
    }

    /// Follows the path hop by hop, whether or not the routers forward.
    fn walk(&mut self, from: &'n Place, to: IpAddr, segment: usize) -> End<'n, 'd> {
        let net = self.net;
        let (mut place, mut routers) = (from, Vec::new());
        while routers.len() < MOST_ROUTERS && net.known(place).is_some() && self.step() {
            match hop(net, place, to) {
                Hop::Here(here) if here == segment => return End::There(routers),
                Hop::Here(_) | Hop::Unknown => return End::Unknown,
                Hop::Nowhere if net.is_fabric(place) && net.uplink().is_some() => return End::Unknown,
                Hop::Nowhere => return End::Lost(place),
                Hop::Via(via) => {
                    let next = net.on_link(place, via).and_then(|(near, _)| net.owner(near.segment, via));
                    let Some(next) = next else { return End::Unknown };
                    place = next.place;
                    routers.push(next);
                }
            }
        }
        End::Unknown
    }

    fn step(&mut self) -> bool {
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// The routing decision of a namespace.
pub(super) enum Hop {
    /// The destination is on this connected segment.
    Here(usize),
    /// By this gateway.
    Via(IpAddr),
    /// No route.
    Nowhere,
    /// Not determined by gateways in the main table.
    Unknown,
}

/// The longest prefix of connected subnets and routes. A connected subnet is preferred to a route of equal length.
pub(super) fn hop(net: &Net<'_>, place: &Place, to: IpAddr) -> Hop {
    if net.known(place).is_some_and(|namespace| !namespace.rules.is_empty()) {
        return Hop::Unknown;
    }
    let own = net.on_link(place, to);
    let routes = net.known(place).map_or(&[][..], |namespace| &namespace.routes[..]);
    let fitting = routes.iter().filter(|route| route.route.table.is_none() && route.route.to.contains(&to));
    let order = |route: &&RouteDecl| (route.route.to.prefix_len(), Reverse(route.route.key().metric));
    let by = |route: &RouteDecl| route.gateway().map_or(Hop::Unknown, |via| Hop::Via(via.value));
    match (own, fitting.max_by_key(order)) {
        (Some((_, net)), Some(route)) if route.route.to.prefix_len() > net.prefix_len() => by(route),
        (Some((near, _)), _) => Hop::Here(near.segment),
        (None, Some(route)) => by(route),
        (None, None) => Hop::Nowhere,
    }
}

/// Whether packets that arrive at `ingress` for another host are forwarded, as far as the file determines it.
fn forwards(net: &Net<'_>, ingress: &Device<'_>, is_v4: bool) -> bool {
    let place = ingress.place;
    let Some(namespace) = net.known(place) else { return true };
    let of_interfaces = net.own(place).filter_map(|device| device.interface).flat_map(|own| &own.sysctls);
    let mut settings = namespace.sysctls.iter().chain(of_interfaces);
    settings.any(|setting| lets_on(&setting.value, ingress.name.as_str(), is_v4)) || by_nat(net, place, is_v4)
}

/// IPv4 checks the ingress device (`IN_DEV_FORWARD`). IPv6 checks the namespace, and since recently the device too
/// (`force_forwarding`).
fn lets_on(setting: &Sysctl, ingress: &str, is_v4: bool) -> bool {
    let path: Vec<&str> = setting.key.path().iter().map(String::as_str).collect();
    let about_it = |device: &str| [ingress, "all", "default"].contains(&device);
    let is_it = match path[..] {
        ["net", "ipv4", "ip_forward"] => is_v4,
        ["net", "ipv4", "conf", device, "forwarding"] => is_v4 && about_it(device),
        ["net", "ipv6", "conf", "all", "forwarding"] => !is_v4,
        ["net", "ipv6", "conf", device, "force_forwarding"] => !is_v4 && about_it(device),
        _ => false,
    };
    is_it && setting.value.trim() != "0"
}

/// `nat` on a bridge enables forwarding in its namespace, for the address families of its subnets.
fn by_nat(net: &Net<'_>, place: &Place, is_v4: bool) -> bool {
    let bridges = net.declared.bridges.iter().filter(|bridge| bridge.nat && &bridge.place.value == place);
    bridges
        .flat_map(|bridge| &bridge.addresses.items)
        .any(|at| at.value.addr().is_ipv4() == is_v4 && !is_link_local(at.value.addr()))
}
