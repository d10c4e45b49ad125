//! The established TCP connections of a namespace, with the round-trip times that the kernel has measured on them.
//!
//! Mirrors net/ipv4/inet_diag.c, include/uapi/linux/inet_diag.h and `struct tcp_info` of include/uapi/linux/tcp.h. No
//! packet is sent: the kernel measures the time from a segment to its acknowledgement.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netlink_packet_core::NlasIterator;
use netlink_sys::{Socket, protocols::NETLINK_SOCK_DIAG};
use nix::libc;

use super::{
    Context, Netns, Result,
    netlink::{self, NetlinkError},
};

/// `INET_DIAG_INFO` of linux/inet_diag.h: the attribute with a `struct tcp_info`.
const INFO: u16 = 2;

/// An established connection, as one of its two sockets knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The socket's own address and port. An IPv4 address that is mapped into IPv6 is one of IPv4 here.
    pub local: SocketAddr,
    /// The other socket's.
    pub peer: SocketAddr,
    /// The smoothed round-trip time in microseconds (`tcpi_rtt`, RFC 6298).
    pub srtt_us: u32,
    /// Its mean deviation in microseconds (`tcpi_rttvar`).
    pub rttvar_us: u32,
    /// The least round-trip time of the last minutes in microseconds (`tcpi_min_rtt`).
    /// Minimum kernel: Linux 4.6; `None` before.
    pub min_rtt_us: Option<u32>,
}

/// The connections in `netns` whose round-trip time is known, of IPv4 and IPv6. Moves the calling thread there for good:
/// for threads of a [pool](super::pool). The socket is closed again, so that it does not keep the namespace alive.
///
/// The kernel searches its whole table of connections, which all namespaces share, for each request
/// (`inet_diag_dump_icsk`). One of `TCPDIAG_GETSOCK` has both families, and one of `SOCK_DIAG_BY_FAMILY` one of them.
///
/// # Errors
/// The namespace cannot be entered, or the kernel has no `tcp_diag`.
pub fn established(netns: &Netns) -> Result<Vec<Connection>> {
    const TCPDIAG_GETSOCK: u16 = 18;
    netns.enter_for_good()?;
    let socket = Socket::new(NETLINK_SOCK_DIAG).doing("open a sock_diag socket in namespace", netns)?;
    let mut connections = Vec::new();
    let dumped = netlink::dump_each(&socket, TCPDIAG_GETSOCK, &request(), |reply| {
        connections.extend(parse(reply)?);
        Ok(())
    });
    dumped.doing("list the TCP connections of", netns).map_err(|error| {
        // `inet_diag_lock_handler`.
        if error.is_missing() { error.with_hint("load the kernel module tcp_diag") } else { error }
    })?;
    Ok(connections)
}

/// `struct inet_diag_req`: established connections of either family, with [`INFO`].
fn request() -> [u8; 60] {
    const STATES: usize = 52;
    const ESTABLISHED: u32 = 1 << 1;
    let mut request = [0; 60];
    request[3] = 1 << (INFO - 1);
    request[STATES..STATES + 4].copy_from_slice(&ESTABLISHED.to_ne_bytes());
    request
}

/// `struct inet_diag_msg` and its attributes. `None` if no round-trip time is known yet.
pub(crate) fn parse(reply: &[u8]) -> std::result::Result<Option<Connection>, NetlinkError> {
    const MESSAGE: usize = 72;
    let (message, rest) = reply
        .split_first_chunk::<MESSAGE>()
        .ok_or(NetlinkError::Malformed("a TCP connection is truncated"))?;
    for attribute in NlasIterator::new(rest) {
        let attribute = attribute.map_err(|_| NetlinkError::Malformed("an attribute is truncated"))?;
        if attribute.kind() == INFO {
            return Ok(with_times(message, attribute.value()));
        }
    }
    Ok(None)
}

/// A connection from a `struct inet_diag_msg`, with the times of a `struct tcp_info`. Older kernels end it earlier.
fn with_times(message: &[u8; 72], info: &[u8]) -> Option<Connection> {
    const RTT: usize = 68;
    const RTTVAR: usize = 72;
    const MIN_RTT: usize = 148;
    let time = |at: usize| {
        let word = info.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)?;
        // `TCP_MIN_RTT` of a connection without a sample is the greatest number.
        Some(word).filter(|&time| time > 0 && time < u32::MAX)
    };
    let port = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let address = |at: usize| {
        let bytes: [u8; 16] = message.get(at..at + 16)?.try_into().ok()?;
        match i32::from(message[0]) {
            libc::AF_INET => Some(IpAddr::from(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))),
            libc::AF_INET6 => Some(IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()),
            _ => None,
        }
    };
    Some(Connection {
        local: SocketAddr::new(address(8)?, port(4)),
        peer: SocketAddr::new(address(24)?, port(6)),
        srtt_us: time(RTT)?,
        rttvar_us: time(RTTVAR).unwrap_or_default(),
        min_rtt_us: time(MIN_RTT),
    })
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        thread,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::kernel::sandbox::{in_new_namespace, run};

    /// Both sockets of a connection, after a message in either direction.
    fn connection(address: &str) -> [TcpStream; 2] {
        let listener = TcpListener::bind(address).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut byte = [0];
        client.write_all(b"?").unwrap();
        server.read_exact(&mut byte).unwrap();
        server.write_all(b"!").unwrap();
        client.read_exact(&mut byte).unwrap();
        [client, server]
    }

    fn found() -> Vec<Connection> {
        let netns = Netns::current().unwrap();
        thread::scope(|scope| scope.spawn(|| established(&netns).unwrap()).join().unwrap())
    }

    #[test]
    fn both_sockets_of_each_connection_are_found() {
        in_new_namespace(|| {
            let _ = run("ip", &["link", "set", "lo", "up"]);
            assert_eq!(found(), []);
            let sockets = ["127.0.0.1:0", "[::1]:0"].map(connection);
            let mut expected: Vec<_> = sockets.iter().flatten().collect();
            let ends = |socket: &&TcpStream| (socket.local_addr().unwrap(), socket.peer_addr().unwrap());
            expected.sort_by_key(ends);
            let mut connections = found();
            connections.sort_by_key(|one| (one.local, one.peer));
            let of = |one: &Connection| (one.local, one.peer);
            assert_eq!(
                connections.iter().map(of).collect::<Vec<_>>(),
                expected.iter().map(ends).collect::<Vec<_>>()
            );
            for one in connections {
                assert!(one.min_rtt_us.is_some_and(|least| least <= one.srtt_us), "{one:?}");
            }
            drop(sockets);
            // The kernel passes the last segments between them when it gets to it. Then they wait to be forgotten.
            let deadline = Instant::now() + Duration::from_secs(30);
            while !found().is_empty() {
                assert!(Instant::now() < deadline, "{:?}", found());
                thread::sleep(Duration::from_millis(1));
            }
        });
    }

    #[test]
    fn a_mapped_address_is_one_of_ipv4() {
        in_new_namespace(|| {
            let _ = run("ip", &["link", "set", "lo", "up"]);
            let sockets = connection("[::ffff:127.0.0.1]:0");
            assert!(found().iter().all(|one| one.local.is_ipv4() && one.peer.is_ipv4()));
            assert_eq!(found().len(), 2);
            drop(sockets);
        });
    }

    #[test]
    fn a_cut_reply_is_an_error_and_one_without_times_is_no_connection() {
        assert!(parse(&[0; 71]).is_err());
        assert_eq!(parse(&[0; 72]).unwrap(), None);
        let mut reply = vec![0; 72];
        reply[0] = 2;
        reply.extend([8, 0, 2, 0, 1, 2, 3, 4]);
        assert_eq!(parse(&reply).unwrap(), None, "no round-trip time");
        assert!(parse(&reply[..77]).is_err());
    }
}
