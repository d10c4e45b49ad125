//! Route netlink requests in bulk, on a blocking socket in one namespace: creates veth pairs, changes many links,
//! addresses and routes, and lists links.

use std::{collections::HashSet, io};

use ipnet::IpNet;
use netlink_packet_core::{Emitable as _, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Parseable as _};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage,
        Prop,
    },
    neighbour::NeighbourAttribute,
    nsid::{NsidAttribute, NsidMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::libc;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{
    Context, Error, FdbEntry, LinkFacts, NetlinkError, Netns, RawLink, Result, bridge, ip,
    links::{self, skip_counters},
    netlink::{self, Reply, sockets},
};
use crate::topology::{IfName, Mac, Place, Route, UplinkRoute};

/// Flags of a request that fails if the object exists.
const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// Flags of a request that replaces an existing object.
const PUT: u16 = NLM_F_CREATE | NLM_F_REPLACE;

/// One change to request, with operation and object for its error.
pub(super) struct Request {
    pub(super) message: Message,
    pub(super) flags: u16,
    pub(super) operation: &'static str,
    pub(super) object: String,
}

/// `NLM_F_APPEND` of linux/netlink.h: adds alternative names or routes to the existing ones.
pub(super) const APPEND: u16 = 0x800;

const RTM_GETLINK: u16 = 18;
const RTM_GETNEIGH: u16 = 30;

/// Operations of errors.
const EXCHANGE: &str = "speak with namespace";
const LIST: &str = "list links of";
const NO_LINK_LOCAL: &str = "quieten port";
const NEW_ROUTE: &str = "add new route";

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
    /// Add a route, in place of an existing one to the same destination.
    Route(&'a Route),
    /// Add a route by an uplink, and its next hop as a permanent neighbour. On the machine, where routes belong to
    /// others, an existing one to the same destination is an error. In the fabric it is replaced.
    UplinkRoute(&'a UplinkRoute),
}

/// A blocking route netlink socket in one namespace. A call returns after its replies have been received.
pub struct RouteSocket {
    socket: Socket,
    netns: Netns,
}

impl RouteSocket {
    /// Connects to `netns`.
    ///
    /// # Errors
    /// A socket cannot be opened there.
    pub fn open(netns: &Netns) -> Result<Self> {
        netns.run(|| Self::here(netns))?
    }

    /// Moves the calling thread into `netns` for good, and connects to it. For threads of a [pool](super::pool).
    ///
    /// # Errors
    /// The namespace cannot be entered, or a socket cannot be opened there.
    pub fn entering(netns: &Netns) -> Result<Self> {
        netns.enter_for_good()?;
        Self::here(netns)
    }

    /// Connects to `netns`, which the calling thread is in.
    pub(super) fn here(netns: &Netns) -> Result<Self> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            // The kernel refuses messages from other processes to a connected socket.
            socket.connect(&SocketAddr::new(0, 0))?;
            // It holds the replies to requests that are sent together. If refused, the default is enough.
            let _ = sockets::force_receive_buffer(&socket);
            Ok::<_, io::Error>(socket)
        };
        let socket = open().doing("open a netlink socket in namespace", netns)?;
        Ok(Self { socket, netns: netns.clone() })
    }

    /// The namespace that it is connected to.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Requests changes, which the kernel makes in this order. Returns the result of each.
    pub(super) fn change(&self, requests: Vec<Request>) -> Result<Vec<Result<()>>> {
        let (messages, names): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .map(|request| ((request.message, request.flags), (request.operation, request.object)))
            .unzip();
        let replies = netlink::change_batch(&self.socket, &messages).doing(EXCHANGE, &self.netns)?;
        let result = |(reply, (operation, object)): (Reply, (&'static str, String))| {
            reply.map(drop).doing(operation, object)
        };
        Ok(replies.into_iter().zip(names).map(result).collect())
    }

    /// Sends requests that have one message as their reply. Returns the bytes of each reply, or the error.
    fn get(&self, requests: &[Message]) -> Result<Vec<Reply>> {
        netlink::get_batch(&self.socket, requests).doing(EXCHANGE, &self.netns)
    }

    /// The socket itself.
    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Requests a dump, and calls `take` with the payload of each message.
    pub(super) fn dump_each(
        &self,
        kind: u16,
        payload: &[u8],
        take: impl FnMut(&[u8]) -> std::result::Result<(), NetlinkError>,
    ) -> std::result::Result<(), NetlinkError> {
        netlink::dump_each(&self.socket, kind, payload, take)
    }

    /// All links of the namespace. The counters are left out, and are zero.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub fn links(&self) -> Result<Vec<LinkFacts>> {
        self.list(false)?.iter().map(|reply| links::parse(reply).doing(LIST, &self.netns)).collect()
    }

    /// The same unparsed: only messages that have changed need [`RawLink::read`].
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub fn raw_links(&self) -> Result<Vec<RawLink>> {
        Ok(self.list(false)?.into_iter().map(RawLink).collect())
    }

    /// The links with these ifindexes, in this order, without counters. `None` stands for one that is gone.
    ///
    /// # Errors
    /// The socket fails.
    pub fn raw_links_at(&self, ifindexes: &[u32]) -> Result<Vec<Option<RawLink>>> {
        let request = |&ifindex: &u32| {
            let mut request = LinkUnspec::new_with_index(ifindex).build();
            skip_counters(&mut request);
            Message::GetLink(request)
        };
        let replies = self.get(&ifindexes.iter().map(request).collect::<Vec<_>>())?;
        let link = |reply: Reply| match reply.doing("look up links of", &self.netns) {
            Ok(payload) => Ok(Some(RawLink(payload))),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        };
        replies.into_iter().map(link).collect()
    }

    fn list(&self, with_counters: bool) -> Result<Vec<Vec<u8>>> {
        let mut request = LinkMessage::default();
        if !with_counters {
            skip_counters(&mut request);
        }
        let mut payload = vec![0; request.buffer_len()];
        request.emit(&mut payload);
        netlink::dump(&self.socket, RTM_GETLINK, &payload).doing(LIST, &self.netns)
    }

    /// The same with only what a reader of counters needs: ifindex, name, the other end, and counters.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub fn counters(&self, with_counters: bool) -> Result<Vec<LinkFacts>> {
        self.list(with_counters)?
            .iter()
            .map(|reply| links::parse_counters(reply).doing(LIST, &self.netns))
            .collect()
    }

    /// The netns id that another namespace has here, as in [`LinkFacts::peer_netns`]. `None` if it has none.
    ///
    /// # Errors
    /// The kernel refuses the request.
    pub fn nsid_of(&self, other: &Netns) -> Result<Option<i32>> {
        let mut request = NsidMessage::default();
        request.attributes.push(NsidAttribute::Fd(other.raw_fd().cast_unsigned()));
        let reply = self.get(&[Message::GetNsId(request)])?.into_iter().next();
        let malformed = |_| NetlinkError::Malformed("a namespace id cannot be parsed");
        let parse = |payload: Vec<u8>| NsidMessage::parse(&payload).map_err(malformed);
        let message = reply.map(|reply| reply.and_then(parse)).transpose();
        let Some(message) = message.doing("look up the id of namespace", other)? else { return Ok(None) };
        Ok(message.attributes.iter().find_map(|attribute| match attribute {
            NsidAttribute::Id(id @ 0..) => Some(*id),
            _ => None,
        }))
    }

    /// The link of this name (or alternative name), if it exists.
    ///
    /// # Errors
    /// The kernel refuses for another reason than that it does not exist.
    pub fn link(&self, name: &str) -> Result<Option<LinkFacts>> {
        let request = Message::GetLink(LinkUnspec::new_with_name(name).build());
        let reply = self.get(&[request])?.pop();
        let link = reply.map(|reply| reply.and_then(|payload| links::parse(&payload))).transpose();
        match link.doing("look up link", name) {
            Err(error) if error.is_missing() => Ok(None),
            other => other,
        }
    }

    /// The ifindexes of links by name, in the order of `names`; `None` for one that does not exist.
    fn indexes(&self, names: &[&str]) -> Result<Vec<Option<u32>>> {
        let link_request = |name: &&str| {
            let mut request = LinkUnspec::new_with_name(name).build();
            skip_counters(&mut request);
            Message::GetLink(request)
        };
        let requests: Vec<_> = names.iter().map(link_request).collect();
        let replies = self.get(&requests)?.into_iter().zip(names);
        let index = |(reply, name): (Reply, &&str)| match reply
            .and_then(|payload| links::parse(&payload))
            .doing("look up link", name)
        {
            Ok(link) => Ok(Some(link.ifindex)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        };
        replies.map(index).collect()
    }

    /// The ifindex of the link of this name.
    ///
    /// # Errors
    /// It does not exist, or the kernel refuses.
    pub fn index(&self, name: &str) -> Result<u32> {
        self.indexes(&[name])?.into_iter().next().flatten().ok_or_else(|| Error::missing_link(name))
    }

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
        let request =
            Request { message: Message::NewNsId(message), flags: 0, operation: "number namespace", object };
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
            .filter_map(|change| match change {
                LinkChange::Address { link, .. } | LinkChange::Subnet { link, .. } => Some(*link),
                LinkChange::UplinkRoute(route) => Some(route.device.as_str()),
                _ => None,
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
                    add(Message::NewLinkProp(named), NEW | APPEND, "name link", altname.to_owned());
                }
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
                let message = Message::NewRoute(ip::subnet_message(index, address)?);
                // Another interface may be in the same subnet.
                add(message, NLM_F_CREATE | APPEND, "add route", ip::subnet_name(address));
            }
            LinkChange::Route(route) => {
                add(Message::NewRoute(ip::route_message(route)?), PUT, "add route", ip::route_name(route));
            }
            LinkChange::UplinkRoute(route) => {
                let link = route.device.as_str();
                let index = indexes.next().flatten().ok_or_else(|| Error::missing_link(link))?;
                let next_hop = Message::NewNeighbour(ip::next_hop_message(index, route));
                add(next_hop, PUT, "add neighbour", format!("{} dev {link}", route.via));
                let (flags, operation) =
                    if route.place == Place::Host { (NEW, NEW_ROUTE) } else { (PUT, "add route") };
                let message = Message::NewRoute(ip::uplink_message(index, route)?);
                add(message, flags, operation, ip::uplink_name(route));
            }
        }
        Ok(())
    }

    /// Refreshes the FDB entries of MACs on ports, as if a frame had just been received there (`NTF_USE`:
    /// `br_fdb_update` in net/bridge/br_fdb.c). A missing entry is learned; a port that does not learn ignores the
    /// request. A kernel with `CONFIG_BRIDGE_VLAN_FILTERING` does the same to the entries in the port's VLANs, which a
    /// frame would do only on a bridge that filters (`br_fdb_add`). Returns the result of each.
    ///
    /// # Errors
    /// The socket fails. A port that is gone only fails its own entry.
    pub fn learn(&self, stations: &[(u32, Mac)]) -> Result<Vec<Result<()>>> {
        let request = |&(port, mac): &(u32, Mac)| Request {
            message: Message::NewNeighbour(bridge::fdb_refresh_message(port, mac)),
            flags: PUT,
            operation: "refresh station",
            object: mac.to_string(),
        };
        self.change(stations.iter().map(request).collect())
    }

    /// Calls `take` with each entry of the FDB of one port, or of all FDBs of the namespace, until it returns false.
    /// Returns whether the dump is complete. The kernel looks at all entries of a bridge for each of its ports, and sends
    /// parts of some hundred entries. If an entry is removed between two parts, it may skip another (`br_fdb_dump` in
    /// net/bridge/br_fdb.c).
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub fn fdb(&mut self, port: Option<u32>, mut take: impl FnMut(FdbEntry) -> bool) -> Result<bool> {
        let family = u8::from(AddressFamily::Bridge);
        // With a filter `struct ifinfomsg`, else `struct ndmsg` (`valid_fdb_dump_legacy` in net/core/rtnetlink.c).
        let (mut filtered, mut all) = ([0; 16], [0; 12]);
        (filtered[0], all[0]) = (family, family);
        filtered[4..8].copy_from_slice(&port.unwrap_or_default().to_ne_bytes());
        let header: &[u8] = if port.is_some() { &filtered } else { &all };
        let dumped = self.dump_each(RTM_GETNEIGH, header, |payload| {
            let entry = FdbEntry::parse(payload)?;
            if entry.is_none_or(&mut take) { Ok(()) } else { Err(NetlinkError::TooLarge) }
        });
        match dumped {
            Err(NetlinkError::TooLarge) => {
                // The rest of the dump ends with its socket.
                *self = Self::open(&self.netns)?;
                Ok(false)
            }
            dumped => dumped.doing("list FDB entries of", &self.netns).map(|()| true),
        }
    }

    /// The FDB entries of these bridges, addresses and VLANs, in this order; `None` for one that does not exist.
    /// Minimum kernel: Linux 5.0 (`ndo_fdb_get`).
    ///
    /// # Errors
    /// The kernel refuses for another reason.
    pub fn fdb_entries(&self, keys: &[(u32, [u8; 6], u16)]) -> Result<Vec<Option<FdbEntry>>> {
        let request = |key: &_| Message::GetNeighbour(bridge::fdb_get_message(key));
        let replies = self.get(&keys.iter().map(request).collect::<Vec<_>>())?;
        let entry = |reply: Reply| match reply {
            Ok(payload) => FdbEntry::parse(&payload),
            // The bridge may be gone, or the device is none (`rtnl_fdb_get` in net/core/rtnetlink.c).
            Err(error)
                if matches!(
                    error.errno(),
                    Some(libc::ENOENT | libc::ENODEV | libc::EINVAL | libc::EOPNOTSUPP)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        };
        replies.into_iter().map(|reply| entry(reply).doing("look up FDB entries of", &self.netns)).collect()
    }

    /// Deletes FDB entries. Without a VLAN, those in each VLAN of the port are deleted too (`br_fdb_delete` in
    /// net/bridge/br_fdb.c). An entry on another port is not. Returns the result of each.
    ///
    /// # Errors
    /// The socket fails.
    pub fn forget(&self, entries: &[FdbEntry]) -> Result<Vec<Result<()>>> {
        let request = |entry: &FdbEntry| {
            let mut message = bridge::fdb_delete_message(entry.port, &entry.mac);
            message.attributes.extend((entry.vlan != 0).then_some(NeighbourAttribute::Vlan(entry.vlan)));
            Request {
                message: Message::DelNeighbour(message),
                flags: 0,
                operation: "forget station",
                object: Mac::unicast(entry.mac).map_or_else(|error| error.to_string(), |mac| mac.to_string()),
            }
        };
        self.change(entries.iter().map(request).collect())
    }

    /// Removes the links that `ours` accepts, as a group. Removing one link waits until the kernel has no reader of it
    /// left (`netdev_run_todo` in net/core/dev.c); removing a group waits once. No other link of the namespace has the
    /// group's number. Links that are gone already are no error. Returns the links that still exist.
    ///
    /// # Errors
    /// The links cannot be listed.
    pub fn delete(&self, ours: impl Fn(&LinkFacts) -> bool) -> Result<Vec<LinkFacts>> {
        let links = self.links()?;
        let to_delete =
            |links: Vec<LinkFacts>| links.into_iter().filter(|link| ours(link)).collect::<Vec<_>>();
        let taken: HashSet<u32> = links.iter().map(|link| link.group).collect();
        let found = to_delete(links);
        if found.is_empty() {
            return Ok(found);
        }
        if found.len() > 1 {
            let group = std::iter::repeat_with(|| fastrand::u32(1 << 16..1 << 31))
                .find(|group| !taken.contains(group));
            self.delete_as_group(&found, group.unwrap_or(u32::MAX))?;
        }
        // A single link, or those that are left of the group.
        let left = if found.len() > 1 { to_delete(self.links()?) } else { found };
        if left.is_empty() {
            return Ok(left);
        }
        let delete = |link: &LinkFacts| Request {
            message: Message::DelLink(LinkUnspec::new_with_index(link.ifindex).build()),
            flags: 0,
            operation: "remove link",
            object: link.name.clone(),
        };
        let _ = self.change(left.iter().map(delete).collect())?;
        Ok(to_delete(self.links()?))
    }

    fn delete_as_group(&self, links: &[LinkFacts], group: u32) -> Result<()> {
        let join = |link: &LinkFacts| Request {
            message: Message::SetLink(grouped(LinkUnspec::new_with_index(link.ifindex).build(), group)),
            flags: 0,
            operation: "remove link",
            object: link.name.clone(),
        };
        let mut requests: Vec<_> = links.iter().map(join).collect();
        requests.push(Request {
            message: Message::DelLink(grouped(LinkMessage::default(), group)),
            flags: 0,
            operation: "remove links of",
            object: self.netns().to_string(),
        });
        // Failures show in the links that are left.
        self.change(requests).map(drop)
    }

    /// The other ends of veths, in any namespace, in the order of `ends`. They are requested from here by netns id
    /// (`IFLA_TARGET_NETNSID`), so that no reference to their namespaces is held. `None` stands for one that is gone.
    /// Returned as unparsed messages: [`RawLink::read`] is only needed for those that have changed.
    ///
    /// # Errors
    /// The socket fails.
    pub fn peers<'e>(
        &self,
        ends: impl Iterator<Item = &'e LinkFacts>,
        with_counters: bool,
    ) -> Result<Vec<Option<RawLink>>> {
        let (mut requests, mut requested) = (Vec::new(), Vec::new());
        for end in ends {
            let request = peer_request(end, with_counters);
            requested.push((request.is_some(), end.name.as_str()));
            requests.extend(request.map(Message::GetLink));
        }
        let mut replies = self.get(&requests)?.into_iter();
        let mut peer =
            |(is_requested, name): (bool, &str)| match replies.by_ref().next().filter(|_| is_requested) {
                None => Ok(None),
                Some(reply) => match reply.doing("look up the peer of", name) {
                    Ok(payload) => Ok(Some(RawLink(payload))),
                    Err(error) if error.is_missing() || error.is_invalid() => Ok(None),
                    Err(error) => Err(error),
                },
            };
        requested.into_iter().map(|end| if end.0 { peer(end) } else { Ok(None) }).collect()
    }
}

/// The request for the other end of a veth; `None` if it has none, or its namespace has no id here.
fn peer_request(end: &LinkFacts, with_counters: bool) -> Option<LinkMessage> {
    let mut request = LinkUnspec::new_with_index(end.peer?).build();
    match end.peer_netns {
        Some(..0) => return None,
        Some(id) => request.attributes.push(LinkAttribute::IfNetnsId(id)),
        None => {}
    }
    if !with_counters {
        skip_counters(&mut request);
    }
    Some(request)
}

fn grouped(mut message: LinkMessage, group: u32) -> LinkMessage {
    message.attributes.push(LinkAttribute::Group(group));
    message
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::sandbox::in_new_namespace;

    #[test]
    fn the_id_of_a_namespace_is_that_of_the_other_ends_in_it() {
        in_new_namespace(|| {
            let (here, [one, two]) =
                (Netns::current().unwrap(), ["one", "two"].map(|name| Netns::create(name).unwrap()));
            let socket = RouteSocket::open(&here).unwrap();
            assert_eq!(socket.nsid_of(&one).unwrap(), None, "nothing leads there");
            let names: [IfName; 3] = ["va", "vb", "e"].map(|name| name.parse().unwrap());
            let mac = |last| Mac::unicast([2, 0, 0, 0, 0, last]).unwrap();
            let end = |name, last| VethEnd { name, mac: mac(last), bridge: None };
            let pair = |name, last, peer_netns| NewVeth {
                end: end(name, last),
                peer: end(&names[2], last + 1),
                peer_netns,
                mtu: None,
            };
            let made = socket.create_veths(&[pair(&names[0], 1, &one), pair(&names[1], 3, &two)]).unwrap();
            assert!(made.iter().all(Result::is_ok), "{made:?}");
            let links = socket.links().unwrap();
            let peer_netns = |name: &str| links.iter().find(|link| link.name == name).unwrap().peer_netns;
            let ids = [&one, &two].map(|netns| socket.nsid_of(netns).unwrap());
            assert_eq!(ids, [peer_netns("va"), peer_netns("vb")]);
            assert!(ids[0].is_some() && ids[0] != ids[1]);
            assert_eq!(socket.nsid_of(&here).unwrap(), Some(0), "found before all others");
            let again = socket.create_veths(&[pair(&names[0], 5, &one)]).unwrap();
            assert!(again[0].as_ref().is_err_and(Error::is_present), "{again:?}");
        });
    }
}
