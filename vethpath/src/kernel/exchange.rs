//! One request and its replies on a blocking netlink socket. Every input is bounded.
//!
//! Mirrors `netlink_rcv_skb`, `netlink_dump` and `netlink_ack` (net/netlink/af_netlink.c).

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use netlink_packet_core::{
    DefaultNla, Emitable as _, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE,
    NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, NetlinkBuffer,
};
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
pub(super) const MOST_STRAYS: usize = 4096;
/// Larger than any datagram of the kernel for a dump (32 KiB) or an ack.
pub(super) const DATAGRAM: usize = 64 * 1024;
/// Most messages of one dump.
const MOST_MESSAGES: usize = 65_536;
/// Most bytes of one dump.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// Most attempts at a dump that is interrupted by changes (`NLM_F_DUMP_INTR`).
const MOST_DUMPS: usize = 8;

const HEADER: usize = 16;

/// Why a netlink request failed.
#[derive(Debug, Error)]
pub enum ExchangeError {
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
    Restless,
}

impl ExchangeError {
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
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, ExchangeError>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Ok(header) = NetlinkBuffer::new_checked(rest) else {
            rest = &[];
            return Some(Err(ExchangeError::Malformed("a message is truncated")));
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
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed).max(1)
}

/// Sends one request and returns the payloads that came before its ack.
pub(crate) fn request(
    socket: &Socket,
    kind: u16,
    flags: u16,
    payload: &[u8],
) -> Result<Vec<Vec<u8>>, ExchangeError> {
    let sequence = sequence();
    transact(socket, &message(kind, flags | NLM_F_ACK, sequence, payload), |id| id == sequence, sequence)
        .map(|(answers, _)| answers)
}

/// Requests a dump and returns the payloads of one consistent dump.
pub(crate) fn dump(socket: &Socket, kind: u16, payload: &[u8]) -> Result<Vec<Vec<u8>>, ExchangeError> {
    for _ in 0..MOST_DUMPS {
        let sequence = sequence();
        let bytes = message(kind, NLM_F_DUMP, sequence, payload);
        let (answers, consistent) = transact(socket, &bytes, |id| id == sequence, sequence)?;
        if consistent {
            return Ok(answers);
        }
    }
    Err(ExchangeError::Restless)
}

/// Sends `bytes` and receives until the message numbered `last` is acknowledged, the dump is done or the kernel returns
/// an error. Replies whose number is not `ours` are stale and are ignored.
pub(crate) fn transact(
    socket: &Socket,
    bytes: &[u8],
    ours: impl Fn(u32) -> bool,
    last: u32,
) -> Result<(Vec<Vec<u8>>, bool), ExchangeError> {
    set_timeouts(socket, TIMEOUT)?;
    socket.send_to(bytes, &SocketAddr::new(0, 0), 0).map_err(ExchangeError::Send)?;

    let (mut answers, mut size, mut consistent, mut strays) = (Vec::new(), 0, true, 0);
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
                        return Ok((answers, consistent));
                    }
                }
                NLMSG_OVERRUN => return Err(ExchangeError::Malformed("data was lost")),
                _ => {
                    size += message.payload.len();
                    if answers.len() == MOST_MESSAGES || size > MOST_BYTES {
                        return Err(ExchangeError::TooLarge);
                    }
                    answers.push(message.payload.to_vec());
                }
            }
        }
        if strays == MOST_STRAYS {
            return Err(ExchangeError::Malformed("no message has the sequence number of the request"));
        }
    }
}

/// Sets the receive timeout, in whole seconds.
pub(super) fn set_timeouts(socket: &Socket, patience: Duration) -> Result<(), ExchangeError> {
    let patience = TimeVal::new(patience.as_secs().cast_signed(), 0);
    setsockopt(socket, ReceiveTimeout, &patience).map_err(|errno| ExchangeError::Receive(errno.into()))
}

/// Receives one datagram of the kernel; those of other processes (port number not 0) are dropped.
pub(super) fn receive(socket: &Socket, buffer: &mut Vec<u8>) -> Result<(), ExchangeError> {
    loop {
        buffer.clear();
        match socket.recv_from(buffer, libc::MSG_TRUNC) {
            Ok((length, _)) if length > buffer.len() => {
                return Err(ExchangeError::Malformed("a datagram is too long"));
            }
            Ok((_, sender)) if sender.port_number() != 0 => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ExchangeError::Receive(error)),
        }
    }
}

/// The errno at the start of an error message or at the end of a dump; 0 is an ack.
pub(super) fn refusal(message: &Message<'_>) -> Result<(), ExchangeError> {
    match message.payload.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes)) {
        // Some kernels end a dump without an errno.
        None if message.kind == NLMSG_DONE => Ok(()),
        None => Err(ExchangeError::Malformed("an acknowledgement is truncated")),
        Some(code) if code < 0 => {
            Err(ExchangeError::Refused(io::Error::from_raw_os_error(code.checked_neg().unwrap_or(i32::MAX))))
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

#[cfg(test)]
mod tests {
    use super::*;

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
        fn code(kind: u16, payload: &[u8]) -> Result<(), ExchangeError> {
            refusal(&Message { kind, flags: 0, sequence: 1, payload })
        }
        assert!(code(NLMSG_DONE, &[]).is_ok());
        assert!(code(NLMSG_ERROR, &[]).is_err());
        assert!(code(NLMSG_ERROR, &0_i32.to_ne_bytes()).is_ok());
        for (raw, errno) in [(-1, 1), (-85, 85), (i32::MIN, i32::MAX)] {
            assert_eq!(code(NLMSG_ERROR, &raw.to_ne_bytes()).unwrap_err().errno(), Some(errno));
        }
    }
}
