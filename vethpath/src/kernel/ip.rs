//! IP in a namespace: addresses, routes, and neighbour tables.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;
use netlink_packet_core::{Emitable as _, NLM_F_CREATE, Nla as _, NlasIterator, Parseable as _};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags,
        RouteProtocol, RouteScope, RouteType, RouteVia,
    },
};
use netlink_sys::protocols::NETLINK_ROUTE;
use rtnetlink::{AddressMessageBuilder, RouteMessageBuilder};

use super::{
    Context, Error, Netns, Result, RouteSocket, Rtnl, blocking,
    netlink::{self, NetlinkError},
    route_socket::{APPEND, Request},
};
use crate::topology::{Family, Route, UplinkRoute};

/// Message types of linux/rtnetlink.h.
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;

impl Rtnl {
    /// Adds an address. IPv6 addresses are usable at once: duplicate address detection is off (`IFA_F_NODAD`), since
    /// the lab knows its addresses. An address that exists already is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn add_address(&self, ifindex: u32, address: IpNet) -> Result<()> {
        let mut request = self.handle()?.address().add(ifindex, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        match request.execute().await.doing("add address", address) {
            Err(error) if error.is_present() => Ok(()),
            other => other,
        }
    }

    /// Removes an address. An address that does not exist is no error. IPv4 addresses of the same subnet that were
    /// added after it may be removed too (`promote_secondaries`).
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn delete_address(&self, ifindex: u32, address: IpNet) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = match address {
            IpNet::V4(_) => AddressFamily::Inet,
            IpNet::V6(_) => AddressFamily::Inet6,
        };
        (message.header.prefix_len, message.header.index) = (address.prefix_len(), ifindex);
        message.attributes.push(AddressAttribute::Local(address.addr()));
        match self.handle()?.address().del(message).execute().await.doing("remove address", address) {
            Err(error) if error.is_missing() || error.is_unassigned() => Ok(()),
            other => other,
        }
    }
}

impl RouteSocket {
    /// All addresses in the namespace, each with the ifindex of its interface.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub fn addresses(&self) -> Result<Vec<(u32, IpNet)>> {
        // `struct ifaddrmsg` with AF_UNSPEC.
        const ANY: [u8; 8] = [0; 8];
        let mut addresses = Vec::new();
        let dumped = self.dump_each(RTM_GETADDR, &ANY, |payload| {
            addresses.extend(parse_address(payload)?);
            Ok(())
        });
        dumped.doing("list addresses of", self.netns())?;
        Ok(addresses)
    }
}

/// Parses an address and the ifindex of its interface; `None` if it has none. The label is left out: it may contain any
/// bytes.
fn parse_address(payload: &[u8]) -> std::result::Result<Option<(u32, IpNet)>, NetlinkError> {
    // `struct ifaddrmsg`, and attributes of linux/if_addr.h.
    const HEADER: usize = 8;
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    let malformed = || NetlinkError::Malformed("an address cannot be parsed");
    let (header, rest) = payload.split_first_chunk::<HEADER>().ok_or_else(malformed)?;
    let [_, length, _, _, index @ ..] = *header;
    let (mut local, mut address) = (None, None);
    for attribute in netlink::attributes(rest) {
        let attribute = attribute?;
        let value = attribute.value();
        let ip = value.try_into().map(|ip: [u8; 4]| IpAddr::from(ip));
        let ip = ip.or_else(|_| value.try_into().map(|ip: [u8; 16]| IpAddr::from(ip)));
        match attribute.kind() {
            LOCAL => local = ip.ok(),
            ADDRESS => address = ip.ok(),
            _ => {}
        }
    }
    // IFA_LOCAL is the interface's own address. On point-to-point links IFA_ADDRESS is the peer's.
    let net = local.or(address).and_then(|ip| IpNet::new(ip, length).ok());
    Ok(net.map(|net| (u32::from_ne_bytes(index), net)))
}

/// The message that adds an address. Without `dad`, IPv6 addresses are usable at once: see [`Rtnl::add_address`].
pub(super) fn address_message(index: u32, address: IpNet, dad: bool) -> AddressMessage {
    let length = address.prefix_len();
    match address {
        IpNet::V4(net) => {
            AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(net.addr(), length).build()
        }
        IpNet::V6(net) => {
            let builder = AddressMessageBuilder::<Ipv6Addr>::new().index(index);
            let mut message = builder.address(net.addr(), length).build();
            if !dad {
                message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            }
            message
        }
    }
}

/// Default metric of an IPv6 route (`IP6_RT_PRIO_USER`), and that of a route to an interface's subnet
/// (`IP6_RT_PRIO_ADDRCONF`), both of linux/ipv6_route.h. Those of IPv4 are 0.
const IPV6_METRIC: u32 = 1024;
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

/// A route that a lab's route replaces, as the kernel reported it, to be added again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerRoute {
    /// Its destination.
    pub to: IpNet,
    /// Its gateway, if it has exactly one of its own address family.
    pub via: Option<IpAddr>,
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
        Some((facts.clone(), Self { to: facts.to, via: facts.via, payload }))
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
    /// The routes that a lab's route to `to` replaces: those in the main table, with the default metric. Those of router
    /// advertisements are left out, since they come again.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub fn replaced_routes(&self, to: &IpNet) -> Result<Vec<FormerRoute>> {
        let mut wanted = [0; 12];
        wanted[0] = u8::from(if to.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 });
        let mut replaced = Vec::new();
        let dumped = self.dump_each(RTM_GETROUTE, &wanted, |payload| {
            let found = FormerRoute::parse(payload);
            let found =
                found.filter(|(facts, _)| facts.to == *to && facts.is_in_place && !facts.is_advertised);
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
        match self
            .handle()?
            .route()
            .del(route_message(route)?)
            .execute()
            .await
            .doing("remove route", route_name(route))
        {
            Err(error) if error.is_missing() => Ok(()),
            other => other,
        }
    }
}

impl Rtnl {
    /// Removes a route by an uplink. A missing route is not an error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn delete_uplink_route(&self, ifindex: u32, route: &UplinkRoute) -> Result<()> {
        let message = uplink_message(ifindex, route)?;
        match self.handle()?.route().del(message).execute().await.doing("remove route", uplink_name(route)) {
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

/// The message that adds the next hop of such a route as a permanent neighbour.
pub(super) fn next_hop_message(ifindex: u32, route: &UplinkRoute) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.ifindex = ifindex;
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet6(route.via)));
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(route.mac.bytes().to_vec()));
    message
}

/// Name of a route in errors.
pub(super) fn route_name(route: &Route) -> String {
    format!("to {} via {}", route.to, route.via)
}

/// The message that adds or removes a route.
pub(super) fn route_message(route: &Route) -> Result<RouteMessage> {
    let built = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.to.addr(), route.to.prefix_len())
        .and_then(|builder| builder.gateway(route.via));
    let built = built
        .map_err(|error| Error::new("build route", route_name(route), io::Error::other(error.to_string())))?;
    Ok(built.build())
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

/// `None` for local, broadcast, anycast and multicast routes.
fn parse_route(message: &RouteMessage) -> Option<RouteFacts> {
    let ip = |address: &RouteAddress| match address {
        RouteAddress::Inet(ip) => Some(IpAddr::from(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::from(*ip)),
        _ => None,
    };
    let (mut via, mut to, mut ifindex, mut metric) = (None, None, None, 0);
    // A multipath route, or a gateway that is no IP address.
    let mut is_otherwise = false;
    let mut expires = false;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Gateway(address) => via = ip(address),
            RouteAttribute::Destination(address) => to = ip(address),
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::CacheInfo(info) => expires = info.expires != 0,
            RouteAttribute::Via(RouteVia::Inet6(ip)) => via = Some(IpAddr::from(*ip)),
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
        is_in_place: is_main && metric == usual && message.header.tos == 0,
        is_main,
        is_advertised: match message.header.protocol {
            RouteProtocol::Ra => true,
            RouteProtocol::Kernel => message.header.address_family == AddressFamily::Inet6 && expires,
            _ => false,
        },
    })
}

/// A neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourTable {
    /// Its address family.
    pub family: Family,
    /// Number of entries, including permanent ones.
    pub entries: u32,
    /// Limit on entries that are not permanent (`gc_thresh3`).
    pub limit: u32,
}

/// The tables, read in any namespace: only the machine's initial namespace has the sysctls.
///
/// # Errors
/// The kernel refuses the dump.
pub fn neighbour_tables(netns: &Netns) -> Result<Vec<NeighbourTable>> {
    const RTM_GETNEIGHTBL: u16 = 66;
    let socket = blocking(netns, NETLINK_ROUTE)?;
    let read = || -> std::result::Result<Vec<_>, NetlinkError> {
        let replies = netlink::dump(&socket, RTM_GETNEIGHTBL, &[0; NDTMSG])?;
        let tables = replies.iter().map(|reply| parse_table(reply));
        tables.filter_map(std::result::Result::transpose).collect()
    };
    read().doing("list neighbour tables in", netns)
}

/// Size of `struct ndtmsg` (linux/neighbour.h).
const NDTMSG: usize = 4;

/// Parses one message; `None` if it has a table's settings for one device (`neightbl_fill_param_info`), or is of
/// another family.
fn parse_table(reply: &[u8]) -> std::result::Result<Option<NeighbourTable>, NetlinkError> {
    const THRESH3: u16 = 4;
    const CONFIG: u16 = 5;
    /// Offset of `ndtc_entries` in `struct ndt_config`.
    const ENTRIES: usize = 4;
    let malformed = || NetlinkError::Malformed("a neighbour table cannot be parsed");
    let (header, attributes) = reply.split_first_chunk::<NDTMSG>().ok_or_else(malformed)?;
    let family = match i32::from(header[0]) {
        nix::libc::AF_INET => Family::Ipv4,
        nix::libc::AF_INET6 => Family::Ipv6,
        _ => return Ok(None),
    };
    let (mut entries, mut limit) = (None, None);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(|_| malformed())?;
        let number = |at: usize| {
            let bytes = attribute.value().get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u32::from_ne_bytes)
        };
        match attribute.kind() {
            THRESH3 => limit = number(0),
            CONFIG => entries = number(ENTRIES),
            _ => {}
        }
    }
    Ok(entries.zip(limit).map(|(entries, limit)| NeighbourTable { family, entries, limit }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tables_are_there_with_their_limits() {
        let tables = neighbour_tables(&Netns::current().unwrap()).unwrap();
        let setting = |family: Family| {
            let path = format!("/proc/sys/{}", family.limit().replace('.', "/"));
            // Only the machine's initial namespace has it.
            std::fs::read_to_string(path).ok().map(|text| text.trim().parse::<u32>().unwrap())
        };
        assert!(tables.iter().any(|table| table.family == Family::Ipv4), "{tables:?}");
        for table in &tables {
            assert!(
                table.limit > 0 && setting(table.family).is_none_or(|limit| limit == table.limit),
                "{table:?}"
            );
        }
    }

    #[test]
    fn what_is_cut_off_is_malformed_and_nothing_panics() {
        assert!(parse_table(&[2, 0, 0]).is_err());
        assert_eq!(parse_table(&[2, 0, 0, 0]).unwrap(), None, "the settings of a device");
        assert_eq!(parse_table(&[99, 0, 0, 0, 1]).unwrap(), None);
        assert!(parse_table(&[2, 0, 0, 0, 9, 0, 4, 0, 1]).is_err());
    }
}
