//! Operations on many links at once.

use std::collections::HashSet;

use ipnet::IpNet;
use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    address::{AddressAttribute, AddressFlags},
    link::{LinkAttribute, LinkMessage, Prop},
    neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    nsid::{NsidAttribute, NsidMessage},
};
use nix::libc;
use rtnetlink::{AddressMessageBuilder, LinkUnspec};

use super::{
    Context, Direct, Error, FdbEntry, LinkFacts, Netns, Result, VethEnd,
    direct::{NEW, PUT, RawLink, Request, leave_out_counters, parse},
    fdb,
    links::{quiet, veth_message},
    routes,
};
use crate::topology::{Mac, Route};

/// `NLM_F_APPEND` of linux/netlink.h: adds alternative names or routes to the existing ones.
const APPEND: u16 = 0x800;

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
        altname: Option<&'a str>,
    },
    /// Bring a link up.
    Up {
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
}

impl Direct {
    /// The ifindexes of links by name, in the order of `names`; `None` for one that does not exist.
    ///
    /// # Errors
    /// The kernel refuses for another reason.
    pub fn indexes(&self, names: &[&str]) -> Result<Vec<Option<u32>>> {
        let question = |name: &&str| {
            let mut question = LinkUnspec::new_with_name(name).build();
            leave_out_counters(&mut question, false);
            Message::GetLink(question)
        };
        let questions: Vec<_> = names.iter().map(question).collect();
        let answers = self.ask(&questions)?.into_iter().zip(names);
        let index = |(answer, name): (std::result::Result<Vec<u8>, _>, &&str)| match answer
            .and_then(|payload| parse(&payload))
            .doing("look up link", name)
        {
            Ok(link) => Ok(Some(link.ifindex)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        };
        answers.map(index).collect()
    }

    /// The ifindex of the link of this name.
    ///
    /// # Errors
    /// It does not exist, or the kernel refuses.
    pub fn index(&self, name: &str) -> Result<u32> {
        self.indexes(&[name])?.into_iter().next().flatten().ok_or_else(|| missing(name))
    }

    /// Creates veth pairs. Returns the result of each. See [`Rtnl::create_veth`](super::Rtnl::create_veth).
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
        self.number_itself()?;
        self.change(pairs.iter().map(request).collect())
    }

    /// Gives the namespace a low netns id in itself. When another namespace's links are read through it by netns id,
    /// the kernel allocates this id anyway, and searches all ids for it at each link (`rtnl_fill_link_netnsid` in
    /// net/core/rtnetlink.c, `__peernet2id` in net/core/net_namespace.c). A low id is found before those of a thousand
    /// hosts.
    fn number_itself(&self) -> Result<()> {
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
    pub fn change_links(&self, acts: &[LinkChange<'_>]) -> Result<()> {
        let named: Vec<&str> = acts
            .iter()
            .filter_map(|act| match act {
                LinkChange::Address { link, .. } | LinkChange::Subnet { link, .. } => Some(*link),
                _ => None,
            })
            .collect();
        let indexes = if named.is_empty() { Vec::new() } else { self.indexes(&named)? };
        let mut indexes = indexes.into_iter();
        let mut requests = Vec::new();
        for act in acts {
            self.requests(act, &mut indexes, &mut requests)?;
        }
        // A kernel without IPv6 assigns no link-local addresses.
        let fine =
            |error: &Error| error.is_present() || (error.operation() == QUIETEN && error.is_unsupported());
        self.change(requests)?.into_iter().try_for_each(|done| match done {
            Err(error) if !fine(&error) => Err(error),
            _ => Ok(()),
        })
    }

    fn requests(
        &self,
        act: &LinkChange<'_>,
        indexes: &mut impl Iterator<Item = Option<u32>>,
        requests: &mut Vec<Request>,
    ) -> Result<()> {
        let mut add = |message, flags, operation, object: String| {
            requests.push(Request { message, flags, operation, object });
        };
        let place = self.netns();
        match *act {
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
            LinkChange::PortUp { link } => {
                let quietened = LinkUnspec::new_with_name(link).append_extra_attribute(quiet()).build();
                add(Message::SetLink(quietened), 0, QUIETEN, format!("{place}:{link}"));
                let up = LinkUnspec::new_with_name(link).up().build();
                add(Message::SetLink(up), 0, "bring up", format!("{place}:{link}"));
            }
            LinkChange::Address { link, address, dad } => {
                let index = indexes.next().flatten().ok_or_else(|| missing(link))?;
                add(
                    Message::NewAddress(address_message(index, address, dad)),
                    NEW,
                    "add address",
                    address.to_string(),
                );
            }
            LinkChange::Subnet { link, address } => {
                let index = indexes.next().flatten().ok_or_else(|| missing(link))?;
                let message = Message::NewRoute(routes::subnet_message(index, address)?);
                // Another interface may be in the same subnet.
                add(message, NLM_F_CREATE | APPEND, "add route", routes::subnet_name(address));
            }
            LinkChange::Route(route) => {
                add(Message::NewRoute(routes::message(route)?), PUT, "add route", routes::name(route));
            }
        }
        Ok(())
    }

    /// Refreshes FDB entries of MACs on ports: see [`Rtnl::learn`](super::Rtnl::learn). Returns the result of each.
    ///
    /// # Errors
    /// The socket fails. A port that is gone only fails its own entry.
    pub fn learn(&self, stations: &[(u32, Mac)]) -> Result<Vec<Result<()>>> {
        let request = |&(port, mac): &(u32, Mac)| {
            let mut message = NeighbourMessage::default();
            message.header.family = AddressFamily::Bridge;
            message.header.ifindex = port;
            message.header.state = NeighbourState::Reachable;
            message.header.flags = NeighbourFlags::Use | NeighbourFlags::Controller;
            message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.bytes().to_vec()));
            Request {
                message: Message::NewNeighbour(message),
                flags: PUT,
                operation: "refresh station",
                object: mac.to_string(),
            }
        };
        self.change(stations.iter().map(request).collect())
    }

    /// Deletes FDB entries of MACs on ports in VLANs: see [`Rtnl::forget`](super::Rtnl::forget). Returns the result of
    /// each.
    ///
    /// # Errors
    /// The socket fails.
    pub fn forget(&self, entries: &[FdbEntry]) -> Result<Vec<Result<()>>> {
        let request = |entry: &FdbEntry| {
            let mac = Mac::unicast(entry.mac).ok()?;
            Some(Request {
                message: Message::DelNeighbour(fdb::delete_message(entry.port, mac, Some(entry.vlan))),
                flags: 0,
                operation: "forget station",
                object: mac.to_string(),
            })
        };
        self.change(entries.iter().filter_map(request).collect())
    }

    /// Removes the links that `ours` accepts, as a group. Removing one link waits until the kernel has no reader of it
    /// left (`netdev_run_todo` in net/core/dev.c); removing a group waits once. No other link of the namespace has the
    /// group's number. Links that are gone already are no error. Returns the links that still exist.
    ///
    /// # Errors
    /// The links cannot be listed.
    pub fn delete(&self, ours: impl Fn(&LinkFacts) -> bool) -> Result<Vec<LinkFacts>> {
        let links = self.links(false)?;
        let doomed = |links: Vec<LinkFacts>| links.into_iter().filter(|link| ours(link)).collect::<Vec<_>>();
        let taken: HashSet<u32> = links.iter().map(|link| link.group).collect();
        let found = doomed(links);
        if found.is_empty() {
            return Ok(found);
        }
        if found.len() > 1 {
            let group = std::iter::repeat_with(|| fastrand::u32(1 << 16..1 << 31))
                .find(|group| !taken.contains(group));
            self.delete_as_group(&found, group.unwrap_or(u32::MAX))?;
        }
        // A single link, or those that are left of the group.
        let left = if found.len() > 1 { doomed(self.links(false)?) } else { found };
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
        Ok(doomed(self.links(false)?))
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

    /// The other ends of veths, in any namespace, in the order of `ends`: see [`Rtnl::peer_of`](super::Rtnl::peer_of).
    /// Returned as unparsed messages: [`RawLink::read`] is only needed for those that have changed.
    ///
    /// # Errors
    /// The socket fails.
    pub fn peers<'e>(
        &self,
        ends: impl Iterator<Item = &'e LinkFacts>,
        counting: bool,
    ) -> Result<Vec<Option<RawLink>>> {
        let (mut questions, mut asked) = (Vec::new(), Vec::new());
        for end in ends {
            let question = question(end, counting);
            asked.push((question.is_some(), end.name.as_str()));
            questions.extend(question.map(Message::GetLink));
        }
        let mut answers = self.ask(&questions)?.into_iter();
        let mut peer = |(is_asked, name): (bool, &str)| match answers.by_ref().next().filter(|_| is_asked) {
            None => Ok(None),
            Some(answer) => match answer.doing("look up the peer of", name) {
                Ok(payload) => Ok(Some(RawLink(payload))),
                Err(error) if error.is_missing() || error.is_invalid() => Ok(None),
                Err(error) => Err(error),
            },
        };
        asked.into_iter().map(|asked| if asked.0 { peer(asked) } else { Ok(None) }).collect()
    }
}

fn missing(link: &str) -> Error {
    Error::new("find link", link, std::io::Error::from_raw_os_error(libc::ENODEV))
}

const QUIETEN: &str = "quieten port";

/// The request for the other end of a veth; `None` if it has none, or its namespace has no id here.
fn question(end: &LinkFacts, counting: bool) -> Option<LinkMessage> {
    let mut question = LinkUnspec::new_with_index(end.peer?).build();
    match end.peer_netns {
        Some(..0) => return None,
        Some(id) => question.attributes.push(LinkAttribute::IfNetnsId(id)),
        None => {}
    }
    leave_out_counters(&mut question, counting);
    Some(question)
}

fn grouped(mut message: LinkMessage, group: u32) -> LinkMessage {
    message.attributes.push(LinkAttribute::Group(group));
    message
}

/// Without `dad`, IPv6 addresses are usable at once: see [`Rtnl::add_address`](super::Rtnl::add_address).
fn address_message(index: u32, address: IpNet, dad: bool) -> netlink_packet_route::address::AddressMessage {
    let length = address.prefix_len();
    match address {
        IpNet::V4(net) => AddressMessageBuilder::<std::net::Ipv4Addr>::new()
            .index(index)
            .address(net.addr(), length)
            .build(),
        IpNet::V6(net) => {
            let builder = AddressMessageBuilder::<std::net::Ipv6Addr>::new().index(index);
            let mut message = builder.address(net.addr(), length).build();
            if !dad {
                message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            }
            message
        }
    }
}
