//! `nat = true`: packets from a bridge's subnet that leave through another interface get the host's address.

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_sys::Socket;

use super::{
    Family, expressions, header, kind,
    table::{NFTA_TABLE_NAME, Step, change, deletion, describe, mark},
};
use crate::{
    kernel::{Error, Result, exchange::Attributes},
    topology::MasqueradeRule,
};

/// The family of our tables: one for both IP versions.
pub(super) const FAMILY: Family = Family::Inet;
/// The only chain of our tables.
pub(super) const CHAIN: &str = "postrouting";
/// The chain's type.
pub(super) const CHAIN_TYPE: &str = "nat";
/// `NF_INET_POST_ROUTING`.
pub(super) const HOOK: u32 = 4;
/// `NF_IP_PRI_NAT_SRC`, nft's `srcnat`.
pub(super) const PRIORITY: u32 = 100;
/// `NF_ACCEPT`.
pub(super) const ACCEPT: u32 = 1;

/// A batch is one datagram. This many rules of 500 bytes fit the default send buffer (208 KiB).
const MOST_RULES: usize = 256;

/// Creates the table `inet TABLE` with exactly these rules. Replaces a table of ours of that name.
///
/// The table equals this ruleset, with one rule per subnet. It outlives the process.
/// ```text
/// table inet TABLE {
///     comment "made by vethpath"
///     chain postrouting {
///         type nat hook postrouting priority srcnat; policy accept;
///         ip saddr SUBNET oifname != "BRIDGE" masquerade
///     }
/// }
/// ```
/// This is one transaction: all of it is applied or nothing.
///
/// # Errors
/// A table of that name [exists](Error::is_present) without our mark, there are more than 256 rules, or the kernel
/// refuses.
pub fn add_masquerade(socket: &Socket, table: &str, rules: &[MasqueradeRule]) -> Result<()> {
    if rules.len() > MOST_RULES {
        let cause = std::io::Error::other("it would have more than 256 rules");
        return Err(Error::new("add", describe(FAMILY, table), cause));
    }
    change("add", socket, FAMILY, table, |existing| {
        let mut steps: Vec<_> = existing.map(|handle| deletion(FAMILY, handle)).into_iter().collect();
        steps.extend([new_table(table), new_chain(table)]);
        steps.extend(rules.iter().map(|rule| new_rule(table, rule)));
        steps
    })
}

fn new_table(table: &str) -> Step {
    const NFTA_TABLE_USERDATA: u16 = 6;
    let attributes = Attributes::default().text(NFTA_TABLE_NAME, table).bytes(NFTA_TABLE_USERDATA, &mark());
    Step {
        kind: kind::NEW_TABLE,
        flags: NLM_F_CREATE | NLM_F_EXCL,
        payload: attributes.behind(&header(FAMILY)),
    }
}

fn new_chain(table: &str) -> Step {
    const NFTA_CHAIN_TABLE: u16 = 1;
    const NFTA_CHAIN_NAME: u16 = 3;
    const NFTA_CHAIN_HOOK: u16 = 4;
    const NFTA_CHAIN_POLICY: u16 = 5;
    const NFTA_CHAIN_TYPE: u16 = 7;
    const NFTA_HOOK_HOOKNUM: u16 = 1;
    const NFTA_HOOK_PRIORITY: u16 = 2;
    let hook = Attributes::default().number(NFTA_HOOK_HOOKNUM, HOOK).number(NFTA_HOOK_PRIORITY, PRIORITY);
    let attributes = Attributes::default()
        .text(NFTA_CHAIN_TABLE, table)
        .text(NFTA_CHAIN_NAME, CHAIN)
        .nested(NFTA_CHAIN_HOOK, &hook)
        .number(NFTA_CHAIN_POLICY, ACCEPT)
        .text(NFTA_CHAIN_TYPE, CHAIN_TYPE);
    Step {
        kind: kind::NEW_CHAIN,
        flags: NLM_F_CREATE | NLM_F_EXCL,
        payload: attributes.behind(&header(FAMILY)),
    }
}

fn new_rule(table: &str, rule: &MasqueradeRule) -> Step {
    const NFTA_RULE_TABLE: u16 = 1;
    const NFTA_RULE_CHAIN: u16 = 2;
    const NFTA_RULE_EXPRESSIONS: u16 = 4;
    let attributes = Attributes::default()
        .text(NFTA_RULE_TABLE, table)
        .text(NFTA_RULE_CHAIN, CHAIN)
        .nested(NFTA_RULE_EXPRESSIONS, &expressions::masquerade(rule));
    Step {
        kind: kind::NEW_RULE,
        flags: NLM_F_CREATE | NLM_F_APPEND,
        payload: attributes.behind(&header(FAMILY)),
    }
}

#[cfg(test)]
mod tests;
