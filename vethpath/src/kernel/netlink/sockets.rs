//! Opening netlink sockets inside a namespace, for use outside it.
#![expect(unsafe_code, reason = "netlink-sys makes its tokio socket from a raw descriptor only")]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd},
};

use netlink_sys::{
    Socket, SocketAddr, TokioSocket,
    protocols::{NETLINK_KOBJECT_UEVENT, NETLINK_NETFILTER, NETLINK_ROUTE},
};

use crate::kernel::{Context, Netns, Result, netfilter};

/// Requested receive buffer, in bytes, which the kernel doubles. It holds the events of a whole lab coming up at once, or
/// of some tenths of a second in which a host floods its bridge with addresses.
const RECEIVE_BUFFER: usize = 8 << 20;

/// Opens a blocking socket of `protocol` in `netns`.
///
/// # Errors
/// The namespace cannot be entered, or the kernel lacks the protocol.
pub fn blocking(netns: &Netns, protocol: isize) -> Result<Socket> {
    netns.run(|| Socket::new(protocol))?.doing("open a netlink socket in namespace", netns)
}

/// A blocking netlink socket that is opened at its first use. If that fails, each further use retries.
pub struct Source {
    netns: Netns,
    protocol: isize,
    socket: Option<Socket>,
}

impl Source {
    /// A socket of `protocol` in `netns`, which is not opened yet.
    #[must_use]
    pub fn new(netns: &Netns, protocol: isize) -> Self {
        Self { netns: netns.clone(), protocol, socket: None }
    }

    /// The socket, or `None` while the kernel lacks the protocol.
    ///
    /// # Errors
    /// Any other refusal. The state that would have been requested is then unknown.
    pub fn socket(&mut self) -> Result<Option<&Socket>> {
        if self.socket.is_none() {
            match blocking(&self.netns, self.protocol) {
                Ok(socket) => self.socket = Some(socket),
                Err(error) if error.lacks_protocol() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(self.socket.as_ref())
    }
}

/// Opens a route socket in `netns` that is a member of the multicast `groups`.
///
/// The socket stays in the namespace in which it was opened, whatever thread uses it later (netlink(7)).
/// Must be called in a tokio runtime.
pub(in crate::kernel) fn route(netns: &Netns, groups: &[u32]) -> Result<TokioSocket> {
    let mut socket = blocking(netns, NETLINK_ROUTE)?;
    let open = |socket: &mut Socket| -> io::Result<()> {
        socket.bind(&SocketAddr::new(0, 0))?;
        // Connected to the kernel, so that unicast messages from other processes are refused
        // (`netlink_getsockbyportid` in net/netlink/af_netlink.c).
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        for &group in groups {
            socket.add_membership(group)?;
        }
        if !groups.is_empty() {
            force_receive_buffer(socket)?;
        }
        Ok(())
    };
    open(&mut socket).doing("set up a netlink socket in namespace", netns)?;
    Ok(in_runtime(socket))
}

/// Opens a netfilter socket in `netns` that receives nftables events. Must be called in a tokio runtime.
pub(in crate::kernel) fn rules(netns: &Netns) -> Result<TokioSocket> {
    let mut socket = blocking(netns, NETLINK_NETFILTER)?;
    netfilter::subscribe(&mut socket).map_err(io::Error::other).doing("watch rules of namespace", netns)?;
    Ok(in_runtime(socket))
}

/// Opens a socket that receives the uevents of `netns`. Must be called in a tokio runtime.
pub(in crate::kernel) fn uevents(netns: &Netns) -> Result<TokioSocket> {
    /// Multicast group of the kernel's own messages. udev uses another.
    const KERNEL: u32 = 1;
    let mut socket = blocking(netns, NETLINK_KOBJECT_UEVENT)?;
    socket.bind(&SocketAddr::new(0, KERNEL)).doing("receive the uevents of namespace", netns)?;
    Ok(in_runtime(socket))
}

fn in_runtime(socket: Socket) -> TokioSocket {
    let fd = socket.into_raw_fd();
    // SAFETY: `into_raw_fd` released ownership of the descriptor, and exactly one new owner takes it.
    unsafe { TokioSocket::from_raw_fd(fd) }
}

/// Sets the receive buffer, beyond `net.core.rmem_max` if needed, which CAP_NET_ADMIN permits.
pub(in crate::kernel) fn force_receive_buffer(socket: &Socket) -> io::Result<()> {
    // SAFETY: the socket outlives the borrow.
    let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    nix::sys::socket::setsockopt(&fd, nix::sys::socket::sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
    Ok(())
}
