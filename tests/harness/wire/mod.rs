//! A packet socket: sends and receives raw frames.

mod arrival;

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

pub(crate) use arrival::{Arrival, Offload};
use nix::{errno::Errno, libc, net::if_::if_nametoindex, unistd};

/// A packet socket on an interface.
pub(crate) struct Wire {
    socket: OwnedFd,
    /// Whether an [`Offload`] precedes every frame, in both directions.
    offloads: bool,
}

impl Wire {
    /// Opens one on the interface of this name, in the calling thread's namespace.
    pub(crate) fn on(interface: &str) -> io::Result<Self> {
        let ifindex = if_nametoindex(interface)?;
        let all = u16::try_from(libc::ETH_P_ALL).expect("it is 3").to_be();
        let flags = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: the arguments are integers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, flags, all.into()) };
        Errno::result(fd)?;
        // SAFETY: the descriptor is new, and nothing else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: plain integers, of which zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).expect("it is 17");
        address.sll_protocol = all;
        address.sll_ifindex = ifindex.cast_signed();
        let length = u32::try_from(size_of_val(&address)).expect("it is 20");
        // SAFETY: `length` is the length of the address.
        let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        Errno::result(done)?;
        Ok(Self { socket, offloads: false })
    }

    /// The same, with all metadata that a receiver can have of a frame: see [`Arrival`].
    pub(crate) fn telling_all(mut self) -> io::Result<Self> {
        self.set(libc::PACKET_AUXDATA)?;
        self.set(libc::PACKET_VNET_HDR)?;
        self.offloads = true;
        Ok(self)
    }

    fn set(&self, option: i32) -> io::Result<()> {
        let on = 1_i32;
        let fd = self.socket.as_raw_fd();
        // SAFETY: the value is an integer, whose length is given.
        let done = unsafe { libc::setsockopt(fd, libc::SOL_PACKET, option, (&raw const on).cast(), 4) };
        Errno::result(done)?;
        Ok(())
    }

    /// Sends a complete frame.
    #[track_caller]
    pub(crate) fn send(&self, frame: &[u8]) {
        assert_eq!(self.try_send(frame, Offload::default()), Ok(()), "{frame:?}");
    }

    /// Sends a frame for which the receiver may have to compute the checksum or the segments.
    pub(crate) fn try_send(&self, frame: &[u8], offload: Offload) -> nix::Result<()> {
        let header = if self.offloads { &offload.bytes()[..] } else { &[] };
        let sent = unistd::write(&self.socket, &[header, frame].concat())?;
        assert_eq!(sent, header.len() + frame.len(), "a frame is sent as a whole");
        Ok(())
    }

    /// The next received frame and its type, such as `PACKET_HOST`. Frames that were sent here are skipped.
    pub(crate) fn next(&self) -> Option<(u8, Vec<u8>)> {
        self.arrival().map(|arrival| (arrival.kind, arrival.bytes))
    }

    /// The next received frame with all its metadata. Frames that were sent here are skipped.
    pub(crate) fn arrival(&self) -> Option<Arrival> {
        loop {
            let arrival = arrival::receive(&self.socket, self.offloads)?;
            if arrival.kind != libc::PACKET_OUTGOING {
                return Some(arrival);
            }
        }
    }
}
