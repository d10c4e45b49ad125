//! Routes of namespaces.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use rtnetlink::RouteMessageBuilder;

use super::{Error, Result, Rtnl, dump, error::Context};
use crate::topology::Route;

/// Metrics of linux/ipv6_route.h: of a route that has none of its own (`IP6_RT_PRIO_USER`), and of one to an
/// interface's subnet (`IP6_RT_PRIO_ADDRCONF`). IPv4's are 0.
const IPV6_METRIC: u32 = 1024;
const IPV6_SUBNET_METRIC: u32 = 256;

/// A route that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFacts {
    /// Where it leads.
    pub to: IpNet,
    /// The gateway, where it goes by way of one.
    pub via: Option<IpAddr>,
    /// The interface, where it goes by one alone.
    pub ifindex: Option<u32>,
    /// `None` where packets are sent on, or what becomes of them: `blackhole`, `unreachable`.
    pub fate: Option<String>,
    /// Whether it is in the place that [`Act::Route`](super::Act::Route) takes: of the main table, and without a
    /// metric of its own.
    pub is_in_place: bool,
    /// Whether it is of the main table.
    pub is_main: bool,
    /// Whether it came with a router advertisement: one by a router, or one to a prefix for a time.
    pub is_advertised: bool,
}

impl RouteFacts {
    /// Whether it leads to the subnet of an interface, and by no gateway. A VRF has its own table.
    #[must_use]
    pub fn is_of_subnet(&self) -> bool {
        self.via.is_none() && self.ifindex.is_some() && self.fate.is_none()
    }
}

impl Rtnl {
    /// The routes of all tables, but for those to the namespace itself and to all on a link.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub async fn routes(&self) -> Result<Vec<RouteFacts>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut wanted = RouteMessageBuilder::<IpAddr>::new().build();
            wanted.header.address_family = family;
            let found: Vec<_> = dump::all(self.handle.route().get(wanted).execute())
                .await
                .doing("list routes of", self.netns())?;
            routes.extend(found.iter().filter_map(parse));
        }
        Ok(routes)
    }

    /// Removes a route. One that is not there is no error.
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

/// What a route is called.
pub(super) fn name(route: &Route) -> String {
    format!("to {} via {}", route.to, route.via)
}

/// What adds a route, or removes it.
pub(super) fn message(route: &Route) -> Result<RouteMessage> {
    let built = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.to.addr(), route.to.prefix_len())
        .and_then(|builder| builder.gateway(route.via));
    let built = built
        .map_err(|error| Error::new("build route", name(route), std::io::Error::other(error.to_string())))?;
    Ok(built.build())
}

/// What adds the route to the subnet of an address, as the kernel adds it with the address
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

/// What such a route is called.
pub(super) fn subnet_name(address: IpNet) -> String {
    format!("to {}", address.trunc())
}

/// `None` where the route leads to the namespace itself, or to all on a link.
fn parse(message: &RouteMessage) -> Option<RouteFacts> {
    let ip = |address: &RouteAddress| match address {
        RouteAddress::Inet(ip) => Some(IpAddr::from(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::from(*ip)),
        _ => None,
    };
    let (mut via, mut to, mut ifindex, mut metric) = (None, None, None, 0);
    // Of several gateways, or one of the other family.
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
