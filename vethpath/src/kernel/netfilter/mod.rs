//! Netfilter: the masquerade rules that vethpath adds, and the chains and tables that bridged frames pass.
//!
//! Mirrors net/netfilter/nf_tables_api.c and include/uapi/linux/netfilter/nf_tables.h. Sockets are blocking
//! NETLINK_NETFILTER sockets. One that is [subscribed](subscribe) to events is not used for requests.

mod bridge_calls;
mod expressions;
mod family;
mod hook;
mod inspect;
mod legacy;
mod masquerade;
mod table;
mod watch;

pub use bridge_calls::{BRIDGE_SYSCTLS, BridgeCalls, bridge_nf_call};
pub use family::Family;
pub use hook::{Hook, HookPoint};
pub use inspect::{OwnTable, has_tables, is_exactly, rules};
pub use legacy::{LegacyTable, PROC, THREAD_NET, ebtables, legacy_tables};
pub use masquerade::add_masquerade;
use netlink_packet_core::{NlaBuffer, NlasIterator};
use netlink_sys::Socket;
use nix::libc;
pub use table::{is_foreign, remove_table};
pub use watch::{is_change, subscribe};

use super::exchange::{self, ExchangeError};
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

/// The attributes of a message or of a nest. Malformed data is an error, never a panic.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<NlaBuffer<&[u8]>, ExchangeError>> {
    NlasIterator::new(bytes).map(|a| a.map_err(|_| ExchangeError::Malformed("an attribute is truncated")))
}

/// An integer in network byte order.
fn number(bytes: &[u8]) -> Result<u32, ExchangeError> {
    bytes
        .try_into()
        .map(u32::from_be_bytes)
        .map_err(|_| ExchangeError::Malformed("an attribute that is not 32 bits long"))
}

/// A string up to its terminating zero. Invalid UTF-8 is replaced.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Runs every decoder of replies, for the fuzzers. Returns the text that a user would see.
#[cfg(feature = "fuzzing")]
pub(crate) fn decode(answer: &[u8]) -> Vec<String> {
    /// The table of the recorded rule.
    const TABLE: &str = "v";
    let _ = (table::parse(answer), number_of_generation(&[answer.to_vec()]));
    let list = inspect::expressions_of(answer, TABLE).ok().flatten();
    let _ = expressions::canonical(list.as_deref().unwrap_or(answer));
    let hook = inspect::Chain::parse(answer).ok().and_then(|chain| chain.hook());
    hook.map(|hook| hook.to_string()).into_iter().collect()
}

/// Whether the kernel has nf_tables.
///
/// # Errors
/// The kernel refuses the request.
pub fn is_supported(socket: &Socket) -> Result<bool, ExchangeError> {
    generation(socket).map(|generation| generation.is_some())
}

/// The current generation of the ruleset, or `None` on a kernel without nf_tables.
fn generation(socket: &Socket) -> Result<Option<u32>, ExchangeError> {
    let answers = match exchange::request(socket, kind::GET_GENERATION, 0, &header(Family::Unspecified)) {
        Ok(answers) => answers,
        // The kernel lacks the subsystem (EINVAL of `nfnetlink_rcv_msg`). Nothing else in this request can be
        // invalid.
        Err(error) if matches!(error.errno(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => return Ok(None),
        Err(error) => return Err(error),
    };
    number_of_generation(&answers).map(Some)
}

fn number_of_generation(answers: &[Vec<u8>]) -> Result<u32, ExchangeError> {
    const NFTA_GEN_ID: u16 = 1;
    for attribute in answers.iter().filter_map(|a| a.get(HEADER..)).flat_map(attributes) {
        let attribute = attribute?;
        if attribute.kind() == NFTA_GEN_ID {
            return number(attribute.value());
        }
    }
    Err(ExchangeError::Malformed("a generation without a number"))
}
