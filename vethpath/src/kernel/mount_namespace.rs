//! The identifier of a mount namespace: a number that no other mount namespace gets until the next boot.
#![expect(unsafe_code, reason = "nix has no NS_GET_MNTNS_ID")]

use std::{fs::File, os::fd::AsRawFd};

mod request {
    // `NS_GET_MNTNS_ID` of include/uapi/linux/nsfs.h.
    nix::ioctl_read!(mntns_id, 0xb7, 0x5, u64);
}

/// The identifier of the mount namespace behind an open file of nsfs; `None` before Linux 6.11.
#[must_use]
pub fn id(file: &File) -> Option<u64> {
    let mut id = 0;
    // SAFETY: the kernel writes 64 bits, which is the size of `id`; any bits are a valid number.
    unsafe { request::mntns_id(file.as_raw_fd(), &raw mut id) }.ok().map(|_| id)
}
