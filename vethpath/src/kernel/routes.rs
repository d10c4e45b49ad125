//! Routes of namespaces.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage},
};
use rtnetlink::RouteMessageBuilder;

use super::{Error, Result, Rtnl, dump, error::Context};
use crate::topology::Route;

impl Rtnl {
    /// The routes of the main table that go by way of a gateway.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub async fn routes(&self) -> Result<Vec<Route>> {
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

    /// Adds a route in place of another to the same destination, in one step.
    ///
    /// # Errors
    /// The kernel refuses, for example because the gateway is in no subnet of the namespace.
    pub async fn replace_route(&self, route: &Route) -> Result<()> {
        let request = self.handle.route().add(message(route)?).replace();
        request.execute().await.doing("replace route", name(route))
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

/// `None` where the route is of another table or has no gateway.
fn parse(message: &RouteMessage) -> Option<Route> {
    let ip = |address: &RouteAddress| match address {
        RouteAddress::Inet(ip) => Some(IpAddr::from(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::from(*ip)),
        _ => None,
    };
    let find = |wanted: fn(&RouteAttribute) -> Option<&RouteAddress>| {
        message.attributes.iter().find_map(wanted).and_then(ip)
    };
    let via = find(|a| if let RouteAttribute::Gateway(address) = a { Some(address) } else { None })?;
    let any =
        if via.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
    let to = find(|a| if let RouteAttribute::Destination(address) = a { Some(address) } else { None })
        .unwrap_or(any);
    let to = IpNet::new(to, message.header.destination_prefix_length).ok()?;
    (message.header.table == RouteHeader::RT_TABLE_MAIN).then_some(Route { to, via })
}
