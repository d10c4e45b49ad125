//! A route netlink connection into one namespace, and its dumps.

use std::io;

use futures_util::{Stream, TryStreamExt};
use rtnetlink::Handle;

use super::{Netns, Result, error::to_io, sockets};

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
