//! `nat = true`: packets from a bridge's subnet that leave through another interface get the host's address.
//!
//! The expressions of a rule mirror `nft_meta.c`, `nft_payload.c`, `nft_bitwise.c`, `nft_cmp.c` and `nft_masq.c`
//! (net/netfilter). `nft --debug=netlink list ruleset` shows the same expressions.

use std::collections::BTreeMap;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_sys::Socket;

use super::{
    Family, attributes, header, kind, parse_string,
    table::{NFTA_TABLE_NAME, Step, change, deletion, describe, mark},
};
use crate::{
    kernel::{Error, Result, netlink::Attributes},
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
        .nested(NFTA_RULE_EXPRESSIONS, &expressions(rule));
    Step {
        kind: kind::NEW_RULE,
        flags: NLM_F_CREATE | NLM_F_APPEND,
        payload: attributes.behind(&header(FAMILY)),
    }
}

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
pub(super) const NFTA_DATA_VALUE: u16 = 1;

/// The 16-byte register that every expression here uses.
const NFT_REG_1: u32 = 1;
pub(super) const NFT_CMP_EQ: u32 = 0;
const NFT_CMP_NEQ: u32 = 1;
pub(super) const NFT_META_OIFNAME: u32 = 7;
const NFT_META_NFPROTO: u32 = 15;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const IFNAMSIZ: usize = 16;

/// More than any rule of ours has. A longer rule is not ours.
const MOST_EXPRESSIONS: usize = 16;

/// `meta nfproto IP ip saddr SUBNET oifname != BRIDGE masquerade`, for `NFTA_RULE_EXPRESSIONS`.
pub(super) fn expressions(rule: &MasqueradeRule) -> Attributes {
    let (protocol, offset, address, mask) = match rule.subnet.trunc() {
        IpNet::V4(net) => (Family::Ip, 12, net.addr().octets().to_vec(), net.netmask().octets().to_vec()),
        IpNet::V6(net) => (Family::Ip6, 8, net.addr().octets().to_vec(), net.netmask().octets().to_vec()),
    };
    let mut bridge = [0; IFNAMSIZ];
    bridge[..rule.device.as_str().len()].copy_from_slice(rule.device.as_str().as_bytes());

    let mut list = Attributes::default();
    list = with_expression(list, "meta", &load_meta(NFT_META_NFPROTO));
    list = with_expression(list, "cmp", &compare(NFT_CMP_EQ, &[protocol.number()]));
    list = with_expression(list, "payload", &load_payload(offset, address.len()));
    if mask.iter().any(|&byte| byte != u8::MAX) {
        list = with_expression(list, "bitwise", &and(&mask));
    }
    list = with_expression(list, "cmp", &compare(NFT_CMP_EQ, &address));
    list = with_expression(list, "meta", &load_meta(NFT_META_OIFNAME));
    list = with_expression(list, "cmp", &compare(NFT_CMP_NEQ, &bridge));
    with_expression(list, "masq", &Attributes::default())
}

/// Name and attributes of an expression, independent of the order and the flags of the attributes.
type Expression = (String, BTreeMap<u16, Vec<u8>>);

/// The list in a form that can be compared. `None` if it is malformed, or contains something that no rule of ours
/// contains.
pub(super) fn canonical(list: &[u8]) -> Option<Vec<Expression>> {
    let mut expressions = Vec::new();
    for element in attributes(list) {
        let element = element.ok()?;
        if element.kind() != NFTA_LIST_ELEM || expressions.len() == MOST_EXPRESSIONS {
            return None;
        }
        let (mut name, mut data) = (None, BTreeMap::new());
        for part in attributes(element.value()) {
            let part = part.ok()?;
            match part.kind() {
                NFTA_EXPR_NAME => name = Some(parse_string(part.value())),
                NFTA_EXPR_DATA => {
                    for attribute in attributes(part.value()) {
                        let attribute = attribute.ok()?;
                        data.insert(attribute.kind(), attribute.value().to_vec());
                    }
                }
                _ => return None,
            }
        }
        expressions.push((name?, data));
    }
    Some(expressions)
}

pub(super) fn with_expression(list: Attributes, name: &str, data: &Attributes) -> Attributes {
    let element = Attributes::default().text(NFTA_EXPR_NAME, name).nested(NFTA_EXPR_DATA, data);
    list.nested(NFTA_LIST_ELEM, &element)
}

pub(super) fn load_meta(key: u32) -> Attributes {
    const NFTA_META_DREG: u16 = 1;
    const NFTA_META_KEY: u16 = 2;
    Attributes::default().number(NFTA_META_DREG, NFT_REG_1).number(NFTA_META_KEY, key)
}

fn load_payload(offset: u32, length: usize) -> Attributes {
    const NFTA_PAYLOAD_DREG: u16 = 1;
    const NFTA_PAYLOAD_BASE: u16 = 2;
    const NFTA_PAYLOAD_OFFSET: u16 = 3;
    const NFTA_PAYLOAD_LEN: u16 = 4;
    Attributes::default()
        .number(NFTA_PAYLOAD_DREG, NFT_REG_1)
        .number(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER)
        .number(NFTA_PAYLOAD_OFFSET, offset)
        .number(NFTA_PAYLOAD_LEN, count(length))
}

fn and(mask: &[u8]) -> Attributes {
    const NFTA_BITWISE_SREG: u16 = 1;
    const NFTA_BITWISE_DREG: u16 = 2;
    const NFTA_BITWISE_LEN: u16 = 3;
    const NFTA_BITWISE_MASK: u16 = 4;
    const NFTA_BITWISE_XOR: u16 = 5;
    const NFTA_BITWISE_OP: u16 = 6;
    const NFT_BITWISE_MASK_XOR: u32 = 0;
    Attributes::default()
        .number(NFTA_BITWISE_SREG, NFT_REG_1)
        .number(NFTA_BITWISE_DREG, NFT_REG_1)
        .number(NFTA_BITWISE_LEN, count(mask.len()))
        .number(NFTA_BITWISE_OP, NFT_BITWISE_MASK_XOR)
        .nested(NFTA_BITWISE_MASK, &Attributes::default().bytes(NFTA_DATA_VALUE, mask))
        .nested(NFTA_BITWISE_XOR, &Attributes::default().bytes(NFTA_DATA_VALUE, &vec![0; mask.len()]))
}

pub(super) fn compare(operation: u32, value: &[u8]) -> Attributes {
    const NFTA_CMP_SREG: u16 = 1;
    const NFTA_CMP_OP: u16 = 2;
    const NFTA_CMP_DATA: u16 = 3;
    Attributes::default()
        .number(NFTA_CMP_SREG, NFT_REG_1)
        .number(NFTA_CMP_OP, operation)
        .nested(NFTA_CMP_DATA, &Attributes::default().bytes(NFTA_DATA_VALUE, value))
}

/// The length of an address or a mask.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
