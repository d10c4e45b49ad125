//! Netfilter: the rules that vethpath adds, and the chains and tables that bridged frames pass.
//!
//! Mirrors net/netfilter/nf_tables_api.c and include/uapi/linux/netfilter/nf_tables.h. Sockets are blocking
//! NETLINK_NETFILTER sockets. One that is [subscribed](subscribe) to events is not used for requests.

mod docker_user;
mod expression;
mod hook;
mod inspect;
mod legacy;
mod masquerade;
mod ruleset;
mod sets;
mod socket_option;
mod table;
mod verdict;
mod xtables;

pub use docker_user::{DOCKER_USER, FILTER, accept, has_docker_user};
pub use hook::{BRIDGE_SYSCTLS, BridgeCalls, Family, Hook, HookPoint, bridge_nf_call};
pub use inspect::{OwnTable, has_tables, is_exactly, rules};
pub use legacy::{LegacyTable, PROC, THREAD_NET, ebtables, legacy_tables};
pub use masquerade::add_masquerade;
use netlink_sys::Socket;
use nix::libc;
pub use ruleset::{ESTABLISHED, NEW, Ruleset, UNTRACKED};
pub use table::{is_foreign, remove_table};
pub use verdict::{Dropper, Packets, Verdict};
pub use xtables::{is_readable, legacy_rules};

use super::{
    Context, Result as KernelResult,
    netlink::{self, NetlinkError, attributes, messages},
};
use crate::topology::MasqueradeRule;

/// Message types of the nftables subsystem (`enum nf_tables_msg_types`).
mod kind {
    pub(super) const NFNL_SUBSYS_NFTABLES: u16 = 10 << 8;
    pub(super) const BATCH_BEGIN: u16 = 16;
    pub(super) const BATCH_END: u16 = 17;
    pub(super) const NEW_TABLE: u16 = NFNL_SUBSYS_NFTABLES;
    pub(super) const GET_TABLE: u16 = NFNL_SUBSYS_NFTABLES | 1;
    pub(super) const DELETE_TABLE: u16 = NFNL_SUBSYS_NFTABLES | 2;
    pub(super) const NEW_CHAIN: u16 = NFNL_SUBSYS_NFTABLES | 3;
    pub(super) const GET_CHAIN: u16 = NFNL_SUBSYS_NFTABLES | 4;
    pub(super) const NEW_RULE: u16 = NFNL_SUBSYS_NFTABLES | 6;
    pub(super) const GET_RULE: u16 = NFNL_SUBSYS_NFTABLES | 7;
    pub(super) const DELETE_RULE: u16 = NFNL_SUBSYS_NFTABLES | 8;
    pub(super) const GET_SET: u16 = NFNL_SUBSYS_NFTABLES | 10;
    pub(super) const GET_SET_ELEMENTS: u16 = NFNL_SUBSYS_NFTABLES | 13;
    pub(super) const GET_GENERATION: u16 = NFNL_SUBSYS_NFTABLES | 16;
}

/// `NFT_NAME_MAXLEN` without the terminating zero.
const LONGEST_NAME: usize = 255;
/// `struct nfgenmsg`.
const HEADER: usize = 4;

/// `struct nfgenmsg` for a request.
const fn header(family: Family) -> [u8; HEADER] {
    [family.number(), 0, 0, 0]
}

/// An integer in network byte order.
fn parse_u32(bytes: &[u8]) -> Result<u32, NetlinkError> {
    bytes
        .try_into()
        .map(u32::from_be_bytes)
        .map_err(|_| NetlinkError::Malformed("an attribute that is not 32 bits long"))
}

/// A string up to its terminating zero. Invalid UTF-8 is replaced.
fn parse_string(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Runs every decoder of replies, for the fuzzers. Returns the text that a user would see.
#[cfg(feature = "fuzzing")]
pub(crate) fn decode(reply: &[u8]) -> Vec<String> {
    /// The table of the recorded rule.
    const TABLE: &str = "v";
    let _ = (table::parse(reply), docker_user::handle_of(reply), number_of_generation(&[reply.to_vec()]));
    ruleset::decode(reply);
    let _ = (sets::parse(reply), sets::listed(reply));
    xtables::decode(reply);
    let list = inspect::expressions_of(reply, TABLE).ok().flatten();
    let _ = masquerade::canonical(list.as_deref().unwrap_or(reply));
    let hook = inspect::Chain::parse(reply).ok().and_then(|chain| chain.hook());
    hook.map(|hook| hook.to_string()).into_iter().collect()
}

/// Whether the kernel has nf_tables.
///
/// # Errors
/// The kernel refuses the request.
pub fn is_supported(socket: &Socket) -> Result<bool, NetlinkError> {
    generation(socket).map(|generation| generation.is_some())
}

/// The current generation of the ruleset, or `None` on a kernel without nf_tables.
///
/// # Errors
/// The kernel refuses the request.
pub fn generation(socket: &Socket) -> Result<Option<u32>, NetlinkError> {
    let replies = match netlink::request(socket, kind::GET_GENERATION, 0, &header(Family::Unspecified)) {
        Ok(replies) => replies,
        // The kernel lacks the subsystem (EINVAL of `nfnetlink_rcv_msg`). Nothing else in this request can be
        // invalid.
        Err(error) if matches!(error.errno(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => return Ok(None),
        Err(error) => return Err(error),
    };
    number_of_generation(&replies).map(Some)
}

fn number_of_generation(replies: &[Vec<u8>]) -> Result<u32, NetlinkError> {
    const NFTA_GEN_ID: u16 = 1;
    for attribute in replies.iter().filter_map(|a| a.get(HEADER..)).flat_map(attributes) {
        let attribute = attribute?;
        if attribute.kind() == NFTA_GEN_ID {
            return parse_u32(attribute.value());
        }
    }
    Err(NetlinkError::Malformed("a generation without a number"))
}

const NFNLGRP_NFTABLES: u32 = 7;

/// Subscribes the socket to an event for every change of nftables in its namespace. The socket must be new, and is
/// used for nothing else. ENOBUFS on receive means that events were lost.
///
/// # Errors
/// The kernel refuses the bind or the membership.
pub fn subscribe(socket: &mut Socket) -> KernelResult<()> {
    // An unbound socket would miss changes that the kernel makes by itself, such as the removal of a chain with its
    // device. Those events exclude the port number 0.
    socket
        .bind_auto()
        .and_then(|_| socket.add_membership(NFNLGRP_NFTABLES))
        .doing("subscribe to", "the nft events of the namespace")
}

/// Whether a datagram from a [subscribed](subscribe) socket reports a changed ruleset. A malformed datagram counts as
/// a change.
#[must_use]
pub fn is_change(datagram: &[u8]) -> bool {
    const TRACE: u16 = kind::NFNL_SUBSYS_NFTABLES | 17;
    messages(datagram).any(|message| match message {
        Ok(message) => message.kind & 0xff00 == kind::NFNL_SUBSYS_NFTABLES && message.kind != TRACE,
        Err(_) => true,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use netlink_sys::protocols::NETLINK_NETFILTER;

    use super::*;
    use crate::kernel::{
        netlink::message,
        sandbox::{in_new_namespace, nft},
    };

    #[test]
    fn other_subsystems_and_traces_are_no_change() {
        assert!(is_change(&message(kind::NEW_RULE, 0, 0, &[0; 4])));
        assert!(!is_change(&message(1 << 8, 0, 0, &[0; 4])));
        assert!(!is_change(&message(kind::NFNL_SUBSYS_NFTABLES | 17, 0, 0, &[0; 4])));
        assert!(is_change(&[0; 7]));
        assert!(!is_change(&[]));
    }

    /// Waits for a change, then drains the socket.
    fn changed(socket: &Socket) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut seen = false;
        loop {
            // The clock is read first, so that events received by the deadline count even if this thread runs late.
            let is_late = Instant::now() > deadline;
            let mut buffer = Vec::with_capacity(65_536);
            match socket.recv_from(&mut buffer, libc::MSG_DONTWAIT) {
                Ok(_) => seen |= is_change(&buffer),
                Err(_) if seen || is_late => return seen,
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    #[test]
    fn every_kind_of_change_is_reported() {
        in_new_namespace(|| {
            let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
            subscribe(&mut socket).unwrap();
            for command in [
                "add table netdev t",
                "add chain netdev t c { type filter hook ingress device lo priority 0; }",
                "add rule netdev t c accept",
                "flush chain netdev t c",
                "delete table netdev t",
            ] {
                nft(command);
                assert!(changed(&socket), "{command}");
            }
        });
    }
}
