//! Links: what the kernel reports about them.

use netlink_packet_core::{NLA_TYPE_MASK, NlasIterator, Parseable as _};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoPortData, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
    LinkXdp, XdpAttached,
};

use super::{Context, NetlinkError, Result, netlink};
use crate::topology::OffloadSizes;

pub use netlink_packet_route::link::InfoBridgePort as PortAttribute;

/// Limits on GSO frames that a device sends unsegmented. Larger frames are segmented first (`gso_features_check` in
/// net/core/dev.c). A limit that the kernel does not have is 0 for all devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GsoLimits {
    /// `gso_max_size`, in bytes; applies to IPv4 too before Linux 6.3.
    pub size: u32,
    /// `gso_ipv4_max_size`, in bytes.
    /// Minimum kernel: Linux 6.3 (`gso_ipv4_max_size`); 0 before.
    pub ipv4_size: u32,
    /// `gso_max_segs`.
    pub segments: u32,
}

impl GsoLimits {
    /// Whether no frame of a device with the `other` limits is segmented here.
    #[must_use]
    pub fn admit(self, other: Self) -> bool {
        self.max(other) == self
    }

    /// The maximum of each limit.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            size: self.size.max(other.size),
            ipv4_size: self.ipv4_size.max(other.ipv4_size),
            segments: self.segments.max(other.segments),
        }
    }
}

/// The mode of the XDP program on a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// No program.
    #[default]
    None,
    /// In the driver: `bpf_redirect_peer` bypasses it.
    Native,
    /// In the stack: it sees every frame, however it is delivered.
    Generic,
}

/// The attributes of a link that vethpath uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkFacts {
    /// Its index in its namespace.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its type, such as `veth` or `bridge`.
    pub kind: Option<String>,
    /// Its alias, where ownership marks are.
    pub alias: Option<String>,
    /// Its Ethernet address.
    pub mac: Option<[u8; 6]>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is the loopback device, whatever its name.
    pub loopback: bool,
    /// Whether it is on a bus of the machine, as a network card is.
    /// Minimum kernel: Linux 5.14 (`IFLA_PARENT_DEV_NAME`); false before.
    pub is_physical: bool,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether both it and the other end are up.
    pub running: bool,
    /// Its group; 0 is the default.
    pub group: u32,
    /// Number of users that request promiscuous mode.
    pub promiscuity: u32,
    /// The bridge or other device it belongs to.
    pub controller: Option<u32>,
    /// ifindex of the veth's other end, in its own namespace.
    pub peer: Option<u32>,
    /// The netns id, in its own namespace, of the namespace of the other end; `None` if that is the same.
    pub peer_netns: Option<i32>,
    /// Its limits on GSO frames.
    pub gso: GsoLimits,
    /// The largest frame that GRO makes, in bytes.
    /// Minimum kernel: Linux 5.19 (`IFLA_GRO_MAX_SIZE`); 0 before.
    pub gro_size: u32,
    /// Its XDP program.
    pub xdp: XdpMode,
    /// The program's id, if there is only one program.
    pub xdp_program: Option<u32>,
    /// Received frames that were dropped for lack of room or of a receiver.
    pub dropped: u64,
    /// Sent frames that were dropped since the other end had no room.
    pub refused: u64,
    /// Bridge port attributes, where it is a port; `None` where they could not be read.
    pub port: Option<Vec<PortAttribute>>,
    /// Bridge attributes, where it is a bridge.
    pub bridge: Option<Vec<InfoBridge>>,
    /// Frames sent, bytes sent.
    pub sent: (u64, u64),
    /// Frames received, bytes received.
    pub received: (u64, u64),
}

/// The counters of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Its index in its namespace.
    pub ifindex: u32,
    /// Frames sent, bytes sent.
    pub sent: (u64, u64),
    /// Frames received, bytes received.
    pub received: (u64, u64),
    /// Sent frames that were dropped since the other end had no room.
    pub refused: u64,
}

impl From<&LinkFacts> for LinkCounters {
    fn from(link: &LinkFacts) -> Self {
        let LinkFacts { ifindex, sent, received, refused, .. } = *link;
        Self { ifindex, sent, received, refused }
    }
}

impl LinkFacts {
    /// Parses a message of the kernel.
    pub(crate) fn parse(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut facts = Self {
            ifindex: message.header.index,
            loopback: flags.contains(LinkFlags::Loopback),
            up: flags.contains(LinkFlags::Up),
            running: flags.contains(LinkFlags::LowerUp) && flags.contains(LinkFlags::Up),
            ..Self::default()
        };
        for attribute in message.attributes {
            facts.apply_attribute(attribute);
        }
        facts
    }

    /// Whether nothing but counters differs.
    #[must_use]
    pub fn is_equal_but_for_counters(&self, other: &Self) -> bool {
        let Self { sent, received, dropped, refused, .. } = *other;
        Self { sent, received, dropped, refused, ..self.clone() } == *other
    }

    /// The same with all counters zero.
    #[must_use]
    pub fn without_counters(self) -> Self {
        Self { sent: (0, 0), received: (0, 0), dropped: 0, refused: 0, ..self }
    }

    fn apply_attribute(&mut self, attribute: LinkAttribute) {
        match attribute {
            LinkAttribute::IfName(name) => self.name = name,
            LinkAttribute::IfAlias(alias) => self.alias = Some(alias),
            LinkAttribute::Address(bytes) => self.mac = bytes.try_into().ok(),
            LinkAttribute::Mtu(mtu) => self.mtu = mtu,
            LinkAttribute::Group(group) => self.group = group,
            LinkAttribute::Promiscuity(count) => self.promiscuity = count,
            LinkAttribute::Controller(index) => self.controller = Some(index),
            LinkAttribute::Link(index) => self.peer = Some(index),
            LinkAttribute::LinkNetNsId(id) => self.peer_netns = Some(id),
            LinkAttribute::ParentDevName(_) => self.is_physical = true,
            LinkAttribute::GsoMaxSize(most) => self.gso.size = most,
            LinkAttribute::GsoIpv4MaxSize(most) => self.gso.ipv4_size = most,
            LinkAttribute::GroMaxSize(most) => self.gro_size = most,
            LinkAttribute::GsoMaxSegs(most) => self.gso.segments = most,
            LinkAttribute::Xdp(attributes) => {
                self.xdp = xdp_mode(&attributes);
                self.xdp_program = attributes.iter().find_map(|attribute| match attribute {
                    LinkXdp::ProgId(id) => Some(*id),
                    _ => None,
                });
            }
            LinkAttribute::LinkInfo(infos) => infos.into_iter().for_each(|info| self.apply_info(info)),
            LinkAttribute::Stats64(stats) => {
                self.sent = (stats.tx_packets, stats.tx_bytes);
                self.received = (stats.rx_packets, stats.rx_bytes);
                (self.dropped, self.refused) = (stats.rx_dropped, stats.tx_dropped);
            }
            _ => {}
        }
    }

    /// Its offload sizes. The kernel has those that are given.
    #[must_use]
    pub fn offload_sizes(&self) -> OffloadSizes {
        let size = |size: u32| (size != 0).then_some(size);
        OffloadSizes {
            gso: size(self.gso.size),
            gso_ipv4: size(self.gso.ipv4_size),
            gro: size(self.gro_size),
        }
    }

    fn apply_info(&mut self, info: LinkInfo) {
        match info {
            LinkInfo::Kind(kind) => self.kind = Some(kind.to_string()),
            LinkInfo::Data(InfoData::Bridge(mut attributes)) => {
                attributes.retain(|attribute| !is_timer(attribute));
                self.bridge = Some(attributes);
            }
            LinkInfo::PortData(InfoPortData::BridgePort(mut attributes)) => {
                attributes.retain(|attribute| !is_port_timer(attribute));
                self.port = Some(attributes);
            }
            _ => {}
        }
    }
}

/// Whether an attribute of a bridge changes continuously by itself, or with each address that it learns.
fn is_timer(attribute: &InfoBridge) -> bool {
    matches!(
        attribute,
        InfoBridge::HelloTimer(_)
            | InfoBridge::TcnTimer(_)
            | InfoBridge::TopologyChangeTimer(_)
            | InfoBridge::GcTimer(_)
            | InfoBridge::MulticastQuerierState(_)
            | InfoBridge::FdbNLearned(_)
    )
}

/// The same for a port.
fn is_port_timer(attribute: &PortAttribute) -> bool {
    matches!(
        attribute,
        PortAttribute::MessageAgeTimer(_) | PortAttribute::ForwardDelayTimer(_) | PortAttribute::HoldTimer(_)
    )
}

/// Native unless the kernel reports generic mode or no program.
fn xdp_mode(attributes: &[LinkXdp]) -> XdpMode {
    let attached =
        attributes.iter().find_map(|a| if let LinkXdp::Attached(mode) = a { Some(*mode) } else { None });
    match attached {
        None | Some(XdpAttached::None) => XdpMode::None,
        Some(XdpAttached::SocketBuffer) => XdpMode::Generic,
        Some(_) => XdpMode::Native,
    }
}

/// The kernel's message about a link.
pub struct RawLink(pub(super) Vec<u8>);

impl RawLink {
    /// Its ifindex (`struct ifinfomsg`).
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.0.get(4..8).and_then(|word| word.try_into().ok()).map(u32::from_ne_bytes).unwrap_or_default()
    }

    /// The bytes of the message, for comparison.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The counters of the link: see [`RouteSocket::counters`](super::RouteSocket::counters).
    ///
    /// # Errors
    /// The message cannot be parsed.
    pub fn counters(&self) -> Result<LinkFacts> {
        parse_counters(&self.0).doing("read", "a link")
    }

    /// Parses the message.
    ///
    /// # Errors
    /// The message cannot be parsed.
    pub fn read(&self) -> Result<LinkFacts> {
        parse(&self.0).doing("read", "a link")
    }
}

/// Parses one link's message.
pub(super) fn parse(payload: &[u8]) -> std::result::Result<LinkFacts, NetlinkError> {
    let malformed = || NetlinkError::Malformed("a link cannot be parsed");
    let message = LinkMessage::parse(payload).or_else(|_| LinkMessage::parse(&in_ascii(payload)));
    message.map(LinkFacts::parse).map_err(|_| malformed())
}

/// Parses the message of a bridge about one of its ports. Only `controller` and `port` of the result are set.
pub(super) fn parse_port(payload: &[u8]) -> std::result::Result<LinkFacts, NetlinkError> {
    // `struct ifinfomsg`, and attributes of linux/if_link.h.
    const HEADER: usize = 16;
    const MASTER: u16 = 10;
    const PROTINFO: u16 = 12;
    let malformed = || NetlinkError::Malformed("a bridge port cannot be parsed");
    let mut link = LinkFacts::default();
    for attribute in netlink::attributes(payload.get(HEADER..).ok_or_else(malformed)?) {
        let attribute = attribute?;
        match attribute.kind() & NLA_TYPE_MASK {
            MASTER => {
                link.controller = attribute.value().first_chunk().map(|word| u32::from_ne_bytes(*word));
            }
            PROTINFO => {
                let mut port = Vec::new();
                for attribute in netlink::attributes(attribute.value()) {
                    let attribute = attribute?;
                    port.push(PortAttribute::parse(&attribute).map_err(|_| malformed())?);
                }
                port.retain(|attribute| !is_port_timer(attribute));
                link.port = Some(port);
            }
            _ => {}
        }
    }
    Ok(link)
}

/// The ifindex of a link, and of its other end, if the message has it. A veth whose other end is in another namespace always
/// has it (`rtnl_fill_link_netnsid` in net/core/rtnetlink.c).
pub(super) fn parse_ends(payload: &[u8]) -> std::result::Result<(u32, Option<u32>), NetlinkError> {
    // `struct ifinfomsg`, and an attribute of linux/if_link.h.
    const HEADER: usize = 16;
    const LINK: u16 = 5;
    let malformed = || NetlinkError::Malformed("a link cannot be parsed");
    let (header, rest) = payload.split_first_chunk::<HEADER>().ok_or_else(malformed)?;
    let word = |bytes: &[u8]| bytes.first_chunk().map(|word| u32::from_ne_bytes(*word));
    let mut port = None;
    for attribute in NlasIterator::new(rest) {
        let attribute = attribute.map_err(|_| malformed())?;
        if attribute.kind() == LINK {
            port = word(attribute.value());
        }
    }
    Ok((word(&header[4..]).ok_or_else(malformed)?, port))
}

/// A link's message with `?` for each byte that is not ASCII in its names and its alias. The kernel takes any bytes but
/// `/`, `:` and spaces in a name (`dev_valid_name` in net/core/dev.c), and any in an alias.
fn in_ascii(payload: &[u8]) -> Vec<u8> {
    // `struct ifinfomsg`, `struct nlattr`, its flags, and attributes of linux/if_link.h.
    const HEADER: usize = 16;
    const ATTRIBUTE: usize = 4;
    const FLAGS: u16 = 0xc000;
    const TEXTS: [u16; 4] = [3, 20, 38, 53];
    const PROP_LIST: u16 = 52;
    fn clean(mut rest: &mut [u8]) {
        while let Some((header, _)) = rest.split_first_chunk::<ATTRIBUTE>() {
            let [length, kind] = [0, 2].map(|at| u16::from_ne_bytes([header[at], header[at + 1]]));
            let length = usize::from(length).clamp(ATTRIBUTE, rest.len());
            let (attribute, more) = rest.split_at_mut(length.next_multiple_of(ATTRIBUTE).min(rest.len()));
            let value = &mut attribute[ATTRIBUTE..length];
            match kind & !FLAGS {
                PROP_LIST => clean(value),
                kind if TEXTS.contains(&kind) => {
                    value.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
                }
                _ => {}
            }
            rest = more;
        }
    }
    let mut cleaned = payload.to_vec();
    cleaned.get_mut(HEADER..).map(clean);
    cleaned
}

/// Parses only what a reader of counters needs of one link's message, which takes a tenth of the time.
pub(super) fn parse_counters(payload: &[u8]) -> std::result::Result<LinkFacts, NetlinkError> {
    // `struct ifinfomsg` with its ifindex, `struct rtnl_link_stats64`, and attributes of linux/if_link.h.
    const HEADER: usize = 16;
    const NAME: u16 = 3;
    const LINK: u16 = 5;
    const STATS64: u16 = 23;
    const LINK_NETNSID: u16 = 37;
    let malformed = || NetlinkError::Malformed("a link cannot be parsed");
    let (header, rest) = payload.split_first_chunk::<HEADER>().ok_or_else(malformed)?;
    let word = |bytes: &[u8], at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let mut link = LinkFacts { ifindex: word(header, 4).unwrap_or_default(), ..LinkFacts::default() };
    for attribute in NlasIterator::new(rest) {
        let attribute = attribute.map_err(|_| malformed())?;
        let value = attribute.value();
        let long = |at: usize| {
            let bytes = value.get(at * 8..at * 8 + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_ne_bytes).unwrap_or_default()
        };
        match attribute.kind() {
            NAME => link.name = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned(),
            LINK => link.peer = word(value, 0),
            LINK_NETNSID => link.peer_netns = word(value, 0).map(u32::cast_signed),
            STATS64 => {
                (link.received, link.sent) = ((long(0), long(2)), (long(1), long(3)));
                (link.dropped, link.refused) = (long(6), long(7));
            }
            _ => {}
        }
    }
    Ok(link)
}

/// Whether the message of one link has the counters of its device.
pub(super) fn has_counters(payload: &[u8]) -> bool {
    // `struct ifinfomsg`, and an attribute of linux/if_link.h.
    const HEADER: usize = 16;
    const STATS64: u16 = 23;
    let mut attributes = NlasIterator::new(payload.get(HEADER..).unwrap_or_default());
    attributes.any(|attribute| attribute.is_ok_and(|attribute| attribute.kind() == STATS64))
}

/// Asks the kernel to skip the counters of a link, which take longest to sum up.
pub(super) fn skip_counters(request: &mut LinkMessage) {
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
}
