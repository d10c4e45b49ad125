//! A route netlink connection into one namespace.

use rtnetlink::Handle;

use super::{Netns, Result, sockets};

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
}
