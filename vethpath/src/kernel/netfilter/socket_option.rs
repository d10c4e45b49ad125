//! Socket options that take a request in the buffer of the reply.

#![expect(unsafe_code, reason = "nix has no option that reads and writes one buffer")]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use nix::libc;

/// `getsockopt` with a request at the beginning of `buffer`, which the kernel replaces by the reply. Returns its length.
///
/// # Errors
/// The kernel refuses.
pub(super) fn exchange(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    buffer: &mut [u8],
) -> io::Result<usize> {
    let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(too_long)?;
    // SAFETY: `buffer` is valid for reads and writes of `length` bytes, and the kernel accesses no more of it.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, buffer.as_mut_ptr().cast(), &raw mut length)
    };
    if done == 0 { Ok(length as usize) } else { Err(io::Error::last_os_error()) }
}
