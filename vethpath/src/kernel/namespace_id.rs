//! Identifiers of namespaces that are not reused until the next boot.
#![expect(unsafe_code, reason = "nix has neither SO_NETNS_COOKIE nor NS_GET_MNTNS_ID")]

use std::{fs::File, io, os::fd::AsRawFd};

use nix::{
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

/// `SO_NETNS_COOKIE` of asm-generic/socket.h, which libc lacks for some targets.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The cookie of the calling thread's network namespace.
/// Minimum kernel: Linux 5.14 (`SO_NETNS_COOKIE`); `None` before.
#[must_use]
pub fn netns_cookie() -> Option<u64> {
    netns_cookie_of(&socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?)
}

/// The cookie of the network namespace of a socket.
/// Minimum kernel: Linux 5.14 (`SO_NETNS_COOKIE`); `None` before.
#[must_use]
pub fn netns_cookie_of(socket: &impl AsRawFd) -> Option<u64> {
    get(socket).ok()
}

fn get(socket: &impl AsRawFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `cookie`; any bytes are a valid number.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

mod request {
    // `NS_GET_MNTNS_ID` of include/uapi/linux/nsfs.h.
    nix::ioctl_read!(mntns_id, 0xb7, 0x5, u64);
}

/// The identifier of the mount namespace behind an open file of nsfs.
/// Minimum kernel: Linux 6.11 (`NS_GET_MNTNS_ID`); `None` before.
#[must_use]
pub fn mount_namespace_id(file: &File) -> Option<u64> {
    let mut id = 0;
    // SAFETY: the kernel writes 64 bits, which is the size of `id`; any bits are a valid number.
    unsafe { request::mntns_id(file.as_raw_fd(), &raw mut id) }.ok().map(|_| id)
}
