//! Encoding and decoding of the expressions of a masquerade rule.
//!
//! Mirrors `nft_meta.c`, `nft_payload.c`, `nft_bitwise.c`, `nft_cmp.c` and `nft_masq.c` (net/netfilter).
//! `nft --debug=netlink list ruleset` shows the same expressions.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{Family, MasqueradeRule, attributes, text};
use crate::kernel::exchange::Attributes;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;

/// The 16-byte register that every expression here uses.
const NFT_REG_1: u32 = 1;
const NFT_CMP_EQ: u32 = 0;
const NFT_CMP_NEQ: u32 = 1;
const NFT_META_OIFNAME: u32 = 7;
const NFT_META_NFPROTO: u32 = 15;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const IFNAMSIZ: usize = 16;

/// More than any rule of ours has. A longer rule is not ours.
const MOST_EXPRESSIONS: usize = 16;

/// `meta nfproto IP ip saddr SUBNET oifname != BRIDGE masquerade`, for `NFTA_RULE_EXPRESSIONS`.
pub(super) fn masquerade(rule: &MasqueradeRule) -> Attributes {
    let (protocol, offset, address, mask) = match rule.subnet.trunc() {
        IpNet::V4(net) => (Family::Ip, 12, net.addr().octets().to_vec(), net.netmask().octets().to_vec()),
        IpNet::V6(net) => (Family::Ip6, 8, net.addr().octets().to_vec(), net.netmask().octets().to_vec()),
    };
    let mut bridge = [0; IFNAMSIZ];
    bridge[..rule.bridge.as_str().len()].copy_from_slice(rule.bridge.as_str().as_bytes());

    let mut list = Attributes::default();
    list = expression(list, "meta", &load_meta(NFT_META_NFPROTO));
    list = expression(list, "cmp", &compare(NFT_CMP_EQ, &[protocol.number()]));
    list = expression(list, "payload", &load_payload(offset, address.len()));
    if mask.iter().any(|&byte| byte != u8::MAX) {
        list = expression(list, "bitwise", &and(&mask));
    }
    list = expression(list, "cmp", &compare(NFT_CMP_EQ, &address));
    list = expression(list, "meta", &load_meta(NFT_META_OIFNAME));
    list = expression(list, "cmp", &compare(NFT_CMP_NEQ, &bridge));
    expression(list, "masq", &Attributes::default())
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
                NFTA_EXPR_NAME => name = Some(text(part.value())),
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

fn expression(list: Attributes, name: &str, data: &Attributes) -> Attributes {
    let element = Attributes::default().text(NFTA_EXPR_NAME, name).nested(NFTA_EXPR_DATA, data);
    list.nested(NFTA_LIST_ELEM, &element)
}

fn load_meta(key: u32) -> Attributes {
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

fn compare(operation: u32, value: &[u8]) -> Attributes {
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
mod tests {
    use super::*;

    fn rule(subnet: &str) -> MasqueradeRule {
        MasqueradeRule { subnet: subnet.parse().unwrap(), bridge: "br0".parse().unwrap() }
    }

    #[test]
    fn rules_are_the_same_only_if_subnet_and_bridge_are() {
        let of = |rule: &MasqueradeRule| canonical(masquerade(rule).as_bytes()).unwrap();
        assert_eq!(of(&rule("10.0.0.0/24")), of(&rule("10.0.0.9/24")));
        assert_ne!(of(&rule("10.0.0.0/24")), of(&rule("10.0.0.0/25")));
        assert_ne!(of(&rule("10.0.0.0/24")), of(&rule("fd00::/64")));
        let other = MasqueradeRule { bridge: "br1".parse().unwrap(), ..rule("10.0.0.0/24") };
        assert_ne!(of(&rule("10.0.0.0/24")), of(&other));
        assert_eq!(of(&rule("10.0.0.1/32")).len() + 1, of(&rule("10.0.0.0/31")).len());
    }

    #[test]
    fn broken_expressions_are_nobodys() {
        let bytes = masquerade(&rule("10.0.0.0/24")).as_bytes().to_vec();
        let whole = canonical(&bytes).unwrap();
        for cut in 1..bytes.len() {
            assert_ne!(canonical(&bytes[..cut]).as_ref(), Some(&whole), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut broken = bytes.clone();
                broken[at] = value;
                let _ = canonical(&broken);
            }
        }
        assert_eq!(canonical(&bytes.repeat(3)), None);
    }
}
