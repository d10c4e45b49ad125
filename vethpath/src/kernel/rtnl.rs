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
    /// Connects to `netns`. Must be called in a tokio runtime, where the connection then runs.
    ///
    /// # Errors
    /// No socket can be had there.
    pub fn open(netns: &Netns) -> Result<Self> {
        let (connection, handle, _) = rtnetlink::from_socket(sockets::route(netns, &[])?);
        tokio::spawn(connection);
        Ok(Self { handle, netns: netns.clone() })
    }

    /// The namespace it is about.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }
}
