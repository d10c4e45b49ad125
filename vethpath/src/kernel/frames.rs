//! Sends raw Ethernet frames by an interface.
#![expect(unsafe_code, reason = "nix makes the address of an interface from the kernel's structure only")]

use std::{
    mem,
    os::fd::{AsRawFd, OwnedFd},
    ptr,
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, sendto, socket},
};

use super::{Result, error::Context};

/// A packet socket of the calling thread's namespace. It receives nothing: its protocol is 0 (packet(7)).
pub(super) struct Sender(OwnedFd);

impl Sender {
    /// Opens it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn open() -> Result<Self> {
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None);
        socket.doing("open", "a packet socket").map(Self)
    }

    /// Sends a whole Ethernet frame by an interface.
    ///
    /// # Errors
    /// The interface is gone or down.
    pub(super) fn send(&self, ifindex: u32, frame: &[u8]) -> nix::Result<()> {
        sendto(self.0.as_raw_fd(), frame, &address(ifindex)?, MsgFlags::empty()).map(drop)
    }
}

/// `struct sockaddr_ll`; the protocol is read from the frame (`packet_parse_headers` in net/packet/af_packet.c).
fn address(ifindex: u32) -> nix::Result<LinkAddr> {
    // SAFETY: all of its fields are integers, for which zero is a valid value.
    let mut raw: libc::sockaddr_ll = unsafe { mem::zeroed() };
    raw.sll_family = u16::try_from(libc::AF_PACKET).map_err(|_| Errno::EAFNOSUPPORT)?;
    raw.sll_ifindex = i32::try_from(ifindex).map_err(|_| Errno::ENODEV)?;
    let length = libc::socklen_t::try_from(size_of_val(&raw)).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the pointer is to a `sockaddr_ll` of that length whose family is AF_PACKET, and is only read.
    unsafe { LinkAddr::from_raw(ptr::from_ref(&raw).cast(), Some(length)) }.ok_or(Errno::EINVAL)
}
