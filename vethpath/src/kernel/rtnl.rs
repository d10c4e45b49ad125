//! Changes requested one by one, on an asynchronous connection into one namespace. Everything is read on its
//! [`RouteSocket`]: names and aliases may contain any bytes, and rtnetlink drops a reply that it cannot parse, so that its
//! request waits forever.

use std::sync::{Arc, OnceLock};

use rtnetlink::{Handle, LinkUnspec};

use super::{Context, Error, LinkFacts, Netns, Result, RouteSocket, netlink::sockets};
use crate::topology::{IfName, Mac};

/// Requests to the kernel about one namespace. Cheap to clone.
#[derive(Clone)]
pub struct Rtnl(Arc<Inner>);

struct Inner {
    socket: RouteSocket,
    /// The connection, from the first change on.
    handle: OnceLock<Handle>,
}

impl Rtnl {
    /// Connects to `netns`. Changes must be requested in a tokio runtime, which then runs the connection.
    ///
    /// # Errors
    /// No socket can be opened there.
    pub fn open(netns: &Netns) -> Result<Self> {
        Ok(Self(Arc::new(Inner { socket: RouteSocket::open(netns)?, handle: OnceLock::new() })))
    }

    /// The connection for changes. Most namespaces of a lab that is up are only read.
    pub(super) fn handle(&self) -> Result<Handle> {
        if let Some(handle) = self.0.handle.get() {
            return Ok(handle.clone());
        }
        let (connection, handle, _) = rtnetlink::from_socket(sockets::route(self.netns(), &[])?);
        tokio::spawn(connection);
        Ok(self.0.handle.get_or_init(|| handle).clone())
    }

    /// For dumps and batches in the same namespace.
    #[must_use]
    pub fn socket(&self) -> &RouteSocket {
        &self.0.socket
    }

    /// The namespace it is connected to.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        self.0.socket.netns()
    }

    /// Marks a link as ours, and adds an alternative name for users.
    /// Minimum kernel: Linux 5.5 (alternative names), with `altname`.
    ///
    /// # Errors
    /// The link is gone, or the alternative name is taken.
    pub async fn mark(&self, ifindex: u32, mark: &str, altname: Option<&str>) -> Result<()> {
        let message = LinkUnspec::new_with_index(ifindex).alias(mark).build();
        self.handle()?.link().set(message).execute().await.doing("mark link", mark)?;
        if let Some(altname) = altname {
            self.handle()?
                .link()
                .property_add(ifindex)
                .alt_ifname(&[altname])
                .execute()
                .await
                .doing("add alternative name", altname)?;
        }
        Ok(())
    }

    /// Brings a link up.
    ///
    /// # Errors
    /// The link is gone, or the kernel refuses.
    pub async fn set_up(&self, ifindex: u32, name: impl std::fmt::Display) -> Result<()> {
        self.handle()?
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
        self.handle()?.link().set(message).execute().await.doing("take down", name)
    }

    /// Sets the MAC of a link. A veth and a bridge stay up meanwhile (`IFF_LIVE_ADDR_CHANGE`).
    ///
    /// # Errors
    /// The link is gone, or the kernel refuses.
    pub async fn set_mac(&self, ifindex: u32, mac: Mac, name: impl std::fmt::Display) -> Result<()> {
        let message = LinkUnspec::new_with_index(ifindex).address(mac.bytes().to_vec()).build();
        self.handle()?.link().set(message).execute().await.doing("set the MAC of", name)
    }

    /// Sets the MTU of a link, in bytes.
    ///
    /// # Errors
    /// The link is gone, or cannot have that MTU.
    pub async fn set_mtu(&self, ifindex: u32, mtu: u32, name: impl std::fmt::Display) -> Result<()> {
        let message = LinkUnspec::new_with_index(ifindex).mtu(mtu).build();
        self.handle()?.link().set(message).execute().await.doing("set the MTU of", name)
    }

    /// Makes a link a port of a bridge.
    ///
    /// # Errors
    /// The link or the bridge is gone, or the bridge is full.
    pub async fn enslave(&self, ifindex: u32, bridge: u32, name: impl std::fmt::Display) -> Result<()> {
        let message = LinkUnspec::new_with_index(ifindex).controller(bridge).build();
        self.handle()?.link().set(message).execute().await.doing("add to its bridge", name)
    }

    /// The link of this name (or alternative name), if it exists.
    ///
    /// # Errors
    /// The kernel refuses for another reason than that it does not exist.
    pub fn link(&self, name: &str) -> Result<Option<LinkFacts>> {
        self.0.socket.link(name)
    }

    /// The link of this name, which must exist.
    ///
    /// # Errors
    /// It does not exist, or the kernel refuses.
    pub fn expect_link(&self, name: &IfName) -> Result<LinkFacts> {
        self.link(name.as_str())?.ok_or_else(|| Error::missing_link(name.as_str()))
    }
}
