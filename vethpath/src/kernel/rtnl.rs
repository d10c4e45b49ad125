//! Route netlink requests one by one, on an asynchronous connection into one namespace: links, and dumps.

use std::io;

use futures_util::{Stream, TryStreamExt};
use netlink_packet_route::link::LinkAttribute;
use rtnetlink::{Handle, LinkUnspec};

use super::{Context, Error, LinkFacts, Netns, Result, error::to_io, netlink::sockets};
use crate::topology::{IfName, Mac};

/// Requests to the kernel about one namespace. Cheap to clone.
#[derive(Clone)]
pub struct Rtnl {
    pub(super) handle: Handle,
    netns: Netns,
}

impl Rtnl {
    /// Connects to `netns`. Must be called in a tokio runtime, which then runs the connection.
    ///
    /// # Errors
    /// No socket can be opened there.
    pub fn open(netns: &Netns) -> Result<Self> {
        let (connection, handle, _) = rtnetlink::from_socket(sockets::route(netns, &[])?);
        tokio::spawn(connection);
        Ok(Self { handle, netns: netns.clone() })
    }

    /// The namespace it is connected to.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Marks a link as ours, and adds an alternative name for users.
    /// Minimum kernel: Linux 5.5 (alternative names), with `altname`.
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
        self.link(name.as_str()).await?.ok_or_else(|| Error::missing_link(name.as_str()))
    }
}

/// Most messages of one dump. A bridge learns as many stations as its hosts invent, unless `fdb_max_learned` limits it.
const MOST: usize = 1 << 20;

/// All messages of a dump.
///
/// # Errors
/// The kernel refuses, or the dump is too long.
pub(super) async fn dump<T>(
    list: impl Stream<Item = std::result::Result<T, rtnetlink::Error>>,
) -> io::Result<Vec<T>> {
    up_to(MOST, list).await
}

async fn up_to<T>(
    most: usize,
    list: impl Stream<Item = std::result::Result<T, rtnetlink::Error>>,
) -> io::Result<Vec<T>> {
    let mut list = std::pin::pin!(list);
    let mut messages = Vec::new();
    while let Some(message) = list.try_next().await.map_err(to_io)? {
        if messages.len() == most {
            return Err(io::Error::other(format!("the dump is longer than {most} entries")));
        }
        messages.push(message);
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn a_list_is_taken_whole_or_not_at_all() {
        let list = || stream::iter((0..5).map(Ok));
        assert_eq!(up_to(5, list()).await.unwrap(), [0, 1, 2, 3, 4]);
        assert!(up_to(4, list()).await.unwrap_err().to_string().contains("longer than 4"));
        let broken = stream::iter([Ok(1), Err(rtnetlink::Error::RequestFailed)]);
        assert!(up_to(4, broken).await.is_err());
    }
}
