//! Generic netlink: looks up families by name, and reads the attributes of their replies.

use netlink_packet_core::NlaBuffer;
use netlink_sys::{Socket, protocols::NETLINK_GENERIC};
use nix::errno::Errno;

use super::{Attributes, NetlinkError, request};
use crate::kernel::{Context, Netns, Result as KernelResult, Source};

/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY` and two of its attributes (linux/genetlink.h).
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// `struct genlmsghdr`.
const HEADER: usize = 4;

/// A family and a socket for it, both looked up at the first use. If that fails, the next use retries.
pub struct Family {
    source: Source,
    name: &'static str,
    number: Option<u16>,
}

impl Family {
    /// The family of this name in `netns`, not looked up yet.
    #[must_use]
    pub fn new(netns: &Netns, name: &'static str) -> Self {
        Self { source: Source::new(netns, NETLINK_GENERIC), name, number: None }
    }

    /// Calls `run` with the socket and the family's number, and returns its result.
    ///
    /// # Errors
    /// The kernel has no such family, or refuses.
    pub fn query<T>(&mut self, run: impl FnOnce(&Socket, u16) -> Result<T, NetlinkError>) -> KernelResult<T> {
        const OPERATION: &str = "ask the netlink family";
        let socket = self.source.socket()?.ok_or(Errno::EPROTONOSUPPORT).doing(OPERATION, self.name)?;
        let number = match self.number {
            Some(number) => number,
            None => *self.number.insert(family(socket, self.name).doing(OPERATION, self.name)?),
        };
        run(socket, number).doing(OPERATION, self.name)
    }
}

/// The number of a family on a NETLINK_GENERIC socket.
///
/// # Errors
/// The kernel refuses, or has no such family.
pub fn family(socket: &Socket, name: &str) -> Result<u16, NetlinkError> {
    let payload = Attributes::default().text(FAMILY_NAME, name).behind(&[GET_FAMILY, 1, 0, 0]);
    for reply in request(socket, CONTROL, 0, &payload)? {
        if let Some(number) = number_of(&reply)? {
            return Ok(number);
        }
    }
    Err(NetlinkError::Malformed("a generic netlink family without a number"))
}

/// The family number in a reply.
pub(crate) fn number_of(reply: &[u8]) -> Result<Option<u16>, NetlinkError> {
    for attribute in attributes(reply) {
        let attribute = attribute?;
        if attribute.kind() == FAMILY_ID
            && let Some(id) = attribute.value().first_chunk::<2>()
        {
            return Ok(Some(u16::from_ne_bytes(*id)));
        }
    }
    Ok(None)
}

/// The attributes of a reply, behind its header.
pub(in crate::kernel) fn attributes(
    reply: &[u8],
) -> impl Iterator<Item = Result<NlaBuffer<&[u8]>, NetlinkError>> {
    super::attributes(reply.get(HEADER..).unwrap_or_default())
}
