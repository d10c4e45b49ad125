//! Echo requests and replies of ICMP (RFC 792) and ICMPv6 (RFC 4443), by raw sockets.
//!
//! Datagram sockets of `IPPROTO_ICMP` would do, but a new network namespace permits them to no group
//! (`net.ipv4.ping_group_range`).
#![expect(unsafe_code, reason = "nix has neither ICMP_FILTER nor ICMP6_FILTER")]

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use nix::{
    libc,
    sys::socket::{
        AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt::RcvBufForce,
    },
};

use super::{Context, Result};
use crate::topology::Family;

/// Types of ICMP, and of ICMPv6.
const REQUEST: [u8; 2] = [8, 128];
const REPLY: [u8; 2] = [0, 129];

/// Bytes of the header of both: type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;

/// Bytes of a message.
const MESSAGE: usize = HEADER + 12;

/// Room for replies, in bytes, which the kernel doubles. It holds those to all requests that are on their way.
const RECEIVE_BUFFER: usize = 1 << 20;

/// What an echo request carries, and its reply returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Distinguishes this process from others that send requests in the same namespace.
    pub nonce: u64,
    /// Distinguishes its requests.
    pub number: u32,
}

/// A socket that sends echo requests and receives replies, in the namespace in which it was opened. It does not block.
#[derive(Debug)]
pub struct EchoSocket {
    /// A raw socket. [`UdpSocket`] has the calls with addresses, which are the same for both.
    socket: UdpSocket,
    family: Family,
}

impl EchoSocket {
    /// Opens a socket in the namespace that the calling thread is in.
    ///
    /// # Errors
    /// `CAP_NET_RAW` is missing, or the kernel lacks the family.
    pub fn here(family: Family) -> Result<Self> {
        let (domain, protocol) = match family {
            Family::Ipv4 => (AddressFamily::Inet, SockProtocol::Icmp),
            Family::Ipv6 => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let open = || -> io::Result<UdpSocket> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(domain, SockType::Raw, flags, protocol)?;
            only_replies(socket.as_fd(), family)?;
            // CAP_NET_ADMIN permits it. Without it, the default is enough for small labs.
            let _ = setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER);
            Ok(socket.into())
        };
        Ok(Self { socket: open().doing("open a socket of", format!("{family} echo"))?, family })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// There is no route, or no room.
    pub fn send(&self, to: IpAddr, token: Token) -> io::Result<()> {
        // A raw IPv6 socket takes no other port than 0.
        let message = message(self.family, token);
        self.socket.send_to(&message, SocketAddr::new(to, 0)).map(drop)
    }

    /// The token of the next reply, or `None` if none is there. Other messages are skipped.
    ///
    /// # Errors
    /// The socket fails.
    pub fn receive(&self) -> io::Result<Option<Token>> {
        let mut buffer = [0; 256];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    let token = parse(self.family, &buffer[..length]);
                    if token.is_some() {
                        return Ok(token);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for EchoSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The bytes of a request. The kernel writes the checksum of ICMPv6 (`rawv6_push_pending_frames` in net/ipv6/raw.c).
fn message(family: Family, token: Token) -> [u8; MESSAGE] {
    let mut message = [0; MESSAGE];
    let nonce = token.nonce.to_be_bytes();
    message[0] = REQUEST[index(family)];
    message[4..6].copy_from_slice(&nonce[6..]);
    message[6..8].copy_from_slice(&token.number.to_be_bytes()[2..]);
    message[HEADER..HEADER + 8].copy_from_slice(&nonce);
    message[HEADER + 8..].copy_from_slice(&token.number.to_be_bytes());
    if family == Family::Ipv4 {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// The token of a reply; `None` for anything else. An IPv4 packet begins with its IP header (raw(7)).
fn parse(family: Family, packet: &[u8]) -> Option<Token> {
    let message = match family {
        Family::Ipv4 => packet.get(usize::from(packet.first()? & 0xf) * 4..)?,
        Family::Ipv6 => packet,
    };
    if *message.first()? != REPLY[index(family)] {
        return None;
    }
    let (nonce, rest) = message.get(HEADER..)?.split_first_chunk()?;
    Some(Token { nonce: u64::from_be_bytes(*nonce), number: u32::from_be_bytes(*rest.first_chunk()?) })
}

const fn index(family: Family) -> usize {
    match family {
        Family::Ipv4 => 0,
        Family::Ipv6 => 1,
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let word =
        |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or_default()]));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

/// Has the kernel drop everything but echo replies (`icmp_filter` in net/ipv4/raw.c, `icmpv6_filter` in net/ipv6/raw.c).
fn only_replies(socket: BorrowedFd<'_>, family: Family) -> io::Result<()> {
    /// `SOL_RAW` and `ICMP_FILTER` of linux/icmp.h; `ICMPV6_FILTER` of linux/icmpv6.h.
    const SOL_RAW: libc::c_int = 255;
    const ICMP_FILTER: libc::c_int = 1;
    const ICMPV6_FILTER: libc::c_int = 1;
    let reply = usize::from(REPLY[index(family)]);
    // A bit for each type, set for those that are dropped.
    let mut dropped = [u32::MAX; 8];
    dropped[reply / 32] &= !(1 << (reply % 32));
    let (level, option, words) = match family {
        Family::Ipv4 => (SOL_RAW, ICMP_FILTER, 1),
        Family::Ipv6 => (libc::IPPROTO_ICMPV6, ICMPV6_FILTER, 8),
    };
    let length = libc::socklen_t::try_from(words * size_of::<u32>()).map_err(io::Error::other)?;
    // SAFETY: `dropped` is valid for reads of `length` bytes, at most 8 words, and the kernel keeps no pointer to it.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, dropped.as_ptr().cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether an interface's address can be pinged from anywhere: not a loopback address, and not one of a single link.
#[must_use]
pub fn is_reachable_from_elsewhere(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => Ipv6Addr::is_unicast_link_local(&address),
    };
    !(address.is_loopback() || is_link_local)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::kernel::sandbox::{in_new_namespace, run};

    #[test]
    fn a_request_is_answered_by_the_kernel_and_other_messages_are_not_received() {
        in_new_namespace(|| {
            let _ = run("ip", &["link", "set", "lo", "up"]);
            for (family, address) in [(Family::Ipv4, "127.0.0.1"), (Family::Ipv6, "::1")] {
                let (socket, other) = (EchoSocket::here(family).unwrap(), EchoSocket::here(family).unwrap());
                let token = Token { nonce: 0x0102_0304_0506_0708, number: 70_000 };
                socket.send(address.parse().unwrap(), token).unwrap();
                let deadline = Instant::now() + Duration::from_secs(30);
                let mut received = None;
                while received.is_none() {
                    assert!(Instant::now() < deadline, "{family}: no reply");
                    received = socket.receive().unwrap();
                }
                assert_eq!((received, socket.receive().unwrap()), (Some(token), None), "{family}");
                // Each raw socket gets a copy.
                assert_eq!(other.receive().unwrap(), Some(token));
            }
        });
    }

    #[test]
    fn what_is_no_whole_reply_has_no_token() {
        let token = Token { nonce: 7, number: 9 };
        for family in Family::ALL {
            let mut message = message(family, token);
            assert!(family == Family::Ipv6 || checksum(&message) == 0, "its own checksum is right");
            message[0] = REPLY[index(family)];
            let header: &[u8] = if family == Family::Ipv4 { &[0x45; 20] } else { &[] };
            let packet = [header, &message].concat();
            assert_eq!(parse(family, &packet), Some(token));
            for length in 0..packet.len() {
                assert_eq!(parse(family, &packet[..length]), None, "{family}: {length} bytes");
            }
            let mut request = packet.clone();
            request[header.len()] = REQUEST[index(family)];
            assert_eq!(parse(family, &request), None);
        }
    }
}
