//! A packet socket: sends frames as they are given, and sees frames as they come.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::{errno::Errno, libc, net::if_::if_nametoindex, unistd};

/// A packet socket on an interface.
pub(crate) struct Wire(OwnedFd);

impl Wire {
    /// On the interface of this name, where the calling thread is.
    pub(crate) fn on(interface: &str) -> io::Result<Self> {
        let ifindex = if_nametoindex(interface)?;
        let all = u16::try_from(libc::ETH_P_ALL).expect("it is 3").to_be();
        let flags = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: takes integers only.
        let fd = unsafe { libc::socket(libc::AF_PACKET, flags, all.into()) };
        Errno::result(fd)?;
        // SAFETY: it was just made, and nobody else knows of it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: plain integers, of which zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).expect("it is 17");
        address.sll_protocol = all;
        address.sll_ifindex = ifindex.cast_signed();
        let length = u32::try_from(size_of_val(&address)).expect("it is 20");
        // SAFETY: the address is as long as is said.
        let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        Errno::result(done)?;
        Ok(Self(socket))
    }

    /// Sends a frame, all of which is given.
    #[track_caller]
    pub(crate) fn send(&self, frame: &[u8]) {
        assert_eq!(unistd::write(&self.0, frame), Ok(frame.len()), "{frame:?}");
    }

    /// The next frame that came in, and its type, such as `PACKET_HOST`; not what was sent here.
    pub(crate) fn next(&self) -> Option<(u8, Vec<u8>)> {
        loop {
            let mut bytes = vec![0; 16_384];
            // SAFETY: plain integers, of which zero is valid.
            let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            let mut length = u32::try_from(size_of_val(&from)).expect("it is 20");
            let (buffer, room, fd) = (bytes.as_mut_ptr().cast(), bytes.len(), self.0.as_raw_fd());
            // SAFETY: buffer and address are as long as is said.
            let read =
                unsafe { libc::recvfrom(fd, buffer, room, 0, (&raw mut from).cast(), &raw mut length) };
            bytes.truncate(usize::try_from(read).ok()?);
            if from.sll_pkttype != libc::PACKET_OUTGOING {
                return Some((from.sll_pkttype, bytes));
            }
        }
    }
}
