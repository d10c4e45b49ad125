//! The base chains of a namespace that may affect frames.
//!
//! Mirrors `nf_tables_fill_chain_info` and `nft_dump_basechain_hook` (net/netfilter/nf_tables_api.c).

use std::collections::BTreeSet;

use netlink_sys::Socket;

use super::{
    Family, HEADER, Hook, HookPoint, LegacyTable, MasqueradeRule, attributes, generation, header, kind,
    masquerade::{self, ACCEPT, CHAIN, CHAIN_TYPE, FAMILY, HOOK, PRIORITY},
    parse_string, parse_u32,
    table::describe,
};
use crate::kernel::{
    Context, Result,
    netlink::{self, Attributes, NetlinkError},
};

const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_EXPRESSIONS: u16 = 4;

type NetlinkResult<T> = std::result::Result<T, NetlinkError>;

/// A table created by [`add_masquerade`](super::add_masquerade).
#[derive(Clone, Copy, Debug)]
pub struct OwnTable<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its rules, in order.
    pub rules: &'a [MasqueradeRule],
}

/// The base chains in the socket's namespace that have rules or drop by policy, in dump order. Tables that equal one
/// of `ours` are left out, unless they have been modified. [`Hook::sees`] states which chains a bridged frame passes.
///
/// # Errors
/// The kernel refuses a request. A kernel without nf_tables has no chains, which is not an error.
pub fn rules(socket: &Socket, ours: &[OwnTable<'_>]) -> Result<Vec<Hook>> {
    let chains = chains(socket).doing("list", "the nft chains of the namespace")?;
    let mut exact = Vec::new();
    for table in ours {
        if is_exact(socket, &chains, *table)? {
            exact.push(table.name);
        }
    }
    let own = |chain: &Chain| chain.family == FAMILY && exact.contains(&chain.table.as_str());
    Ok(chains.iter().filter(|chain| !own(chain)).filter_map(Chain::hook).collect())
}

/// Whether the socket's namespace has any nft table. Chains, objects and flowtables of any table may need connection
/// tracking (`nf_ct_netns_get` in net/netfilter/nf_conntrack_proto.c).
///
/// # Errors
/// The kernel refuses the dump.
pub fn has_tables(socket: &Socket) -> Result<bool> {
    let tables = dump(socket, kind::GET_TABLE, &header(Family::Unspecified));
    Ok(!tables.doing("list", "the nft tables of the namespace")?.is_empty())
}

/// Whether the table exists and is unmodified since [`add_masquerade`](super::add_masquerade): one chain, with these
/// rules in this order.
///
/// # Errors
/// The kernel refuses a request.
pub fn is_exactly(socket: &Socket, table: OwnTable<'_>) -> Result<bool> {
    let chains = chains(socket).doing("read", describe(FAMILY, table.name))?;
    is_exact(socket, &chains, table)
}

fn is_exact(socket: &Socket, chains: &[Chain], table: OwnTable<'_>) -> Result<bool> {
    let mut of_table = chains.iter().filter(|c| c.family == FAMILY && c.table == table.name);
    let (Some(chain), None) = (of_table.next(), of_table.next()) else { return Ok(false) };
    let base = Base { point: HOOK, priority: PRIORITY, devices: Vec::new() };
    let same = chain.name == CHAIN
        && chain.kind == CHAIN_TYPE
        && chain.policy == Some(ACCEPT)
        && chain.base.as_ref() == Some(&base)
        && chain.uses.is_some_and(|uses| usize::try_from(uses) == Ok(table.rules.len()));
    if !same {
        return Ok(false);
    }
    let found = rule_expressions(socket, table.name).doing("read", describe(FAMILY, table.name))?;
    let matches = |(expected, found): (&MasqueradeRule, &Option<Vec<u8>>)| {
        let found = found.as_deref().and_then(masquerade::canonical);
        found.is_some() && found == masquerade::canonical(masquerade::expressions(expected).as_bytes())
    };
    Ok(found.len() == table.rules.len() && table.rules.iter().zip(&found).all(matches))
}

/// The expressions of each rule in one of our tables.
fn rule_expressions(socket: &Socket, table: &str) -> NetlinkResult<Vec<Option<Vec<u8>>>> {
    let filter = Attributes::default().text(NFTA_RULE_TABLE, table).behind(&header(FAMILY));
    let replies = netlink::dump(socket, kind::GET_RULE, &filter)?;
    replies.iter().map(|reply| expressions_of(reply, table)).collect()
}

/// The expressions of one rule, which must be of `table`.
pub(super) fn expressions_of(reply: &[u8], table: &str) -> NetlinkResult<Option<Vec<u8>>> {
    let mut expressions = None;
    for attribute in attributes(reply.get(HEADER..).unwrap_or_default()) {
        let attribute = attribute?;
        match attribute.kind() {
            // Kernels before 4.8 do not filter the dump.
            NFTA_RULE_TABLE if parse_string(attribute.value()) != table => {
                return Err(NetlinkError::Malformed("a rule of another table"));
            }
            NFTA_RULE_EXPRESSIONS => expressions = Some(attribute.value().to_vec()),
            _ => {}
        }
    }
    Ok(expressions)
}

/// A dump, which is empty on a kernel without nf_tables.
pub(super) fn dump(socket: &Socket, kind: u16, payload: &[u8]) -> NetlinkResult<Vec<Vec<u8>>> {
    generation(socket)?.map_or_else(|| Ok(Vec::new()), |_| netlink::dump(socket, kind, payload))
}

pub(super) fn chains(socket: &Socket) -> NetlinkResult<Vec<Chain>> {
    let replies = dump(socket, kind::GET_CHAIN, &header(Family::Unspecified))?;
    replies.iter().map(|reply| Chain::parse(reply)).collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) family: Family,
    pub(super) table: String,
    pub(super) name: String,
    /// `filter`, `nat`, `route`.
    pub(super) kind: String,
    /// Only base chains have a policy.
    pub(super) policy: Option<u32>,
    /// Number of rules in the chain and jumps to it.
    uses: Option<u32>,
    /// The hook. Only base chains have one.
    pub(super) base: Option<Base>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) point: u32,
    priority: u32,
    pub(super) devices: Vec<String>,
}

impl Chain {
    pub(super) fn parse(reply: &[u8]) -> NetlinkResult<Self> {
        const NFTA_CHAIN_TABLE: u16 = 1;
        const NFTA_CHAIN_NAME: u16 = 3;
        const NFTA_CHAIN_HOOK: u16 = 4;
        const NFTA_CHAIN_POLICY: u16 = 5;
        const NFTA_CHAIN_USE: u16 = 6;
        const NFTA_CHAIN_TYPE: u16 = 7;
        let (header, rest) =
            reply.split_first_chunk::<HEADER>().ok_or(NetlinkError::Malformed("a chain without a header"))?;
        let (table, name, kind) = (String::new(), String::new(), String::new());
        let family = Family::from_number(header[0]);
        let mut chain = Self { family, table, name, kind, policy: None, uses: None, base: None };
        for attribute in attributes(rest) {
            let attribute = attribute?;
            match attribute.kind() {
                NFTA_CHAIN_TABLE => chain.table = parse_string(attribute.value()),
                NFTA_CHAIN_NAME => chain.name = parse_string(attribute.value()),
                NFTA_CHAIN_HOOK => chain.base = Some(Base::parse(attribute.value())?),
                NFTA_CHAIN_POLICY => chain.policy = Some(parse_u32(attribute.value())?),
                NFTA_CHAIN_USE => chain.uses = Some(parse_u32(attribute.value())?),
                NFTA_CHAIN_TYPE => chain.kind = parse_string(attribute.value()),
                _ => {}
            }
        }
        Ok(chain)
    }

    /// A chain of x_tables. Those of hooks have a policy.
    pub(super) fn of_x_tables(
        table: &LegacyTable,
        name: String,
        hook: Option<u32>,
        policy: Option<u32>,
    ) -> Self {
        let base = hook.map(|point| Base { point, priority: 0, devices: Vec::new() });
        let kind = if table.name == "nat" { "nat" } else { "filter" }.to_owned();
        Self { family: table.family, table: table.name.clone(), name, kind, policy, uses: None, base }
    }

    /// The chain as a hook. `None` if it is not a base chain, or has no rules and accepts by policy.
    ///
    /// NFTA_CHAIN_USE counts the rules in a chain and the jumps to it, and nothing can jump to a base chain. It is
    /// therefore 0 if and only if there are no rules. A dump of all rules is avoided, since hosts with many containers
    /// have tens of thousands. The kernel itself relies on this count when it frees a chain.
    pub(super) fn hook(&self) -> Option<Hook> {
        let base = self.base.as_ref()?;
        if self.uses == Some(0) && self.policy == Some(ACCEPT) {
            return None;
        }
        Some(Hook {
            family: self.family,
            table: self.table.clone(),
            chain: self.name.clone(),
            is_nat: self.kind == "nat",
            hook: HookPoint::from_number(self.family, base.point),
            devices: base.devices.clone(),
        })
    }
}

impl Base {
    fn parse(nest: &[u8]) -> NetlinkResult<Self> {
        const NFTA_HOOK_HOOKNUM: u16 = 1;
        const NFTA_HOOK_PRIORITY: u16 = 2;
        const NFTA_HOOK_DEV: u16 = 3;
        const NFTA_HOOK_DEVS: u16 = 4;
        let (mut point, mut priority, mut devices) = (None, None, BTreeSet::new());
        for attribute in attributes(nest) {
            let attribute = attribute?;
            match attribute.kind() {
                NFTA_HOOK_HOOKNUM => point = Some(parse_u32(attribute.value())?),
                NFTA_HOOK_PRIORITY => priority = Some(parse_u32(attribute.value())?),
                // With a single device, both attributes are present.
                NFTA_HOOK_DEV => drop(devices.insert(device(attribute.value()))),
                NFTA_HOOK_DEVS => {
                    for name in attributes(attribute.value()) {
                        let name = name?;
                        devices.insert(device_name(name.kind(), name.value()));
                    }
                }
                // An unknown attribute may name devices.
                _ => drop(devices.insert("*".to_owned())),
            }
        }
        let missing = NetlinkError::Malformed("a hook without number or priority");
        let (Some(point), Some(priority)) = (point, priority) else { return Err(missing) };
        Ok(Self { point, priority, devices: devices.into_iter().collect() })
    }
}

fn device_name(kind: u16, value: &[u8]) -> String {
    const NFTA_DEVICE_NAME: u16 = 1;
    const NFTA_DEVICE_PREFIX: u16 = 2;
    match kind {
        NFTA_DEVICE_NAME => device(value),
        NFTA_DEVICE_PREFIX => parse_string(value) + "*",
        _ => "*".to_owned(),
    }
}

/// Linux 6.16 encodes a name prefix as a string without a terminating zero.
fn device(value: &[u8]) -> String {
    if value.contains(&0) { parse_string(value) } else { parse_string(value) + "*" }
}

#[cfg(test)]
mod tests;
