//! Requests and their replies on blocking netlink sockets: one at a time, or many in one system call. Every input is
//! bounded.
//!
//! Mirrors `netlink_rcv_skb`, `netlink_dump` and `netlink_ack` (net/netlink/af_netlink.c). The kernel processes the
//! messages of a datagram in order, and continues after one that it refuses (`netlink_rcv_skb`). Requests that do not
//! depend on each other's replies can therefore be sent together.

pub mod generic;
pub(super) mod sockets;

use std::{
    borrow::Borrow,
    io,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use netlink_packet_core::{
    DefaultNla, Emitable as _, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE,
    NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, NetlinkBuffer, NlaBuffer, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr};
use nix::{
    libc,
    sys::{
        socket::{setsockopt, sockopt::ReceiveTimeout},
        time::TimeVal,
    },
};
use thiserror::Error;

/// Timeout for one datagram. The kernel replies within the system call of the request, so a timeout means that the
/// socket was not blocking or not the kernel's. The whole dump has no timeout: that would include the time in which
/// this process is not scheduled.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most consecutive datagrams without any part of the reply: more than a socket's buffer holds.
const MOST_STRAYS: usize = 4096;
/// Larger than any datagram of the kernel for a dump (32 KiB) or an ack.
const DATAGRAM: usize = 64 * 1024;
/// Most messages of one dump that is kept.
const MOST_MESSAGES: usize = 65_536;
/// Most bytes of one dump that is kept.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// Most attempts at a dump that is interrupted by changes (`NLM_F_DUMP_INTR`).
const MOST_DUMPS: usize = 8;
/// How many requests of a batch are sent together. Each reply is an ack or one link, so that all replies fit the
/// receive buffer of the socket.
const TOGETHER: u32 = 32;

const HEADER: usize = 16;

/// Why a netlink request failed.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// `sendto` failed.
    #[error("cannot send the netlink request: {0}")]
    Send(#[source] io::Error),
    /// `recvfrom` failed; `WouldBlock` is a timeout.
    #[error("cannot receive the netlink reply: {0}")]
    Receive(#[source] io::Error),
    /// The kernel replied with an errno.
    #[error("{0}")]
    Refused(#[source] io::Error),
    /// The reply violates the protocol.
    #[error("malformed netlink reply: {0}")]
    Malformed(&'static str),
    /// The reply is larger than the limits.
    #[error("netlink reply is larger than {MOST_MESSAGES} messages or {MOST_BYTES} bytes")]
    TooLarge,
    /// The dump was interrupted by changes each time.
    #[error("netlink dump interrupted {MOST_DUMPS} times (NLM_F_DUMP_INTR)")]
    Interrupted,
}

impl NetlinkError {
    /// The errno with which the kernel refused the request.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused(error) => error.raw_os_error(),
            _ => None,
        }
    }
}

/// One netlink message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// The messages of a datagram; ends after the first that is malformed.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, NetlinkError>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Ok(header) = NetlinkBuffer::new_checked(rest) else {
            rest = &[];
            return Some(Err(NetlinkError::Malformed("a message is truncated")));
        };
        let length = header.length() as usize;
        let message = Message {
            kind: header.message_type(),
            flags: header.flags(),
            sequence: header.sequence_number(),
            payload: &rest[HEADER..length],
        };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Ok(message))
    })
}

/// A message ready to be sent; `sequence` from [`sequence`].
pub(crate) fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = HEADER + payload.len();
    let mut bytes = vec![0; length.next_multiple_of(4)];
    bytes[HEADER..length].copy_from_slice(payload);
    let mut header = NetlinkBuffer::new(&mut bytes);
    header.set_length(u32::try_from(length).unwrap_or(u32::MAX));
    header.set_message_type(kind);
    header.set_flags(NLM_F_REQUEST | flags);
    header.set_sequence_number(sequence);
    bytes
}

/// A sequence number that no recent request of this process has had. Never 0, which events have.
pub(crate) fn sequence() -> u32 {
    sequences(1)
}

/// The first of this many consecutive ones.
fn sequences(many: u32) -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    loop {
        let first = NEXT.fetch_add(many, Ordering::Relaxed);
        if first != 0 && first.checked_add(many).is_some() {
            return first;
        }
    }
}

/// Sends one request and returns the payloads that came before its ack.
pub(crate) fn request(
    socket: &Socket,
    kind: u16,
    flags: u16,
    payload: &[u8],
) -> Result<Vec<Vec<u8>>, NetlinkError> {
    let sequence = sequence();
    transact(socket, &message(kind, flags | NLM_F_ACK, sequence, payload), |id| id == sequence, sequence)
        .map(|(replies, _)| replies)
}

/// Requests a dump and returns the payloads of one consistent dump.
pub(crate) fn dump(socket: &Socket, kind: u16, payload: &[u8]) -> Result<Vec<Vec<u8>>, NetlinkError> {
    for _ in 0..MOST_DUMPS {
        let sequence = sequence();
        let bytes = message(kind, NLM_F_DUMP, sequence, payload);
        let (replies, consistent) = transact(socket, &bytes, |id| id == sequence, sequence)?;
        if consistent {
            return Ok(replies);
        }
    }
    Err(NetlinkError::Interrupted)
}

/// Requests a dump of any length, and calls `take` with each payload. It may be inconsistent.
pub(crate) fn dump_each(
    socket: &Socket,
    kind: u16,
    payload: &[u8],
    take: impl FnMut(&[u8]) -> Result<(), NetlinkError>,
) -> Result<(), NetlinkError> {
    let sequence = sequence();
    let bytes = message(kind, NLM_F_DUMP, sequence, payload);
    transact_each(socket, &bytes, |id| id == sequence, sequence, take).map(drop)
}

/// Sends `bytes` and receives until the message numbered `last` is acknowledged, the dump is done or the kernel returns
/// an error. Replies whose number is not `ours` are stale and are ignored.
pub(crate) fn transact(
    socket: &Socket,
    bytes: &[u8],
    ours: impl Fn(u32) -> bool,
    last: u32,
) -> Result<(Vec<Vec<u8>>, bool), NetlinkError> {
    let (mut replies, mut size) = (Vec::new(), 0);
    let consistent = transact_each(socket, bytes, ours, last, |payload| {
        size += payload.len();
        if replies.len() == MOST_MESSAGES || size > MOST_BYTES {
            return Err(NetlinkError::TooLarge);
        }
        replies.push(payload.to_vec());
        Ok(())
    })?;
    Ok((replies, consistent))
}

/// As [`transact`], but calls `take` with each payload. Returns whether they are consistent.
fn transact_each(
    socket: &Socket,
    bytes: &[u8],
    ours: impl Fn(u32) -> bool,
    last: u32,
    mut take: impl FnMut(&[u8]) -> Result<(), NetlinkError>,
) -> Result<bool, NetlinkError> {
    set_timeout(socket, TIMEOUT)?;
    socket.send_to(bytes, &SocketAddr::new(0, 0), 0).map_err(NetlinkError::Send)?;

    let (mut consistent, mut strays) = (true, 0);
    let mut buffer = Vec::with_capacity(DATAGRAM);
    loop {
        receive(socket, &mut buffer)?;
        strays += 1;
        for message in messages(&buffer) {
            let message = message?;
            if !ours(message.sequence) {
                continue;
            }
            strays = 0;
            consistent &= message.flags & NLM_F_DUMP_INTR == 0;
            match message.kind {
                NLMSG_NOOP => {}
                NLMSG_DONE | NLMSG_ERROR => {
                    refusal(&message)?;
                    if message.kind == NLMSG_DONE || message.sequence == last {
                        return Ok(consistent);
                    }
                }
                NLMSG_OVERRUN => return Err(NetlinkError::Malformed("data was lost")),
                _ => take(message.payload)?,
            }
        }
        if strays == MOST_STRAYS {
            return Err(NetlinkError::Malformed("no message has the sequence number of the request"));
        }
    }
}

/// Result of one request of a batch: the payload of its reply, which is empty for an ack.
pub(super) type Reply = Result<Vec<u8>, NetlinkError>;

/// Sends requests that change something, each with `NLM_F_ACK`. The results are in the order of the requests.
pub(super) fn change_batch(
    socket: &Socket,
    requests: &[(RouteNetlinkMessage, u16)],
) -> Result<Vec<Reply>, NetlinkError> {
    let flagged = requests.iter().map(|(message, flags)| (message, flags | NLM_F_ACK));
    send_batch(socket, flagged)
}

/// Sends requests whose reply is a single message.
pub(super) fn get_batch(
    socket: &Socket,
    requests: &[RouteNetlinkMessage],
) -> Result<Vec<Reply>, NetlinkError> {
    send_batch(socket, requests.iter().map(|message| (message, 0)))
}

fn send_batch<'m>(
    socket: &Socket,
    requests: impl ExactSizeIterator<Item = (&'m RouteNetlinkMessage, u16)>,
) -> Result<Vec<Reply>, NetlinkError> {
    let mut replies: Vec<Option<Reply>> = (0..requests.len()).map(|_| None).collect();
    send_each(socket, requests, |position, reply| replies[position] = Some(reply.map(<[u8]>::to_vec)))?;
    Ok(replies.into_iter().flatten().collect())
}

/// Sends requests whose reply is a single message, and calls `take` with the position of each and its reply.
pub(super) fn get_each(
    socket: &Socket,
    requests: impl Iterator<Item = RouteNetlinkMessage>,
    take: impl FnMut(usize, Result<&[u8], NetlinkError>),
) -> Result<(), NetlinkError> {
    send_each(socket, requests.map(|message| (message, 0)), take)
}

fn send_each<M: Borrow<RouteNetlinkMessage>>(
    socket: &Socket,
    requests: impl Iterator<Item = (M, u16)>,
    mut take: impl FnMut(usize, Result<&[u8], NetlinkError>),
) -> Result<(), NetlinkError> {
    set_timeout(socket, TIMEOUT)?;
    let mut requests = requests.peekable();
    let (mut bytes, mut payload, mut buffer) = (Vec::new(), Vec::new(), Vec::with_capacity(DATAGRAM));
    let mut before = 0;
    while requests.peek().is_some() {
        bytes.clear();
        let first = sequences(TOGETHER);
        let mut number = first;
        for (request, flags) in requests.by_ref().take(TOGETHER as usize) {
            let request = request.borrow();
            payload.clear();
            payload.resize(request.buffer_len(), 0);
            request.emit(&mut payload);
            bytes.extend(message(request.message_type(), flags, number, &payload));
            number += 1;
        }
        socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).map_err(NetlinkError::Send)?;
        let sent = (number - first) as usize;
        receive_each(socket, first, sent, &mut buffer, |position, reply| take(before + position, reply))?;
        before += sent;
    }
    Ok(())
}

/// Receives until each of the requests that were numbered from `first` has a reply.
fn receive_each(
    socket: &Socket,
    first: u32,
    sent: usize,
    buffer: &mut Vec<u8>,
    mut take: impl FnMut(usize, Result<&[u8], NetlinkError>),
) -> Result<(), NetlinkError> {
    let mut is_missing = [true; TOGETHER as usize];
    let (mut missing, mut strays) = (sent, 0);
    while missing > 0 {
        receive(socket, buffer)?;
        strays += 1;
        for message in messages(buffer) {
            let message = message?;
            // Any other message is a late reply to a request that timed out.
            let position = message.sequence.wrapping_sub(first) as usize;
            let Some(is_missing) = is_missing[..sent].get_mut(position) else { continue };
            if !std::mem::take(is_missing) {
                continue;
            }
            take(
                position,
                match message.kind {
                    NLMSG_ERROR => match refusal(&message) {
                        Err(error @ NetlinkError::Malformed(_)) => return Err(error),
                        other => other.map(|()| &[][..]),
                    },
                    _ => Ok(message.payload),
                },
            );
            missing -= 1;
            strays = 0;
        }
        if strays == MOST_STRAYS {
            return Err(NetlinkError::Malformed("no message has the sequence number of the request"));
        }
    }
    Ok(())
}

/// Sets the receive timeout, in whole seconds.
fn set_timeout(socket: &Socket, timeout: Duration) -> Result<(), NetlinkError> {
    let timeout = TimeVal::new(timeout.as_secs().cast_signed(), 0);
    setsockopt(socket, ReceiveTimeout, &timeout).map_err(|errno| NetlinkError::Receive(errno.into()))
}

/// Receives one datagram of the kernel; those of other processes (port number not 0) are dropped.
fn receive(socket: &Socket, buffer: &mut Vec<u8>) -> Result<(), NetlinkError> {
    loop {
        buffer.clear();
        match socket.recv_from(buffer, libc::MSG_TRUNC) {
            Ok((length, _)) if length > buffer.len() => {
                return Err(NetlinkError::Malformed("a datagram is too long"));
            }
            Ok((_, sender)) if sender.port_number() != 0 => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(NetlinkError::Receive(error)),
        }
    }
}

/// The errno at the start of an error message or at the end of a dump; 0 is an ack.
fn refusal(message: &Message<'_>) -> Result<(), NetlinkError> {
    match message.payload.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes)) {
        // Some kernels end a dump without an errno.
        None if message.kind == NLMSG_DONE => Ok(()),
        None => Err(NetlinkError::Malformed("an acknowledgement is truncated")),
        Some(code) if code < 0 => {
            Err(NetlinkError::Refused(io::Error::from_raw_os_error(code.checked_neg().unwrap_or(i32::MAX))))
        }
        Some(_) => Ok(()),
    }
}

/// Attributes in the order they are added. Integers are in network byte order, as in nfnetlink.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let attribute = DefaultNla::new(kind, value.to_vec());
        let start = self.0.len();
        self.0.resize(start + attribute.buffer_len(), 0);
        attribute.emit(&mut self.0[start..]);
        self
    }

    /// A string with its final zero.
    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub(crate) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn nested(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | netlink_packet_core::NLA_F_NESTED, &inner.0)
    }

    /// The encoded attributes behind a fixed header.
    pub(crate) fn behind(&self, header: &[u8]) -> Vec<u8> {
        [header, &self.0].concat()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The attributes of a message or of a nest. Malformed data is an error, never a panic.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<NlaBuffer<&[u8]>, NetlinkError>> {
    NlasIterator::new(bytes).map(|a| a.map_err(|_| NetlinkError::Malformed("an attribute is truncated")))
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::LinkMessage;
    use netlink_sys::protocols::NETLINK_ROUTE;
    use rtnetlink::LinkUnspec;

    use super::*;
    use crate::kernel::sandbox::{in_new_namespace, run as command};

    #[test]
    fn messages_come_back_as_they_were_made() {
        let mut datagram = message(20, 0, 7, b"abcde");
        datagram.extend(message(21, NLM_F_ACK, 8, b""));
        let read: Vec<_> = messages(&datagram).map(Result::unwrap).collect();
        assert_eq!(read[0], Message { kind: 20, flags: NLM_F_REQUEST, sequence: 7, payload: b"abcde" });
        assert_eq!((read[1].kind, read[1].flags, read[1].payload), (21, NLM_F_REQUEST | NLM_F_ACK, &b""[..]));
    }

    #[test]
    fn a_datagram_cut_anywhere_ends_in_an_error_and_never_panics() {
        let datagram = [message(20, 0, 7, b"abcdefgh"), message(21, 0, 8, b"ijkl")].concat();
        for cut in 1..datagram.len() {
            let read: Vec<_> = messages(&datagram[..cut]).collect();
            assert!(cut == 24 || read.last().is_some_and(Result::is_err), "cut at {cut}: {read:?}");
        }
        for length in [0_u32, 1, 15, 17, u32::MAX] {
            let mut bytes = message(20, 0, 7, b"");
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(messages(&bytes).all(|m| m.is_err()), "length {length}");
        }
    }

    #[test]
    fn codes_are_read_with_care() {
        fn code(kind: u16, payload: &[u8]) -> Result<(), NetlinkError> {
            refusal(&Message { kind, flags: 0, sequence: 1, payload })
        }
        assert!(code(NLMSG_DONE, &[]).is_ok());
        assert!(code(NLMSG_ERROR, &[]).is_err());
        assert!(code(NLMSG_ERROR, &0_i32.to_ne_bytes()).is_ok());
        for (raw, errno) in [(-1, 1), (-85, 85), (i32::MIN, i32::MAX)] {
            assert_eq!(code(NLMSG_ERROR, &raw.to_ne_bytes()).unwrap_err().errno(), Some(errno));
        }
    }

    fn open() -> Socket {
        let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
        socket.bind(&SocketAddr::new(0, 0)).unwrap();
        socket
    }

    fn up(index: u32) -> (RouteNetlinkMessage, u16) {
        (RouteNetlinkMessage::SetLink(LinkUnspec::new_with_index(index).up().build()), 0)
    }

    #[test]
    fn a_refused_request_stops_none_of_those_behind_it() {
        in_new_namespace(|| {
            let socket = open();
            let mut requests: Vec<_> = (2..100).map(up).collect();
            requests.push(up(1));
            let replies = change_batch(&socket, &requests).unwrap();
            assert_eq!(replies.len(), requests.len());
            let errno = |reply: &Reply| reply.as_ref().err().and_then(NetlinkError::errno);
            assert!(replies[..98].iter().all(|reply| errno(reply) == Some(libc::ENODEV)));
            assert!(replies[98].is_ok());
            assert!(command("ip", &["-br", "link", "show", "lo"]).contains("UP"));
        });
    }

    #[test]
    fn replies_come_in_the_order_of_the_requests() {
        in_new_namespace(|| {
            for number in 0..50 {
                command(
                    "ip",
                    &[
                        "link",
                        "add",
                        &format!("d{number}"),
                        "type",
                        "veth",
                        "peer",
                        "name",
                        &format!("e{number}"),
                    ],
                );
            }
            let link = |number| {
                let message = LinkUnspec::new_with_name(&format!("d{number}")).build();
                RouteNetlinkMessage::GetLink(message)
            };
            let mut requests: Vec<_> = (0..50).rev().map(link).collect();
            requests.insert(25, RouteNetlinkMessage::GetLink(LinkMessage::default()));
            let replies = get_batch(&open(), &requests).unwrap();
            assert!(replies[25].is_err());
            for (position, reply) in replies.iter().enumerate().filter(|(position, _)| *position != 25) {
                let number = 49 + usize::from(position > 25) - position;
                let name = format!("d{number}\0");
                let payload = reply.as_ref().unwrap();
                assert!(payload.windows(name.len()).any(|bytes| bytes == name.as_bytes()), "{name}");
            }
        });
    }
}
