//! The kernel's state over netlink: a dump costs a hundredth of an `ip` process.
//!
//! This is for state that is read over and over. Each script of tests is also checked with `ip`, `bridge` and `nft`.

use std::collections::HashMap;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{InfoBridgePort, InfoPortData, InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    neighbour::{NeighbourAttribute, NeighbourExtFlags, NeighbourMessage, NeighbourState},
    route::{RouteAttribute, RouteHeader, RouteMessage},
};
use netlink_sys::{
    Socket,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE},
};
use nix::sys::{
    socket::{setsockopt, sockopt::ReceiveTimeout},
    time::TimeVal,
};
use vethpath::kernel::Netns;

/// Receive timeout. The kernel replies at once.
const TIMEOUT: TimeVal = TimeVal::new(30, 0);

/// Bytes of a `struct nlmsghdr`.
const HEADER: usize = 16;

/// A netlink socket in a namespace.
pub(crate) struct Netlink(Socket);

/// A link, with the attributes that tests compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) name: String,
    /// As `ip` writes it: `UP`, `LOWERLAYERDOWN`...
    pub(crate) operstate: String,
    pub(crate) address: Vec<u8>,
    pub(crate) mtu: u32,
    pub(crate) master: Option<String>,
    pub(crate) is_up: bool,
    pub(crate) has_carrier: bool,
    pub(crate) alias: String,
    /// The state of a bridge's port.
    pub(crate) port_state: Option<String>,
}

/// An FDB entry, with the fields of `bridge fdb`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FdbEntry {
    pub(crate) mac: Vec<u8>,
    pub(crate) device: String,
    pub(crate) master: Option<String>,
    /// `NUD_PERMANENT` and `NUD_NOARP` of `linux/neighbour.h`. Whether an entry is stale is left out.
    pub(crate) state: u16,
    /// `NTF_*`.
    pub(crate) flags: u8,
    /// `NTF_EXT_*`, and all other attributes.
    pub(crate) more: Vec<String>,
    pub(crate) vlan: Option<u16>,
}

impl Netlink {
    /// A socket for links, addresses, routes and FDBs of `netns`.
    pub(crate) fn route(netns: &Netns) -> Self {
        Self::open(netns, NETLINK_ROUTE)
    }

    fn open(netns: &Netns, protocol: isize) -> Self {
        let socket = netns.run(|| Socket::new(protocol)).expect("it can be entered").expect("a socket");
        setsockopt(&socket, ReceiveTimeout, &TIMEOUT).expect("it takes a time-out");
        Self(socket)
    }

    /// All links, by ifindex.
    fn links_by_index(&self) -> HashMap<u32, LinkMessage> {
        let links = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()));
        let link = |message| match message {
            RouteNetlinkMessage::NewLink(link) => Some((link.header.index, link)),
            _ => None,
        };
        links.into_iter().filter_map(link).collect()
    }

    /// All links, by name.
    pub(crate) fn links(&self) -> Vec<Link> {
        let links = self.links_by_index();
        let mut all: Vec<_> = links.values().map(|link| Link::new(link, &links)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The FDBs of all bridges, sorted.
    pub(crate) fn fdb(&self) -> Vec<FdbEntry> {
        let mut request = NeighbourMessage::default();
        request.header.family = AddressFamily::Bridge;
        let entries = self.dump(RouteNetlinkMessage::GetNeighbour(request));
        let links = self.links_by_index();
        let entry = |message| match message {
            RouteNetlinkMessage::NewNeighbour(entry) => Some(FdbEntry::new(&entry, &links)),
            _ => None,
        };
        let mut all: Vec<_> = entries.into_iter().filter_map(entry).collect();
        all.sort();
        all
    }

    /// All IPv4 addresses, with their devices.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let mut request = AddressMessage::default();
        request.header.family = AddressFamily::Inet;
        let addresses = self.dump(RouteNetlinkMessage::GetAddress(request));
        let line = |message| match message {
            RouteNetlinkMessage::NewAddress(address) => {
                let is_stable =
                    |attribute: &&AddressAttribute| !matches!(attribute, AddressAttribute::CacheInfo(_));
                let attributes: Vec<_> = address.attributes.iter().filter(is_stable).collect();
                Some(format!("{}/{} {attributes:?}", address.header.index, address.header.prefix_len))
            }
            _ => None,
        };
        addresses.into_iter().filter_map(line).collect()
    }

    /// All IPv4 routes of the main table.
    pub(crate) fn routes(&self) -> Vec<String> {
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        let routes = self.dump(RouteNetlinkMessage::GetRoute(request));
        let line = |message| match message {
            RouteNetlinkMessage::NewRoute(route) if route.header.table == RouteHeader::RT_TABLE_MAIN => {
                let is_stable =
                    |attribute: &&RouteAttribute| !matches!(attribute, RouteAttribute::CacheInfo(_));
                let attributes: Vec<_> = route.attributes.iter().filter(is_stable).collect();
                Some(format!("{:?} {attributes:?}", route.header))
            }
            _ => None,
        };
        routes.into_iter().filter_map(line).collect()
    }

    /// Sets MAC authentication bypass of a bridge port, which iproute2 supports since 6.2. Returns whether it is set:
    /// kernels that do not know the attribute ignore it.
    #[track_caller]
    pub(crate) fn set_mab(&self, port: &str, on: bool) -> bool {
        let is_port = |link: &LinkMessage| {
            let name = LinkAttribute::IfName(port.to_owned());
            link.attributes.contains(&name)
        };
        let find = || self.links_by_index().into_values().find(is_port).expect("the port");
        let mut message = LinkMessage::default();
        message.header.index = find().header.index;
        message.attributes = vec![LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::Mab(on)])),
        ])];
        let payload = NetlinkPayload::from(RouteNetlinkMessage::NewLink(message));
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send(&bytes, 0).expect("the kernel takes requests");
        let (reply, _) = self.0.recv_from_full().expect("the kernel answers");
        assert_eq!(reply.get(HEADER..HEADER + 4), Some(&[0; 4][..]), "the kernel refuses: {reply:?}");
        port_attributes(&find()).contains(&InfoBridgePort::Mab(on))
    }

    fn dump(&self, request: RouteNetlinkMessage) -> Vec<RouteNetlinkMessage> {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(request));
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        // If the state changed during the dump (`NLM_F_DUMP_INTR`), the dump is repeated.
        loop {
            let replies = self.exchange(&bytes);
            if replies.iter().all(|reply| reply.flags & NLM_F_DUMP_INTR == 0) {
                let parse = |reply: Reply| {
                    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&reply.bytes);
                    match message.expect("a message that the crate knows").payload {
                        NetlinkPayload::InnerMessage(message) => message,
                        other => panic!("{other:?}"),
                    }
                };
                return replies.into_iter().map(parse).collect();
            }
        }
    }

    /// Sends a dump request. Returns the messages of the dump, without the one that ends it.
    fn exchange(&self, request: &[u8]) -> Vec<Reply> {
        self.0.send(request, 0).expect("the kernel takes requests");
        let mut replies = Vec::new();
        loop {
            let (bytes, _) = self.0.recv_from_full().expect("the kernel answers");
            let mut rest = &bytes[..];
            while rest.len() >= HEADER {
                let word = |at: usize| u16::from_ne_bytes([rest[at], rest[at + 1]]);
                let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
                let (kind, flags) = (word(4), word(6));
                match kind {
                    NLMSG_DONE => return replies,
                    NLMSG_ERROR => panic!("the kernel refuses a dump: {rest:?}"),
                    _ => replies.push(Reply { flags, bytes: rest[..length].to_vec() }),
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

/// A message from the kernel, beginning with its header.
struct Reply {
    flags: u16,
    bytes: Vec<u8>,
}

/// Names of the tables of nf_tables, with their families.
pub(crate) fn nf_tables(netns: &Netns) -> Vec<String> {
    /// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE`, and `NFTA_TABLE_NAME`.
    const GET_TABLE: u16 = 10 << 8 | 1;
    const NAME: u16 = 1;
    let netlink = Netlink::open(netns, NETLINK_NETFILTER);
    // A `struct nfgenmsg` for all families follows the header.
    let mut request = [0; HEADER + 4];
    request[..4].copy_from_slice(&20_u32.to_ne_bytes());
    request[4..6].copy_from_slice(&GET_TABLE.to_ne_bytes());
    request[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    let table = |reply: Reply| {
        let family = reply.bytes[HEADER];
        let attributes = NlasIterator::new(&reply.bytes[HEADER + 4..]).map(|nla| nla.expect("well formed"));
        let name = attributes.into_iter().find(|nla| nla.kind() == NAME).expect("each table has a name");
        format!("{family} {}", String::from_utf8_lossy(name.value()))
    };
    netlink.exchange(&request).into_iter().map(table).collect()
}

fn name(index: u32, links: &HashMap<u32, LinkMessage>) -> String {
    let name = links.get(&index).and_then(|link| {
        link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        })
    });
    name.unwrap_or_else(|| format!("if{index}"))
}

impl Link {
    fn new(message: &LinkMessage, links: &HashMap<u32, LinkMessage>) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            name: name(message.header.index, links),
            operstate: String::new(),
            address: Vec::new(),
            mtu: 0,
            master: None,
            is_up: flags.contains(LinkFlags::Up),
            has_carrier: flags.contains(LinkFlags::LowerUp),
            alias: String::new(),
            port_state: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::OperState(state) => link.operstate = format!("{state:?}"),
                LinkAttribute::Address(address) => link.address.clone_from(address),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(index) => link.master = Some(name(*index, links)),
                LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
                LinkAttribute::LinkInfo(infos) => link.port_state = infos.iter().find_map(port_state),
                _ => {}
            }
        }
        link
    }
}

/// The attributes of a bridge port.
fn port_attributes(link: &LinkMessage) -> Vec<InfoBridgePort> {
    let infos = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    let ports = infos.flatten().filter_map(|info| match info {
        LinkInfo::PortData(InfoPortData::BridgePort(port)) => Some(port.clone()),
        _ => None,
    });
    ports.flatten().collect()
}

fn port_state(info: &LinkInfo) -> Option<String> {
    let LinkInfo::PortData(InfoPortData::BridgePort(port)) = info else { return None };
    port.iter().find_map(|attribute| match attribute {
        InfoBridgePort::State(state) => Some(format!("{state:?}")),
        _ => None,
    })
}

impl FdbEntry {
    /// Whether this is a sender that was seen on a locked port, to which no frames are forwarded: `NTF_EXT_LOCKED`.
    pub(crate) fn is_locked(&self) -> bool {
        self.more.contains(&format!("{:?}", NeighbourAttribute::ExtFlags(NeighbourExtFlags::Locked)))
    }

    fn new(message: &NeighbourMessage, links: &HashMap<u32, LinkMessage>) -> Self {
        let header = &message.header;
        let state = u16::from(header.state);
        let mut entry = Self {
            mac: Vec::new(),
            device: name(header.ifindex, links),
            master: None,
            state: state & u16::from(NeighbourState::Permanent) | state & u16::from(NeighbourState::Noarp),
            flags: header.flags.bits(),
            more: Vec::new(),
            vlan: None,
        };
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::LinkLayerAddress(mac) => entry.mac.clone_from(mac),
                NeighbourAttribute::Controller(index) => entry.master = Some(name(*index, links)),
                NeighbourAttribute::Vlan(vlan) => entry.vlan = Some(*vlan),
                // Changes with time.
                NeighbourAttribute::CacheInfo(_) => {}
                other => entry.more.push(format!("{other:?}")),
            }
        }
        entry
    }
}
