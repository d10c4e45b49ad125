//! Routes of namespaces.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use rtnetlink::RouteMessageBuilder;

use super::{Error, Result, Rtnl, error::Context, rtnl::dump};
use crate::topology::Route;

/// Default metric of an IPv6 route (`IP6_RT_PRIO_USER`), and that of a route to an interface's subnet
/// (`IP6_RT_PRIO_ADDRCONF`), both of linux/ipv6_route.h. Those of IPv4 are 0.
const IPV6_METRIC: u32 = 1024;
const IPV6_SUBNET_METRIC: u32 = 256;

/// A route of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFacts {
    /// Destination prefix.
    pub to: IpNet,
    /// The gateway, if it has exactly one of its own address family.
    pub via: Option<IpAddr>,
    /// The interface, if it has exactly one.
    pub ifindex: Option<u32>,
    /// `None` for a plain unicast route. Otherwise what happens to packets, such as `blackhole` or `unreachable`.
    pub fate: Option<String>,
    /// Whether it is in the place that [`LinkChange::Route`](super::LinkChange::Route) uses: the main table, with the
    /// default metric.
    pub is_in_place: bool,
    /// Whether it is in the main table.
    pub is_main: bool,
    /// Whether it came with a router advertisement: a route through the router, or a prefix route with a lifetime.
    pub is_advertised: bool,
}

impl RouteFacts {
    /// Whether it is the route to an interface's subnet, without a gateway. It may be in any table, since a VRF has
    /// its own.
    #[must_use]
    pub fn is_of_subnet(&self) -> bool {
        self.via.is_none() && self.ifindex.is_some() && self.fate.is_none()
    }
}

impl Rtnl {
    /// The routes of all tables, except local, broadcast, anycast and multicast routes.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub async fn routes(&self) -> Result<Vec<RouteFacts>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut wanted = RouteMessageBuilder::<IpAddr>::new().build();
            wanted.header.address_family = family;
            let found: Vec<_> = dump(self.handle.route().get(wanted).execute())
                .await
                .doing("list routes of", self.netns())?;
            routes.extend(found.iter().filter_map(parse));
        }
        Ok(routes)
    }

    /// Removes a route. A missing route is not an error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn delete_route(&self, route: &Route) -> Result<()> {
        match self.handle.route().del(message(route)?).execute().await.doing("remove route", name(route)) {
            Err(error) if error.is_missing() => Ok(()),
            other => other,
        }
    }
}

/// Name of a route in errors.
pub(super) fn name(route: &Route) -> String {
    format!("to {} via {}", route.to, route.via)
}

/// The message that adds or removes a route.
pub(super) fn message(route: &Route) -> Result<RouteMessage> {
    let built = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.to.addr(), route.to.prefix_len())
        .and_then(|builder| builder.gateway(route.via));
    let built = built
        .map_err(|error| Error::new("build route", name(route), std::io::Error::other(error.to_string())))?;
    Ok(built.build())
}

/// The message that adds the route to the subnet of an address, as the kernel adds it together with the address
/// (`fib_add_ifaddr` in net/ipv4/fib_frontend.c, `addrconf_prefix_route` in net/ipv6/addrconf.c).
pub(super) fn subnet_message(ifindex: u32, address: IpNet) -> Result<RouteMessage> {
    let built = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(address.network(), address.prefix_len())
        .map_err(|error| {
            Error::new("build route", subnet_name(address), std::io::Error::other(error.to_string()))
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

/// `None` for local, broadcast, anycast and multicast routes.
fn parse(message: &RouteMessage) -> Option<RouteFacts> {
    let ip = |address: &RouteAddress| match address {
        RouteAddress::Inet(ip) => Some(IpAddr::from(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::from(*ip)),
        _ => None,
    };
    let (mut via, mut to, mut ifindex, mut metric) = (None, None, None, 0);
    // A multipath route, or a gateway of the other address family.
    let mut is_otherwise = false;
    let mut expires = false;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Gateway(address) => via = ip(address),
            RouteAttribute::Destination(address) => to = ip(address),
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::CacheInfo(info) => expires = info.expires != 0,
            RouteAttribute::MultiPath(_) | RouteAttribute::Via(_) => is_otherwise = true,
            _ => {}
        }
    }
    let (any, usual) = match message.header.address_family {
        AddressFamily::Inet => (IpAddr::from(Ipv4Addr::UNSPECIFIED), 0),
        _ => (IpAddr::from(Ipv6Addr::UNSPECIFIED), IPV6_METRIC),
    };
    let fate = match message.header.kind {
        RouteType::Unicast if is_otherwise => Some("by several ways".to_owned()),
        RouteType::Unicast => None,
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit | RouteType::Throw => {
            Some(format!("{:?}", message.header.kind).to_lowercase())
        }
        _ => return None,
    };
    let is_main = message.header.table == RouteHeader::RT_TABLE_MAIN;
    Some(RouteFacts {
        to: IpNet::new(to.unwrap_or(any), message.header.destination_prefix_length).ok()?,
        via,
        ifindex,
        fate,
        is_in_place: is_main && metric == usual,
        is_main,
        is_advertised: match message.header.protocol {
            RouteProtocol::Ra => true,
            RouteProtocol::Kernel => message.header.address_family == AddressFamily::Inet6 && expires,
            _ => false,
        },
    })
}
