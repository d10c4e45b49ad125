//! Links: creates veth pairs, changes and removes links, and reads their attributes.

use futures_util::TryStreamExt;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoData, InfoKind, InfoPortData, InfoVeth,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{Error, Netns, Result, Rtnl, error::Context, rtnl::dump};
use crate::topology::{IfName, Mac};

pub use netlink_packet_route::link::InfoBridgePort as PortAttribute;

/// Limits on GSO frames that a device sends unsegmented. Larger frames are segmented first (`gso_features_check` in
/// net/core/dev.c). A limit that the kernel does not have is 0 for all devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GsoLimits {
    /// `gso_max_size`, in bytes; applies to IPv4 too before Linux 6.3.
    pub size: u32,
    /// `gso_ipv4_max_size`, in bytes.
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
            LinkAttribute::GsoMaxSize(most) => self.gso.size = most,
            LinkAttribute::GsoIpv4MaxSize(most) => self.gso.ipv4_size = most,
            LinkAttribute::GsoMaxSegs(most) => self.gso.segments = most,
            LinkAttribute::Xdp(attributes) => {
                self.xdp = xdp_mode(&attributes);
                self.xdp_program = attributes.iter().find_map(|attribute| match attribute {
                    LinkXdp::ProgId(id) => Some(*id),
                    _ => None,
                });
            }
            LinkAttribute::LinkInfo(infos) => infos.into_iter().for_each(|info| self.note_info(info)),
            LinkAttribute::Stats64(stats) => {
                self.sent = (stats.tx_packets, stats.tx_bytes);
                self.received = (stats.rx_packets, stats.rx_bytes);
                (self.dropped, self.refused) = (stats.rx_dropped, stats.tx_dropped);
            }
            _ => {}
        }
    }

    fn note_info(&mut self, info: LinkInfo) {
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

/// Whether an attribute of a bridge changes continuously by itself.
fn is_timer(attribute: &InfoBridge) -> bool {
    matches!(
        attribute,
        InfoBridge::HelloTimer(_)
            | InfoBridge::TcnTimer(_)
            | InfoBridge::TopologyChangeTimer(_)
            | InfoBridge::GcTimer(_)
            | InfoBridge::MulticastQuerierState(_)
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

/// The request that creates a veth pair: see [`Rtnl::create_veth`].
pub(super) fn veth_message(
    end: VethEnd<'_>,
    peer: VethEnd<'_>,
    peer_netns: &Netns,
    mtu: Option<u32>,
) -> LinkMessage {
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
pub(super) fn quiet() -> LinkAttribute {
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
        In6AddrGenMode::None,
    )])])
}

impl Rtnl {
    /// Creates a veth pair in one request: `end` here, `peer` in `peer_netns`, both with their names, MACs and MTU
    /// (bytes; `None` is the kernel's 1500), both down.
    ///
    /// # Errors
    /// A name is taken, or the kernel refuses; then neither end exists.
    pub async fn create_veth(
        &self,
        end: VethEnd<'_>,
        peer: VethEnd<'_>,
        peer_netns: &Netns,
        mtu: Option<u32>,
    ) -> Result<()> {
        let message = veth_message(end, peer, peer_netns, mtu);
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .doing("make veth pair", format_args!("{} - {}", end.name, peer.name))
    }

    /// Marks a link as ours, and adds an alternative name for users.
    ///
    /// # Errors
    /// The link is gone, or the alternative name is taken.
    pub async fn mark(&self, ifindex: u32, mark: &str, altname: Option<&str>) -> Result<()> {
        let message = LinkUnspec::new_with_index(ifindex).alias(mark).build();
        self.handle.link().set(message).execute().await.doing("mark link", mark)?;
        if let Some(altname) = altname {
            self.handle
                .link()
                .property_add(ifindex)
                .alt_ifname(&[altname])
                .execute()
                .await
                .doing("name link", altname)?;
        }
        Ok(())
    }

    /// Brings a link up.
    ///
    /// # Errors
    /// The link is gone, or the kernel refuses.
    pub async fn set_up(&self, ifindex: u32, name: impl std::fmt::Display) -> Result<()> {
        self.handle
            .link()
            .set(LinkUnspec::new_with_index(ifindex).up().build())
            .execute()
            .await
            .doing("bring up", name)
    }

    /// Sets a link down. The kernel then removes its routes, and most of its IPv6 addresses.
    ///
    /// # Errors
    /// The link is gone, or the kernel refuses.
    pub async fn set_down(&self, ifindex: u32, name: impl std::fmt::Display) -> Result<()> {
        let message = LinkUnspec::new_with_index(ifindex).down().build();
        self.handle.link().set(message).execute().await.doing("take down", name)
    }

    /// Sets the MAC of a link. A veth and a bridge stay up meanwhile (`IFF_LIVE_ADDR_CHANGE`).
    ///
    /// # Errors
    /// The link is gone, or the kernel refuses.
    pub async fn set_mac(&self, ifindex: u32, mac: Mac, name: impl std::fmt::Display) -> Result<()> {
        let message = LinkUnspec::new_with_index(ifindex).address(mac.bytes().to_vec()).build();
        self.handle.link().set(message).execute().await.doing("set the MAC of", name)
    }

    /// Sets the MTU of a link, in bytes.
    ///
    /// # Errors
    /// The link is gone, or cannot have that MTU.
    pub async fn set_mtu(&self, ifindex: u32, mtu: u32, name: impl std::fmt::Display) -> Result<()> {
        let message = LinkUnspec::new_with_index(ifindex).mtu(mtu).build();
        self.handle.link().set(message).execute().await.doing("set the MTU of", name)
    }

    /// Makes a link a port of a bridge.
    ///
    /// # Errors
    /// The link or the bridge is gone, or the bridge is full.
    pub async fn enslave(&self, ifindex: u32, bridge: u32, name: impl std::fmt::Display) -> Result<()> {
        let message = LinkUnspec::new_with_index(ifindex).controller(bridge).build();
        self.handle.link().set(message).execute().await.doing("add to its bridge", name)
    }

    /// Removes a link. One that is gone is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn delete_link(&self, ifindex: u32, name: impl std::fmt::Display) -> Result<()> {
        match self.handle.link().del(ifindex).execute().await.doing("remove link", name) {
            Err(error) if error.is_missing() => Ok(()),
            other => other,
        }
    }

    /// All links of the namespace.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub async fn links(&self) -> Result<Vec<LinkFacts>> {
        let messages: Vec<_> =
            dump(self.handle.link().get().execute()).await.doing("list links of", self.netns())?;
        Ok(messages.into_iter().map(LinkFacts::parse).collect())
    }

    /// The link of this name (or alternative name), if it exists.
    ///
    /// # Errors
    /// The kernel refuses for another reason than that it does not exist.
    pub async fn link(&self, name: &str) -> Result<Option<LinkFacts>> {
        let found = self.handle.link().get().match_name(name).execute().try_next().await;
        match found.doing("look up link", name) {
            Ok(message) => Ok(message.map(LinkFacts::parse)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The other end of a veth, in any namespace. It is requested from here by netns id (`IFLA_TARGET_NETNSID`), so
    /// that no reference to its namespace is held. `None` if it is gone.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn peer_of(&self, end: &LinkFacts) -> Result<Option<LinkFacts>> {
        let Some(index) = end.peer else { return Ok(None) };
        let mut request = self.handle.link().get().match_index(index);
        if let Some(id) = end.peer_netns {
            if id < 0 {
                return Ok(None);
            }
            request.message_mut().attributes.push(LinkAttribute::IfNetnsId(id));
        }
        match request.execute().try_next().await.doing("look up the peer of", &end.name) {
            Ok(message) => Ok(message.map(LinkFacts::parse)),
            Err(error) if error.is_missing() || error.is_invalid() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The link of this name, which must exist.
    ///
    /// # Errors
    /// It does not exist, or the kernel refuses.
    pub async fn expect_link(&self, name: &IfName) -> Result<LinkFacts> {
        let missing = || {
            Error::new("find link", name.to_string(), std::io::Error::from_raw_os_error(nix::libc::ENODEV))
        };
        self.link(name.as_str()).await?.ok_or_else(missing)
    }
}
