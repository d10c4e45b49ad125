//! Creates veth pairs, and changes many links, addresses and routes of a namespace in one system call.

use ipnet::IpNet;
use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::{
    RouteNetlinkMessage as Message,
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage,
        Prop,
    },
    nsid::{NsidAttribute, NsidMessage},
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{
    Error, Netns, Result, ip,
    route_socket::{APPEND, NEW, PUT, Request, RouteSocket},
    routes, rules,
};
use crate::topology::{Family, IfName, Mac, Neighbour, OffloadSizes, Place, Route, Rule, UplinkRoute};

/// Operations of errors.
const NO_LINK_LOCAL: &str = "disable the link-local address of";
const NEW_ROUTE: &str = "add new route";
const NO_RULE: &str = "remove rule";
const NO_NEIGHBOUR: &str = "remove neighbour";

/// One end of a veth pair to create.
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// The device's name.
    pub name: &'a IfName,
    /// Its MAC.
    pub mac: Mac,
    /// The bridge that it becomes a port of, by ifindex.
    pub bridge: Option<u32>,
}

/// A veth pair to create.
#[derive(Clone, Copy, Debug)]
pub struct NewVeth<'a> {
    /// The end here.
    pub end: VethEnd<'a>,
    /// The other end.
    pub peer: VethEnd<'a>,
    /// The namespace of the other end.
    pub peer_netns: &'a Netns,
    /// MTU of both ends, in bytes; `None` is the kernel's 1500.
    pub mtu: Option<u32>,
}

/// A change in one namespace.
#[derive(Clone, Copy, Debug)]
pub enum LinkChange<'a> {
    /// Mark a link as ours, and add an alternative name.
    Mark {
        /// Its name.
        link: &'a str,
        /// The mark.
        mark: &'a str,
        /// The alternative name.
        /// Minimum kernel: Linux 5.5 (alternative names).
        altname: Option<&'a str>,
    },
    /// Make a link a port of a bridge.
    Enslave {
        /// Its name.
        link: &'a str,
        /// The bridge, by ifindex.
        bridge: u32,
    },
    /// Bring a link up.
    Up {
        /// Its name.
        link: &'a str,
    },
    /// Take a link down.
    Down {
        /// Its name.
        link: &'a str,
    },
    /// Bring a bridge port up. It gets no IPv6 link-local address: a port is no host.
    PortUp {
        /// Its name.
        link: &'a str,
    },
    /// Set offload sizes of a link. Those that are not given stay.
    Sizes {
        /// Its name.
        link: &'a str,
        /// The sizes.
        sizes: OffloadSizes,
    },
    /// Add an address.
    Address {
        /// Its link, by name.
        link: &'a str,
        /// The address and its subnet.
        address: IpNet,
        /// Whether the kernel runs duplicate address detection for an IPv6 address before it can be used.
        dad: bool,
    },
    /// Add the route to the subnet that an address of a link is in.
    Subnet {
        /// Its name.
        link: &'a str,
        /// The address and its subnet.
        address: IpNet,
    },
    /// Add a route, in place of an existing one with the same key.
    Route(&'a Route),
    /// Add a permanent neighbour, in place of an entry of its address.
    Neighbour {
        /// Its link, by name.
        link: &'a str,
        /// The neighbour.
        neighbour: Neighbour,
    },
    /// Remove a neighbour. One that does not exist is no error.
    NoNeighbour {
        /// Its link, by name.
        link: &'a str,
        /// The neighbour.
        neighbour: Neighbour,
    },
    /// Add a routing rule.
    Rule(&'a Rule, Family),
    /// Remove a routing rule. One that does not exist is no error.
    NoRule(&'a Rule, Family),
    /// Add a route by an uplink, and its next hop as a permanent neighbour. On the machine, where routes belong to
    /// others, an existing one to the same destination is an error. In the fabric it is replaced.
    UplinkRoute(&'a UplinkRoute),
}

impl RouteSocket {
    /// Creates a veth pair: see [`RouteSocket::create_veths`].
    ///
    /// # Errors
    /// A name is taken, or the kernel refuses; then neither end exists.
    pub fn create_veth(&self, pair: NewVeth<'_>) -> Result<()> {
        self.create_veths(&[pair])?.into_iter().collect()
    }

    /// Creates veth pairs, each in one request: both ends with their names, MACs and MTU, both down. Returns the result
    /// of each. If one fails, neither of its ends exists.
    ///
    /// # Errors
    /// The socket fails.
    pub fn create_veths(&self, pairs: &[NewVeth<'_>]) -> Result<Vec<Result<()>>> {
        let request = |pair: &NewVeth<'_>| Request {
            message: Message::NewLink(veth_message(pair.end, pair.peer, pair.peer_netns, pair.mtu)),
            flags: NEW,
            operation: "make veth pair",
            object: format!("{} - {}", pair.end.name, pair.peer.name),
        };
        self.allocate_own_nsid()?;
        self.change(pairs.iter().map(request).collect())
    }

    /// Gives the namespace a low netns id in itself. When another namespace's links are read through it by netns id,
    /// the kernel allocates this id anyway, and searches all ids for it at each link (`rtnl_fill_link_netnsid` in
    /// net/core/rtnetlink.c, `__peernet2id` in net/core/net_namespace.c). A low id is found before those of a thousand
    /// hosts.
    fn allocate_own_nsid(&self) -> Result<()> {
        const ANY: i32 = -1;
        let mut message = NsidMessage::default();
        message.attributes.push(NsidAttribute::Fd(self.netns().raw_fd().cast_unsigned()));
        message.attributes.push(NsidAttribute::Id(ANY));
        let object = self.netns().to_string();
        let request = Request {
            message: Message::NewNsId(message),
            flags: 0,
            operation: "assign a netns id to",
            object,
        };
        // An error is ignored: it may have an id already.
        self.change(vec![request]).map(drop)
    }

    /// Makes all changes, in this order. A change that is in place already is no error.
    ///
    /// # Errors
    /// The first error of the kernel; changes after that one may have been made.
    pub fn change_links(&self, changes: &[LinkChange<'_>]) -> Result<()> {
        let named: Vec<&str> = changes
            .iter()
            .flat_map(|change| match change {
                LinkChange::Address { link, .. }
                | LinkChange::Subnet { link, .. }
                | LinkChange::Neighbour { link, .. }
                | LinkChange::NoNeighbour { link, .. } => vec![*link],
                LinkChange::UplinkRoute(route) => vec![route.device.as_str()],
                LinkChange::Route(route) => routes::devices(route).collect(),
                _ => Vec::new(),
            })
            .collect();
        let indexes = if named.is_empty() { Vec::new() } else { self.indexes(&named)? };
        let mut indexes = indexes.into_iter();
        let mut requests = Vec::new();
        for change in changes {
            self.requests(change, &mut indexes, &mut requests)?;
        }
        // A kernel without IPv6 assigns no link-local addresses.
        let fine = |error: &Error| {
            error.is_present() && error.operation() != NEW_ROUTE
                || error.operation() == NO_LINK_LOCAL && error.is_unsupported()
                || [NO_NEIGHBOUR, NO_RULE].contains(&error.operation()) && error.is_missing()
        };
        self.change(requests)?.into_iter().try_for_each(|done| match done {
            Err(error) if !fine(&error) => Err(error),
            _ => Ok(()),
        })
    }

    fn requests(
        &self,
        change: &LinkChange<'_>,
        indexes: &mut impl Iterator<Item = Option<u32>>,
        requests: &mut Vec<Request>,
    ) -> Result<()> {
        let mut add = |message, flags, operation, object: String| {
            requests.push(Request { message, flags, operation, object });
        };
        let place = self.netns();
        match *change {
            LinkChange::Mark { link, mark, altname } => {
                let marked = LinkUnspec::new_with_name(link).alias(mark).build();
                add(Message::SetLink(marked), 0, "mark link", mark.to_owned());
                if let Some(altname) = altname {
                    let mut named = LinkUnspec::new_with_name(link).build();
                    named.attributes.push(LinkAttribute::PropList(vec![Prop::AltIfName(altname.to_owned())]));
                    add(
                        Message::NewLinkProp(named),
                        NEW | APPEND,
                        "add alternative name",
                        altname.to_owned(),
                    );
                }
            }
            LinkChange::Enslave { link, bridge } => {
                let port = LinkUnspec::new_with_name(link).controller(bridge).build();
                add(Message::SetLink(port), 0, "enslave", format!("{place}:{link}"));
            }
            LinkChange::Up { link } => {
                let up = LinkUnspec::new_with_name(link).up().build();
                add(Message::SetLink(up), 0, "bring up", format!("{place}:{link}"));
            }
            LinkChange::Down { link } => {
                let down = LinkUnspec::new_with_name(link).down().build();
                add(Message::SetLink(down), 0, "take down", format!("{place}:{link}"));
            }
            LinkChange::PortUp { link } => {
                let without_link_local =
                    LinkUnspec::new_with_name(link).append_extra_attribute(no_link_local()).build();
                add(Message::SetLink(without_link_local), 0, NO_LINK_LOCAL, format!("{place}:{link}"));
                let up = LinkUnspec::new_with_name(link).up().build();
                add(Message::SetLink(up), 0, "bring up", format!("{place}:{link}"));
            }
            LinkChange::Sizes { link, sizes } => {
                let mut message = LinkUnspec::new_with_name(link).build();
                // In this order: up to the default, the first also sets the second (`netif_set_gso_max_size`).
                message.attributes.extend(sizes.gso.map(LinkAttribute::GsoMaxSize));
                message.attributes.extend(sizes.gso_ipv4.map(LinkAttribute::GsoIpv4MaxSize));
                message.attributes.extend(sizes.gro.map(LinkAttribute::GroMaxSize));
                add(Message::SetLink(message), 0, "set the offload sizes of", format!("{place}:{link}"));
            }
            LinkChange::Address { link, address, dad } => {
                let index = indexes.next().flatten().ok_or_else(|| Error::missing_link(link))?;
                add(
                    Message::NewAddress(ip::address_message(index, address, dad)),
                    NEW,
                    "add address",
                    address.to_string(),
                );
            }
            LinkChange::Subnet { link, address } => {
                let index = indexes.next().flatten().ok_or_else(|| Error::missing_link(link))?;
                let message = Message::NewRoute(routes::subnet_message(index, address)?);
                // Another interface may be in the same subnet.
                add(message, NLM_F_CREATE | APPEND, "add route", routes::subnet_name(address));
            }
            LinkChange::Route(route) => {
                let message = routes::route_message(route, |_| indexes.next().flatten())?;
                let missing = || Error::missing_link(routes::devices(route).next().unwrap_or_default());
                let message = Message::NewRoute(message.ok_or_else(missing)?);
                add(message, PUT, "add route", routes::route_name(route));
            }
            LinkChange::Neighbour { link, neighbour } => {
                let index = indexes.next().flatten().ok_or_else(|| Error::missing_link(link))?;
                let message = ip::neighbour_message(index, neighbour.address, Some(neighbour.mac));
                add(
                    Message::NewNeighbour(message),
                    PUT,
                    "add neighbour",
                    format!("{} dev {link}", neighbour.address),
                );
            }
            LinkChange::NoNeighbour { link, neighbour } => {
                let index = indexes.next().flatten().ok_or_else(|| Error::missing_link(link))?;
                let message = ip::neighbour_message(index, neighbour.address, None);
                add(
                    Message::DelNeighbour(message),
                    0,
                    NO_NEIGHBOUR,
                    format!("{} dev {link}", neighbour.address),
                );
            }
            LinkChange::Rule(rule, family) => {
                // With NLM_F_EXCL, a rule with more conditions counts as the same (`rule_exists` in
                // net/core/fib_rules.c). Only missing rules are added.
                let message = Message::NewRule(rules::new_message(rule, family));
                add(message, NLM_F_CREATE, "add rule", rules::name(rule));
            }
            LinkChange::NoRule(rule, family) => {
                add(Message::DelRule(rules::message(rule, family)), 0, NO_RULE, rules::name(rule));
            }
            LinkChange::UplinkRoute(route) => {
                let link = route.device.as_str();
                let index = indexes.next().flatten().ok_or_else(|| Error::missing_link(link))?;
                let next_hop =
                    Message::NewNeighbour(ip::neighbour_message(index, route.via.into(), Some(route.mac)));
                add(next_hop, PUT, "add neighbour", format!("{} dev {link}", route.via));
                let (flags, operation) =
                    if route.place == Place::Host { (NEW, NEW_ROUTE) } else { (PUT, "add route") };
                let message = Message::NewRoute(routes::uplink_message(index, route)?);
                add(message, flags, operation, routes::uplink_name(route));
            }
        }
        Ok(())
    }
}

/// The request that creates a veth pair.
fn veth_message(end: VethEnd<'_>, peer: VethEnd<'_>, peer_netns: &Netns, mtu: Option<u32>) -> LinkMessage {
    let mut peer_message = LinkMessageBuilder::<LinkUnspec>::new()
        .name(peer.name.as_str())
        .address(peer.mac.bytes().to_vec())
        .setns_by_fd(peer_netns.raw_fd());
    let mut message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(end.name.as_str())
        .address(end.mac.bytes().to_vec());
    if let Some(mtu) = mtu {
        message = message.mtu(mtu);
        peer_message = peer_message.mtu(mtu);
    }
    if let Some(bridge) = end.bridge {
        message = message.controller(bridge);
    }
    message.set_info_data(InfoData::Veth(InfoVeth::Peer(peer_message.build()))).build()
}

/// The attribute that keeps a port from getting an IPv6 link-local address.
fn no_link_local() -> LinkAttribute {
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
        In6AddrGenMode::None,
    )])])
}
