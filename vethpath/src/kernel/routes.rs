//! Routes of a namespace: what the kernel reports, and the messages that add and remove them.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;
use netlink_packet_core::{Emitable as _, NLM_F_CREATE, Nla as _, Parseable as _};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
        RouteNextHopFlags, RouteProtocol, RouteScope, RouteType, RouteVia,
    },
};
use rtnetlink::RouteMessageBuilder;

use super::{
    Context, Error, Result, RouteSocket, Rtnl,
    netlink::NetlinkError,
    route_socket::{APPEND, Request},
};
use crate::topology::{Fate, IfName, Route, RouteKey, UplinkRoute, usual_metric};

/// Message type of linux/rtnetlink.h.
const RTM_GETROUTE: u16 = 26;

/// Metric of an IPv6 route to an interface's subnet (`IP6_RT_PRIO_ADDRCONF` of linux/ipv6_route.h). That of IPv4 is 0.
const IPV6_SUBNET_METRIC: u32 = 256;

/// A route of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFacts {
    /// Destination prefix.
    pub to: IpNet,
    /// The gateway, if it has exactly one. That of an IPv4 route may be an IPv6 address (`RTA_VIA`, Linux 5.2).
    pub via: Option<IpAddr>,
    /// The interface, if it has exactly one.
    pub ifindex: Option<u32>,
    /// `None` for a plain unicast route. Otherwise what happens to packets, such as `blackhole` or `unreachable`.
    pub fate: Option<String>,
    /// Whether it is in the place that [`LinkChange::Route`](super::LinkChange::Route) uses: the main table, with the
    /// default metric, for any type of service.
    pub is_in_place: bool,
    /// Whether it is for any type of service.
    pub is_any_tos: bool,
    /// Whether it is in the main table.
    pub is_main: bool,
    /// Whether it came with a router advertisement: a route through the router, or a prefix route with a lifetime.
    pub is_advertised: bool,
    /// Whether the kernel has added it by itself.
    pub is_kernels: bool,
    /// What is unique among routes.
    pub key: RouteKey,
    /// Its ways. A blackhole has none.
    pub hops: Vec<HopFacts>,
    /// The source address of packets that are sent by it.
    pub src: Option<IpAddr>,
    /// Its own MTU in bytes.
    pub mtu: Option<u32>,
}

/// A way of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopFacts {
    /// The gateway.
    pub via: Option<IpAddr>,
    /// The interface.
    pub ifindex: u32,
    /// Whether the gateway is taken to be on the interface's link.
    pub onlink: bool,
    /// Its share of the flows.
    pub weight: u32,
}

impl RouteFacts {
    /// Whether it is the route to an interface's subnet, without a gateway. It may be in any table, since a VRF has
    /// its own.
    #[must_use]
    pub fn is_of_subnet(&self) -> bool {
        self.via.is_none() && self.ifindex.is_some() && self.fate.is_none()
    }
}

/// A route that a lab's route replaces, as the kernel reported it, to be added again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerRoute {
    /// Its destination.
    pub to: IpNet,
    /// Its gateway, if it has exactly one of its own address family.
    pub via: Option<IpAddr>,
    /// What is unique among routes.
    pub key: RouteKey,
    /// The payload of its message: `struct rtmsg` and attributes.
    payload: Vec<u8>,
}

impl FormerRoute {
    /// Parses the message of a route; `None` if it is none. What the kernel does not take in a request is left out: the
    /// state of next hops (`fib_create_info` in net/ipv4/fib_semantics.c), and details of next hops beside the id of a
    /// next hop object (`fib_nh_common_init`, `rtm_to_fib_config`).
    fn parse(payload: &[u8]) -> Option<(RouteFacts, Self)> {
        /// `RTA_NH_ID` of linux/rtnetlink.h.
        const NH_ID: u16 = 30;
        let mut message = RouteMessage::parse(payload).ok()?;
        let facts = parse_route(&message)?;
        message.header.flags &= RouteFlags::Onlink;
        let has_object = message.attributes.iter().any(|attribute| attribute.kind() == NH_ID);
        message.attributes.retain(|attribute| match attribute {
            RouteAttribute::CacheInfo(_) => false,
            RouteAttribute::Gateway(_)
            | RouteAttribute::Via(_)
            | RouteAttribute::Oif(_)
            | RouteAttribute::MultiPath(_) => !has_object,
            _ => true,
        });
        for attribute in &mut message.attributes {
            if let RouteAttribute::MultiPath(hops) = attribute {
                hops.iter_mut().for_each(|hop| hop.flags &= RouteNextHopFlags::Onlink);
            }
        }
        let mut payload = vec![0; message.buffer_len()];
        message.emit(&mut payload);
        Some((facts.clone(), Self { to: facts.to, via: facts.via, key: facts.key, payload }))
    }
}

impl FormerRoute {
    /// The ifindexes of the interfaces by which it leads; none if it does not say.
    #[must_use]
    pub fn devices(&self) -> Vec<u32> {
        let facts = RouteMessage::parse(&self.payload).ok().and_then(|message| parse_route(&message));
        facts.map(|facts| facts.hops.iter().map(|hop| hop.ifindex).collect()).unwrap_or_default()
    }
}

/// Hexadecimal digits of the message.
impl fmt::Display for FormerRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.payload.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for FormerRoute {
    type Err = &'static str;

    fn from_str(digits: &str) -> std::result::Result<Self, Self::Err> {
        let pair = |pair: &[u8]| {
            let [high, low] = *pair else { return None };
            let digit = |digit: u8| char::from(digit).to_digit(16);
            u8::try_from(digit(high)? * 16 + digit(low)?).ok()
        };
        let payload: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(pair).collect();
        let parsed = payload.and_then(|payload| Self::parse(&payload));
        parsed.map(|(_, former)| former).ok_or("it is not the message of a route")
    }
}

impl RouteSocket {
    /// The routes that a lab's route with this key replaces. Those of router advertisements are left out, since they come
    /// again.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub fn replaced_routes(&self, key: &RouteKey) -> Result<Vec<FormerRoute>> {
        let mut wanted = [0; 12];
        let is_v4 = key.to.addr().is_ipv4();
        wanted[0] = u8::from(if is_v4 { AddressFamily::Inet } else { AddressFamily::Inet6 });
        let mut replaced = Vec::new();
        let dumped = self.dump_each(RTM_GETROUTE, &wanted, |payload| {
            let found = FormerRoute::parse(payload);
            let found =
                found.filter(|(facts, _)| facts.key == *key && facts.is_any_tos && !facts.is_advertised);
            replaced.extend(found.map(|(_, route)| route));
            Ok(())
        });
        dumped.doing("list routes of", self.netns())?;
        Ok(replaced)
    }

    /// Adds routes again, behind those that there are.
    ///
    /// # Errors
    /// The kernel refuses one, because its device is gone for example. The others are added.
    pub fn restore_routes(&self, routes: &[FormerRoute]) -> Result<()> {
        let request = |route: &FormerRoute| {
            let by = route.via.map_or_else(String::new, |via| format!(" via {via}"));
            let object = format!("to {}{by}", route.to);
            let message = RouteMessage::parse(&route.payload);
            let message = message.map_err(|error| {
                Error::new("restore route", object.clone(), io::Error::other(error.to_string()))
            })?;
            Ok(Request {
                message: Message::NewRoute(message),
                flags: NLM_F_CREATE | APPEND,
                operation: "restore route",
                object,
            })
        };
        let requests = routes.iter().map(request).collect::<Result<_>>()?;
        self.change(requests)?.into_iter().collect()
    }

    /// The routes of all tables, except local, broadcast, anycast and multicast routes.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub fn routes(&self) -> Result<Vec<RouteFacts>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            // `struct rtmsg`
            let mut wanted = [0; 12];
            wanted[0] = u8::from(family);
            let dumped = self.dump_each(RTM_GETROUTE, &wanted, |payload| {
                let message = RouteMessage::parse(payload);
                let message = message.map_err(|_| NetlinkError::Malformed("a route cannot be parsed"))?;
                routes.extend(parse_route(&message));
                Ok(())
            });
            dumped.doing("list routes of", self.netns())?;
        }
        Ok(routes)
    }
}

impl Rtnl {
    /// Removes a route. A missing route is not an error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn delete_route(&self, route: &Route) -> Result<()> {
        let devices: Vec<&str> = devices(route).collect();
        let mut indexes = self.socket().indexes(&devices)?.into_iter();
        // A route by an interface that is gone has gone with it.
        let Some(mut message) = route_message(route, |_| indexes.next().flatten())? else { return Ok(()) };
        // Without one, the kernel removes an IPv6 route with any metric (`ip6_route_del` in net/ipv6/route.c).
        if route.metric.is_none() {
            message.attributes.push(RouteAttribute::Priority(route.key().metric));
        }
        self.delete_route_by(message, route_name(route)).await
    }

    /// Removes a route by an uplink. A missing route is not an error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn delete_uplink_route(&self, ifindex: u32, route: &UplinkRoute) -> Result<()> {
        let message = uplink_message(ifindex, route)?;
        self.delete_route_by(message, uplink_name(route)).await
    }

    async fn delete_route_by(&self, message: RouteMessage, name: String) -> Result<()> {
        match self.handle()?.route().del(message).execute().await.doing("remove route", name) {
            Err(error) if error.is_missing() => Ok(()),
            other => other,
        }
    }
}

/// Name of a route by an uplink in errors.
pub(super) fn uplink_name(route: &UplinkRoute) -> String {
    format!("to {} via {} dev {}", route.to, route.via, route.device)
}

/// The message that adds or removes a route by an uplink. The gateway of an IPv4 route is an IPv6 address: `RTA_VIA`.
/// Minimum kernel: Linux 5.2 (`fib_gw_from_via` in net/ipv4/fib_frontend.c).
pub(super) fn uplink_message(ifindex: u32, route: &UplinkRoute) -> Result<RouteMessage> {
    let built = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.to.addr(), route.to.prefix_len())
        .map_err(|error| {
            Error::new("build route", uplink_name(route), io::Error::other(error.to_string()))
        })?;
    let mut message = built.output_interface(ifindex).build();
    message.attributes.push(match route.to {
        IpNet::V4(_) => RouteAttribute::Via(RouteVia::Inet6(route.via)),
        IpNet::V6(_) => RouteAttribute::Gateway(RouteAddress::Inet6(route.via)),
    });
    Ok(message)
}

/// Name of a route in errors.
pub(super) fn route_name(route: &Route) -> String {
    format!("to {route}")
}

/// The interfaces that a route names, in the order in which [`route_message`] asks for their ifindexes.
pub(super) fn devices(route: &Route) -> impl Iterator<Item = &str> {
    let hops = route.nexthops.iter().filter_map(|hop| hop.dev.as_ref());
    route.dev.iter().chain(hops).map(IfName::as_str)
}

/// The message that adds or removes a route; `None` if there is no such interface.
pub(super) fn route_message(
    route: &Route,
    mut index: impl FnMut(&str) -> Option<u32>,
) -> Result<Option<RouteMessage>> {
    let built = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.to.addr(), route.to.prefix_len())
        .map_err(|error| Error::new("build route", route_name(route), io::Error::other(error.to_string())))?;
    let mut message = built.build();
    message.header.kind = match route.fate {
        Fate::Unicast => RouteType::Unicast,
        Fate::Blackhole => RouteType::BlackHole,
        Fate::Unreachable => RouteType::Unreachable,
    };
    // As ip-route(8) does: what is on the link of an interface is no further away.
    if route.to.addr().is_ipv4() && route.fate == Fate::Unicast && !route.has_gateway() {
        message.header.scope = RouteScope::Link;
    }
    if let Some(table) = route.table {
        // The header has one byte for it.
        message.header.table = u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
        message.attributes.push(RouteAttribute::Table(table));
    }
    let is_v4 = route.to.addr().is_ipv4();
    message.attributes.extend(route.metric.map(RouteAttribute::Priority));
    message.attributes.extend(route.src.map(|src| RouteAttribute::PrefSource(address(src))));
    message.attributes.extend(route.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
    message.attributes.extend(route.via.map(|via| gateway(via, is_v4)));
    if let Some(dev) = &route.dev {
        let Some(index) = index(dev.as_str()) else { return Ok(None) };
        message.attributes.push(RouteAttribute::Oif(index));
    }
    if route.onlink {
        message.header.flags |= RouteFlags::Onlink;
    }
    let mut hops = Vec::new();
    for hop in &route.nexthops {
        let mut next = RouteNextHop::default();
        // `rtnh_hops` is the weight less one.
        next.hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
        if let Some(dev) = &hop.dev {
            let Some(index) = index(dev.as_str()) else { return Ok(None) };
            next.interface_index = index;
        }
        if hop.onlink {
            next.flags |= RouteNextHopFlags::Onlink;
        }
        next.attributes.extend(hop.via.map(|via| gateway(via, is_v4)));
        hops.push(next);
    }
    if !hops.is_empty() {
        message.attributes.push(RouteAttribute::MultiPath(hops));
    }
    Ok(Some(message))
}

fn address(ip: IpAddr) -> RouteAddress {
    match ip {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    }
}

/// The gateway of an IPv4 route may be an IPv6 address: `RTA_VIA`, since Linux 5.2.
fn gateway(via: IpAddr, is_v4: bool) -> RouteAttribute {
    match via {
        IpAddr::V6(via) if is_v4 => RouteAttribute::Via(RouteVia::Inet6(via)),
        via => RouteAttribute::Gateway(address(via)),
    }
}

/// The message that adds the route to the subnet of an address, as the kernel adds it together with the address
/// (`fib_add_ifaddr` in net/ipv4/fib_frontend.c, `addrconf_prefix_route` in net/ipv6/addrconf.c).
pub(super) fn subnet_message(ifindex: u32, address: IpNet) -> Result<RouteMessage> {
    let built = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(address.network(), address.prefix_len())
        .map_err(|error| {
            Error::new("build route", subnet_name(address), io::Error::other(error.to_string()))
        })?;
    let mut message = built.output_interface(ifindex).build();
    message.header.protocol = RouteProtocol::Kernel;
    match address.addr() {
        IpAddr::V4(ip) => {
            message.header.scope = RouteScope::Link;
            message.attributes.push(RouteAttribute::PrefSource(RouteAddress::Inet(ip)));
        }
        IpAddr::V6(_) => message.attributes.push(RouteAttribute::Priority(IPV6_SUBNET_METRIC)),
    }
    Ok(message)
}

/// Name of a subnet route in errors.
pub(super) fn subnet_name(address: IpNet) -> String {
    format!("to {}", address.trunc())
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::from(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::from(*ip)),
        _ => None,
    }
}

/// The address of a gateway, if it is one of IP.
fn gateway_of(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet6(ip)) => Some(IpAddr::from(*ip)),
        _ => None,
    }
}

/// `None` for local, broadcast, anycast and multicast routes.
fn parse_route(message: &RouteMessage) -> Option<RouteFacts> {
    let (mut via, mut to, mut ifindex, mut metric) = (None, None, None, 0);
    let (mut src, mut mtu, mut table) = (None, None, u32::from(message.header.table));
    let mut several: Vec<HopFacts> = Vec::new();
    // A multipath route, or a gateway that is no IP address.
    let mut is_otherwise = false;
    let mut expires = false;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Gateway(_) | RouteAttribute::Via(RouteVia::Inet6(_)) => {
                via = gateway_of(attribute)
            }
            RouteAttribute::Destination(address) => to = ip(address),
            RouteAttribute::PrefSource(address) => src = ip(address),
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::CacheInfo(info) => expires = info.expires != 0,
            RouteAttribute::Metrics(metrics) => mtu = metrics.iter().find_map(mtu_of),
            RouteAttribute::MultiPath(hops) => {
                is_otherwise = true;
                several = hops.iter().map(next_hop).collect();
            }
            RouteAttribute::Via(_) => is_otherwise = true,
            _ => {}
        }
    }
    let any = match message.header.address_family {
        AddressFamily::Inet => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let fate = match message.header.kind {
        RouteType::Unicast if is_otherwise => Some("by several ways".to_owned()),
        RouteType::Unicast => None,
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit | RouteType::Throw => {
            Some(format!("{:?}", message.header.kind).to_lowercase())
        }
        _ => return None,
    };
    let to = IpNet::new(to.unwrap_or(any), message.header.destination_prefix_length).ok()?;
    let onlink = message.header.flags.contains(RouteFlags::Onlink);
    if message.header.kind == RouteType::Unicast && several.is_empty() {
        several.extend(ifindex.map(|ifindex| HopFacts { via, ifindex, onlink, weight: 1 }));
    }
    let is_main = message.header.table == RouteHeader::RT_TABLE_MAIN;
    let is_any_tos = message.header.tos == 0;
    Some(RouteFacts {
        to,
        via,
        ifindex,
        fate,
        is_in_place: is_main && metric == usual_metric(&to) && is_any_tos,
        is_any_tos,
        is_main,
        is_advertised: match message.header.protocol {
            RouteProtocol::Ra => true,
            RouteProtocol::Kernel => message.header.address_family == AddressFamily::Inet6 && expires,
            _ => false,
        },
        is_kernels: matches!(message.header.protocol, RouteProtocol::Kernel | RouteProtocol::IcmpRedirect),
        key: RouteKey { to, table, metric },
        hops: several,
        src,
        mtu,
    })
}

fn mtu_of(metric: &RouteMetric) -> Option<u32> {
    match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    }
}

fn next_hop(hop: &RouteNextHop) -> HopFacts {
    HopFacts {
        via: hop.attributes.iter().find_map(gateway_of),
        ifindex: hop.interface_index,
        onlink: hop.flags.contains(RouteNextHopFlags::Onlink),
        weight: u32::from(hop.hops) + 1,
    }
}
