//! Finding and removing our tables, and batches that fail if the ruleset has changed since it was read.

use std::io;

use netlink_packet_core::NLM_F_ACK;
use netlink_sys::Socket;
use nix::libc;

use super::{Family, HEADER, LONGEST_NAME, attributes, generation, header, kind};
use crate::kernel::{
    Context, Error, Result,
    netlink::{self, Attributes, NetlinkError},
};

pub(super) const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_HANDLE: u16 = 4;
const NFTA_TABLE_USERDATA: u16 = 6;

/// Maximum number of attempts at a batch that fails because the ruleset changed since it was read.
const MOST_ATTEMPTS: usize = 8;

/// The comment that marks our tables. `nft list ruleset` shows it.
const MARK: &str = "made by vethpath";

/// The mark, encoded like a comment of libnftnl: type (`NFTNL_UDATA_TABLE_COMMENT`), length, string.
pub(super) fn mark() -> Vec<u8> {
    let mut bytes = vec![0, u8::try_from(MARK.len() + 1).unwrap_or(u8::MAX)];
    bytes.extend(MARK.as_bytes());
    bytes.push(0);
    bytes
}

/// Name of a table in messages to the user.
pub(super) fn describe(family: Family, table: &str) -> String {
    format!("nft table {family} {}", table.escape_debug())
}

/// Deletes a table that carries our mark, with its contents. A missing table is not an error, nor is a kernel without
/// nf_tables.
///
/// # Errors
/// The table [exists](Error::is_present) without our mark, or the kernel refuses.
pub fn remove_table(socket: &Socket, family: Family, table: &str) -> Result<()> {
    if generation(socket).doing("delete", describe(family, table))?.is_none() {
        return Ok(());
    }
    change("delete", socket, family, table, |existing| {
        existing.map(|handle| vec![deletion(family, handle)]).unwrap_or_default()
    })
}

/// Whether a table of this name exists without our mark.
///
/// # Errors
/// The kernel refuses a request. A kernel without nf_tables has no tables, which is not an error.
pub fn is_foreign(socket: &Socket, family: Family, table: &str) -> Result<bool> {
    let find_table = || match generation(socket)? {
        Some(_) => find(socket, family, table),
        None => Ok(None),
    };
    Ok(find_table().doing("look for", describe(family, table))?.is_some_and(|found| !found.marked))
}

/// One message of a batch: type, flags, payload.
pub(super) struct Step {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) payload: Vec<u8>,
}

/// Deletes by handle, never another table that has taken the name since.
pub(super) fn deletion(family: Family, handle: [u8; 8]) -> Step {
    let payload = Attributes::default().bytes(NFTA_TABLE_HANDLE, &handle).behind(&header(family));
    Step { kind: kind::DELETE_TABLE, flags: 0, payload }
}

/// Reads the handle of our table and applies the steps that `plan` returns for it, all or none. The batch names the
/// generation that was read, so that the kernel refuses it if the ruleset has changed since.
pub(super) fn change(
    operation: &'static str,
    socket: &Socket,
    family: Family,
    table: &str,
    plan: impl Fn(Option<[u8; 8]>) -> Vec<Step>,
) -> Result<()> {
    let object = describe(family, table);
    let failed = |source| Error::new(operation, object.clone(), source);
    if table.is_empty() || table.len() > LONGEST_NAME || table.contains('\0') {
        return Err(failed(io::Error::other("the name is empty, too long or has a zero in it")));
    }
    transaction(operation, socket, &object, || {
        let existing = match find(socket, family, table).doing(operation, &object)? {
            Some(Found { marked: false, .. }) => {
                let text = format!("{object} already exists and was not created by vethpath");
                return Err(Error::plain(io::Error::new(io::ErrorKind::AlreadyExists, text)));
            }
            Some(Found { handle, .. }) => Some(handle),
            None => None,
        };
        Ok(plan(existing))
    })
}

/// Applies the steps that `plan` returns, all or none. It reads what they depend on. The kernel refuses the batch if the
/// ruleset has changed since, and then this is repeated. Nothing is done without steps.
pub(super) fn transaction(
    operation: &'static str,
    socket: &Socket,
    object: &str,
    plan: impl Fn() -> Result<Vec<Step>>,
) -> Result<()> {
    let no_nf_tables =
        || io::Error::new(io::ErrorKind::Unsupported, "this kernel has no nf_tables (CONFIG_NF_TABLES)");
    let mut outcome = Ok(());
    for _ in 0..MOST_ATTEMPTS {
        let generation = generation(socket)
            .doing(operation, object)?
            .ok_or_else(|| Error::new(operation, object, no_nf_tables()))?;
        let steps = plan()?;
        if steps.is_empty() {
            return Ok(());
        }
        outcome = batch(socket, generation, &steps);
        match &outcome {
            // The generation is stale (`nfnetlink_rcv_batch`).
            Err(error) if error.errno() == Some(ERESTART) => {}
            _ => break,
        }
    }
    outcome.doing(operation, object)
}

/// The errno for a batch with a stale generation. It is internal to the kernel, and libc does not define it.
const ERESTART: i32 = 85;

/// A table that exists under the requested name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    handle: [u8; 8],
    marked: bool,
}

fn find(socket: &Socket, family: Family, table: &str) -> std::result::Result<Option<Found>, NetlinkError> {
    let payload = Attributes::default().text(NFTA_TABLE_NAME, table).behind(&header(family));
    match netlink::request(socket, kind::GET_TABLE, 0, &payload) {
        Ok(replies) => replies.first().map(|reply| parse(reply)).transpose(),
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn parse(reply: &[u8]) -> std::result::Result<Found, NetlinkError> {
    let (mut handle, mut marked) = (None, false);
    for attribute in attributes(reply.get(HEADER..).unwrap_or_default()) {
        let attribute = attribute?;
        match attribute.kind() {
            NFTA_TABLE_HANDLE => handle = attribute.value().try_into().ok(),
            NFTA_TABLE_USERDATA => marked = attribute.value() == mark(),
            _ => {}
        }
    }
    Ok(Found { handle: handle.ok_or(NetlinkError::Malformed("a table without a handle"))?, marked })
}

/// Sends the steps as one transaction (`nfnetlink_rcv_batch`).
fn batch(socket: &Socket, generation: u32, steps: &[Step]) -> std::result::Result<(), NetlinkError> {
    const NFNL_BATCH_GENID: u16 = 1;
    // `res_id` names the subsystem, in network byte order: NFNL_SUBSYS_NFTABLES.
    let control = [0, 0, 0, 10];
    let batch = Attributes::default().number(NFNL_BATCH_GENID, generation).behind(&control);
    let first = netlink::sequence();
    let mut bytes = netlink::message(kind::BATCH_BEGIN, 0, first, &batch);
    let mut numbers = vec![first];
    for (index, step) in steps.iter().enumerate() {
        let number = netlink::sequence();
        numbers.push(number);
        // Errors are always reported. The ack of the last step means that all were applied.
        let flags = step.flags | if index + 1 == steps.len() { NLM_F_ACK } else { 0 };
        bytes.extend(netlink::message(step.kind, flags, number, &step.payload));
    }
    let last = numbers.last().copied().unwrap_or(first);
    bytes.extend(netlink::message(kind::BATCH_END, 0, netlink::sequence(), &control));
    netlink::transact(socket, &bytes, |number| numbers.contains(&number), last).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tables_answer_may_be_garbage() {
        let reply = Attributes::default()
            .text(NFTA_TABLE_NAME, "t")
            .bytes(NFTA_TABLE_HANDLE, &[0, 0, 0, 0, 0, 0, 0, 9])
            .bytes(NFTA_TABLE_USERDATA, &mark())
            .behind(&header(Family::Inet));
        assert_eq!(parse(&reply).unwrap(), Found { handle: [0, 0, 0, 0, 0, 0, 0, 9], marked: true });
        // The last byte is padding.
        for cut in 0..reply.len() - 1 {
            assert!(!parse(&reply[..cut]).is_ok_and(|found| found.marked), "cut at {cut}");
        }
    }
}
