//! A blocking route netlink socket in one namespace: sends requests in batches, lists links and deletes them.

use std::{collections::HashSet, io, sync::OnceLock};

use netlink_packet_core::{Emitable as _, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Parseable as _};
use netlink_packet_route::{
    RouteNetlinkMessage as Message,
    link::{LinkAttribute, LinkMessage},
    nsid::{NsidAttribute, NsidMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::LinkUnspec;

use super::{
    Context, Error, LinkFacts, NetlinkError, Netns, NetnsId, RawLink, Result,
    links::{self, skip_counters},
    namespace_id,
    netlink::{self, Reply, sockets},
};

/// Flags of a request that fails if the object exists.
pub(super) const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// Flags of a request that replaces an existing object.
pub(super) const PUT: u16 = NLM_F_CREATE | NLM_F_REPLACE;

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

/// Operations of errors.
const EXCHANGE: &str = "exchange netlink messages with namespace";
const LIST: &str = "list links of";

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
    ///
    /// # Errors
    /// A socket cannot be opened.
    pub fn here(netns: &Netns) -> Result<Self> {
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

    /// The identity of the namespace that it is connected to. With a cookie, it is unique until the machine reboots.
    ///
    /// # Errors
    /// Never in practice: the namespace is open.
    pub fn netns_id(&self) -> Result<NetnsId> {
        Ok(NetnsId { inode: self.netns.inode()?, cookie: namespace_id::netns_cookie_of(&self.socket) })
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
    pub(super) fn get(&self, requests: &[Message]) -> Result<Vec<Reply>> {
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
    pub fn indexes(&self, names: &[&str]) -> Result<Vec<Option<u32>>> {
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

    /// The counters of links in any namespace, with what [`counters`](Self::counters) has of a link: calls `take` with the
    /// position of each one in `links`. One that is gone is left out. They are requested from here, as by
    /// [`peers`](Self::peers).
    ///
    /// # Errors
    /// The socket fails.
    pub fn counters_at(&self, links: &[LinkAt], mut take: impl FnMut(usize, LinkFacts)) -> Result<()> {
        let skips_some = self.can_skip_some_counters();
        let request = |at: &LinkAt| {
            let mut request = at.request()?;
            if skips_some {
                skip_counters(&mut request);
            }
            Some(request)
        };
        let is_asked = |position: &usize| !matches!(links[*position].netns, Some(..0));
        let positions: Vec<usize> = (0..links.len()).filter(is_asked).collect();
        let requests = positions.iter().filter_map(|position| request(&links[*position]));
        let mut failure = Ok(());
        let take = |number: usize, reply: std::result::Result<&[u8], NetlinkError>| match reply
            .and_then(links::parse_counters)
            .doing("look up an inner end from", &self.netns)
        {
            Ok(link) => take(positions[number], link),
            Err(error) if error.is_missing() || error.is_invalid() => {}
            Err(error) => failure = Err(error),
        };
        netlink::get_each(&self.socket, requests.map(Message::GetLink), take).doing(EXCHANGE, &self.netns)?;
        failure
    }

    /// Whether the kernel, asked to skip counters, skips only those of IPv6, which take a fifth of the time of a request
    /// (`inet6_fill_ifla6_attrs` in net/ipv6/addrconf.c). Linux 6.18 does. A kernel that skips those of the device too
    /// (`rtnl_fill_ifinfo` in net/core/rtnetlink.c) must not be asked.
    fn can_skip_some_counters(&self) -> bool {
        static CAN: OnceLock<bool> = OnceLock::new();
        /// `LOOPBACK_IFINDEX` of net/net_namespace.h. Every namespace has it.
        const LOOPBACK: u32 = 1;
        *CAN.get_or_init(|| {
            let loopback = self.raw_links_at(&[LOOPBACK]).unwrap_or_default();
            loopback.into_iter().flatten().any(|link| links::has_counters(link.bytes()))
        })
    }
}

/// Where a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAt {
    /// Its ifindex, in its namespace.
    pub ifindex: u32,
    /// The id of its namespace in that of the socket; `None` if it is the same.
    pub netns: Option<i32>,
}

impl LinkAt {
    /// The request for it; `None` if its namespace has no id here.
    fn request(self) -> Option<LinkMessage> {
        let mut request = LinkUnspec::new_with_index(self.ifindex).build();
        match self.netns {
            Some(..0) => return None,
            Some(id) => request.attributes.push(LinkAttribute::IfNetnsId(id)),
            None => {}
        }
        Some(request)
    }
}

/// The request for the other end of a veth; `None` if it has none, or its namespace has no id here.
fn peer_request(end: &LinkFacts, with_counters: bool) -> Option<LinkMessage> {
    let mut request = LinkAt { ifindex: end.peer?, netns: end.peer_netns }.request()?;
    if !with_counters {
        skip_counters(&mut request);
    }
    Some(request)
}

fn grouped(mut message: LinkMessage, group: u32) -> LinkMessage {
    message.attributes.push(LinkAttribute::Group(group));
    message
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::{
        kernel::{
            NewVeth, VethEnd,
            sandbox::{in_new_namespace, run},
        },
        topology::{IfName, Mac},
    };

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

    #[test]
    fn counters_are_those_of_the_device_whichever_are_skipped() {
        in_new_namespace(|| {
            run("ip", &["link", "set", "lo", "up"]);
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            sender.send_to(b"hello", sender.local_addr().unwrap()).unwrap();
            let socket = RouteSocket::open(&Netns::current().unwrap()).unwrap();
            let loopback = socket.counters(true).unwrap().remove(0);
            assert!(loopback.name == "lo" && loopback.sent.0 > 0, "{loopback:?}");
            let at = |ifindex, netns| LinkAt { ifindex, netns };
            let links = [at(4000, None), at(loopback.ifindex, Some(-1)), at(loopback.ifindex, None)];
            let mut found = Vec::new();
            socket.counters_at(&links, |position, link| found.push((position, link))).unwrap();
            assert_eq!(found, [(2, loopback)]);
        });
    }
}
