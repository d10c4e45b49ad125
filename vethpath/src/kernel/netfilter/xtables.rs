//! The rules of iptables-legacy and ip6tables-legacy.
//!
//! Mirrors `get_info`, `get_entries` and `copy_entries_to_user` (net/ipv4/netfilter/ip_tables.c and
//! net/ipv6/netfilter/ip6_tables.c), and include/uapi/linux/netfilter/x_tables.h. A table is a list of entries, each with
//! its tests and a target. Chains are ranges of it: those of hooks end with their policy, those of users begin behind an
//! entry with their name. There are no events for changes to these tables.

use std::{collections::BTreeMap, io, os::fd::AsFd as _};

use ipnet::IpNet;
use nix::{
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

use super::{
    Family, LegacyTable,
    expression::Action,
    inspect::Chain,
    masquerade::ACCEPT,
    parse_string,
    ruleset::{Rule, Ruleset, Test, extension, subnet, target},
};
use crate::kernel::{Context, Result};

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`; those of IPv6 are the same.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;

/// `XT_TABLE_MAXNAMELEN`.
const NAME: usize = 32;
/// `struct ipt_getinfo`.
const INFO: usize = 84;
/// The offset of the entries in `struct ipt_get_entries`.
const ENTRIES: usize = 40;
/// `struct xt_entry_match` and `struct xt_entry_target` without their data.
const EXTENSION: usize = 32;
/// The number of hooks.
const HOOKS: u32 = 5;
/// A table with more bytes is not read.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// How often a table is read while it changes.
const MOST_READS: usize = 8;

/// The layout of `struct ipt_entry` or `struct ip6t_entry`. Offsets are in bytes.
struct Layout {
    /// The length of an address.
    address: usize,
    /// `iniface`; the addresses and their masks are before it.
    devices: usize,
    /// `proto`.
    protocol: usize,
    /// `flags`; `invflags` is behind it.
    flags: usize,
    /// `target_offset`; `next_offset` is behind it.
    offsets: usize,
    /// The length of the entry without its matches and target.
    length: usize,
    /// `IPT_F_GOTO`.
    goto: u8,
    /// `IPT_F_FRAG`, and flags of IPv6 other than that which says that the protocol counts.
    tested: u8,
}

const V4: Layout =
    Layout { address: 4, devices: 16, protocol: 80, flags: 82, offsets: 88, length: 112, goto: 2, tested: 1 };
const V6: Layout = Layout {
    address: 16,
    devices: 64,
    protocol: 128,
    flags: 131,
    offsets: 140,
    length: 168,
    goto: 4,
    tested: 2,
};

const MALFORMED: &str = "a table of x_tables with offsets out of range";

/// Reads these tables in the calling thread's namespace, where they must exist: asking for one creates it.
///
/// # Errors
/// The kernel refuses, or a table is larger than 32 MiB or changes all the time.
pub fn legacy_rules(tables: &[LegacyTable]) -> Result<Ruleset> {
    let mut ruleset = Ruleset { is_legacy: true, ..Ruleset::default() };
    for table in tables {
        let read = read(table).and_then(|(info, entries)| add(&mut ruleset, table, &info, &entries));
        read.doing("read", table)?;
    }
    ruleset.may_untrack = ruleset.rules.iter().flatten().any(|rule| rule.may_untrack);
    Ok(ruleset)
}

/// Whether a table's rules can be read: those of iptables and ip6tables can.
#[must_use]
pub fn is_readable(table: &LegacyTable) -> bool {
    layout(table.family).is_some()
}

const fn layout(family: Family) -> Option<&'static Layout> {
    match family {
        Family::Ip => Some(&V4),
        Family::Ip6 => Some(&V6),
        _ => None,
    }
}

/// The description of a table, and its entries.
fn read(table: &LegacyTable) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (family, level) = match table.family {
        Family::Ip => (AddressFamily::Inet, libc::SOL_IP),
        _ => (AddressFamily::Inet6, libc::SOL_IPV6),
    };
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let request = |length: usize| {
        let mut buffer = vec![0; length];
        let name = table.name.as_bytes();
        let length = name.len().min(NAME - 1);
        buffer[..length].copy_from_slice(&name[..length]);
        buffer
    };
    for _ in 0..MOST_READS {
        let mut info = request(INFO);
        let _ = super::socket_option::exchange(socket.as_fd(), level, GET_INFO, &mut info)?;
        let size = number(&info, INFO - 4).ok_or_else(malformed)?;
        let length = usize::try_from(size).ok().filter(|size| *size <= MOST_BYTES).ok_or_else(malformed)?;
        let mut entries = request(ENTRIES + length);
        entries[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
        match super::socket_option::exchange(socket.as_fd(), level, GET_ENTRIES, &mut entries) {
            Ok(_) => return Ok((info, entries.split_off(ENTRIES))),
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EAGAIN))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, MALFORMED)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn short(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?).into())
}

/// Adds the chains of a table.
fn add(ruleset: &mut Ruleset, table: &LegacyTable, info: &[u8], entries: &[u8]) -> io::Result<()> {
    let layout = layout(table.family).ok_or_else(malformed)?;
    let parsed = Table::parse(layout, info, entries).ok_or_else(malformed)?;
    for InTable { name, hook, policy, rules } in parsed.chains() {
        let key = (table.family, table.name.clone(), name.clone());
        ruleset.index.insert(key, ruleset.chains.len());
        ruleset.chains.push(Chain::of_x_tables(table, name, hook, policy));
        ruleset.rules.push(rules);
    }
    Ok(())
}

/// Runs the decoder, for the fuzzers.
#[cfg(feature = "fuzzing")]
pub(super) fn decode(bytes: &[u8]) {
    let (info, entries) = bytes.split_at(bytes.len().min(INFO));
    for family in [Family::Ip, Family::Ip6] {
        let table = LegacyTable { family, name: "filter".to_owned() };
        let _ = add(&mut Ruleset::default(), &table, info, entries);
    }
}

/// What an entry does: its action, or the offset of the entry that it jumps to.
enum Target {
    Action(Action),
    Jump {
        to: usize,
        is_goto: bool,
    },
    /// The name of the chain that begins behind it.
    Begins(String),
}

struct Entry {
    rule: Rule,
    target: Target,
    next: usize,
}

/// A table's entries, by offset, and its hooks.
struct Table {
    entries: BTreeMap<usize, Entry>,
    /// The number of each hook, the offset of its first entry, and that of its policy.
    hooks: Vec<(u32, usize, usize)>,
}

/// A chain of a table.
struct InTable {
    name: String,
    hook: Option<u32>,
    /// Those of hooks have one.
    policy: Option<u32>,
    rules: Vec<Rule>,
}

impl Table {
    fn parse(layout: &Layout, info: &[u8], bytes: &[u8]) -> Option<Self> {
        const VALID_HOOKS: usize = NAME;
        const HOOK_ENTRY: usize = VALID_HOOKS + 4;
        const UNDERFLOW: usize = HOOK_ENTRY + 4 * HOOKS as usize;
        let valid = number(info, VALID_HOOKS)?;
        let offset = |field: usize, hook: u32| {
            usize::try_from(number(info, field + 4 * usize::try_from(hook).ok()?)?).ok()
        };
        let hooks = (0..HOOKS).filter(|hook| valid & (1 << hook) != 0);
        let hooks: Option<Vec<_>> =
            hooks.map(|hook| Some((hook, offset(HOOK_ENTRY, hook)?, offset(UNDERFLOW, hook)?))).collect();
        let mut entries = BTreeMap::new();
        let mut at = 0;
        while at < bytes.len() {
            let entry = Entry::parse(layout, bytes.get(at..)?, at)?;
            let next = entry.next;
            entries.insert(at, entry);
            at = next;
        }
        Some(Self { entries, hooks: hooks? })
    }

    fn chains(&self) -> Vec<InTable> {
        const BUILT_IN: [&str; HOOKS as usize] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
        // The name of the chain that begins at an offset.
        let begins = |entry: &Entry| match &entry.target {
            Target::Begins(name) => Some((entry.next, name.clone())),
            _ => None,
        };
        let names: BTreeMap<usize, String> = self.entries.values().filter_map(begins).collect();
        let rule = |entry: &Entry| {
            let action = match &entry.target {
                Target::Action(action) => action.clone(),
                // iptables jumps to what is next where there is no target.
                Target::Jump { to, .. } if *to == entry.next => Action::Continue,
                Target::Jump { to, is_goto } => match (names.get(to), is_goto) {
                    (Some(name), true) => Action::Goto(name.clone()),
                    (Some(name), false) => Action::Jump(name.clone()),
                    (None, _) => Action::Unknown,
                },
                Target::Begins(_) => Action::Unknown,
            };
            Rule { action, ..entry.rule.clone() }
        };
        let mut chains = Vec::new();
        for &(hook, first, last) in &self.hooks {
            let name = BUILT_IN.get(hook as usize).copied().unwrap_or_default();
            let rules = self.entries.range(first..last.max(first)).map(|(_, entry)| rule(entry)).collect();
            let accepts = |entry: &Entry| matches!(entry.target, Target::Action(Action::Accept));
            let policy = if self.entries.get(&last).is_some_and(accepts) { ACCEPT } else { 0 };
            chains.push(InTable { name: name.to_owned(), hook: Some(hook), policy: Some(policy), rules });
        }
        for (&first, name) in &names {
            // The last entry of a table is an error without a chain behind it.
            if name == "ERROR" && !self.entries.contains_key(&first) {
                continue;
            }
            let is_of_chain = |entry: &&Entry| !matches!(entry.target, Target::Begins(_));
            let entries = self.entries.range(first..).map(|(_, entry)| entry).take_while(is_of_chain);
            let rules = entries.map(rule).collect();
            chains.push(InTable { name: name.clone(), hook: None, policy: None, rules });
        }
        chains
    }
}

impl Entry {
    /// The entry that begins with `bytes`, at an offset of its table.
    fn parse(layout: &Layout, bytes: &[u8], at: usize) -> Option<Self> {
        let (target_at, length) = (short(bytes, layout.offsets)?, short(bytes, layout.offsets + 2)?);
        let bytes = bytes.get(..length)?;
        if target_at < layout.length || length < target_at + EXTENSION {
            return None;
        }
        let mut rule = Rule { tests: layout.tests(bytes)?, ..Rule::default() };
        let mut next = layout.length;
        while next < target_at {
            let (name, data, length) = extension_at(bytes.get(next..target_at)?)?;
            match name.as_str() {
                "comment" => rule.comment = Some(parse_string(data).into()),
                name => rule.tests.push(extension(name, data).unwrap_or(Test::Unknown)),
            }
            next += length;
        }
        let (name, data, _) = extension_at(bytes.get(target_at..)?)?;
        rule.may_untrack = name == "CT" || name == "NOTRACK";
        let target = match name.as_str() {
            // Negative numbers are verdicts.
            "" => match number(data, 0)?.cast_signed() {
                -1 => Target::Action(Action::Drop),
                -2 => Target::Action(Action::Accept),
                -5 => Target::Action(Action::Return),
                to @ 0.. => {
                    let is_goto = bytes.get(layout.flags)? & layout.goto != 0;
                    Target::Jump { to: usize::try_from(to).ok()?, is_goto }
                }
                _ => Target::Action(Action::Unknown),
            },
            "ERROR" => Target::Begins(parse_string(data)),
            name => Target::Action(target(name)),
        };
        Some(Self { rule, target, next: at.checked_add(length)? })
    }
}

/// The name, the data and the length of the match or target that begins with `bytes`.
fn extension_at(bytes: &[u8]) -> Option<(String, &[u8], usize)> {
    let length = short(bytes, 0)?;
    let data = bytes.get(EXTENSION..length)?;
    Some((parse_string(bytes.get(2..EXTENSION - 1)?), data, length))
}

impl Layout {
    /// The tests of an entry itself.
    fn tests(&self, bytes: &[u8]) -> Option<Vec<Test>> {
        const VIA_IN: u8 = 1;
        const VIA_OUT: u8 = 2;
        const SOURCE: u8 = 8;
        const DESTINATION: u8 = 16;
        const IFNAMSIZ: usize = 16;
        let field = |at: usize, length: usize| bytes.get(at..at + length);
        let inverted = *bytes.get(self.flags + 1)?;
        let mut tests = Vec::new();
        for (number, is_source, flag) in [(0, true, SOURCE), (1, false, DESTINATION)] {
            let address = field(number * self.address, self.address)?;
            let mask = field((number + 2) * self.address, self.address)?;
            if mask.iter().any(|byte| *byte != 0) {
                let is_equal = inverted & flag == 0;
                let subnet = subnet_of(address, mask);
                tests.push(subnet.map_or(Test::Unknown, |subnet| Test::Address {
                    is_source,
                    subnet,
                    is_equal,
                }));
            }
        }
        for (number, is_in, flag) in [(0, true, VIA_IN), (1, false, VIA_OUT)] {
            let name = field(self.devices + number * IFNAMSIZ, IFNAMSIZ)?;
            let mask = field(self.devices + (number + 2) * IFNAMSIZ, IFNAMSIZ)?;
            let length = mask.iter().take_while(|byte| **byte != 0).count();
            if length > 0 {
                let bytes = &name[..length];
                // The mask of a whole name covers its terminating zero.
                let (is_prefix, is_equal) = (!bytes.contains(&0), inverted & flag == 0);
                tests.push(Test::Device { is_in, name: parse_string(bytes), is_prefix, is_equal });
            }
        }
        if short(bytes, self.protocol)? != 0 || *bytes.get(self.flags)? & self.tested != 0 {
            tests.push(Test::Unknown);
        }
        Some(tests)
    }
}

fn subnet_of(address: &[u8], mask: &[u8]) -> Option<IpNet> {
    let mut bits = [u8::MAX; 16];
    bits.get_mut(..mask.len())?.copy_from_slice(mask);
    subnet(address, u128::from_be_bytes(bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{
        netfilter::{HookPoint, NEW, Packets, THREAD_NET, Verdict, legacy_tables},
        sandbox::{in_new_namespace, run, succeeds},
    };

    /// What the legacy rules of the calling thread's namespace do to packets from one device to another.
    fn verdict(family: Family, subnet: &str, devices: [&str; 2]) -> Verdict {
        let tables = legacy_tables(std::path::Path::new(THREAD_NET)).unwrap();
        let ruleset = legacy_rules(&tables).unwrap();
        let subnets = [subnet.parse().unwrap()];
        let packets = Packets {
            family,
            in_devices: &devices[..1],
            out_devices: &devices[1..],
            are_bridged: false,
            state: NEW,
            sources: &subnets,
            destinations: &[],
        };
        ruleset.verdict(HookPoint::Forward, &[family, Family::Inet], packets)
    }

    #[test]
    fn rules_and_policies_decide() {
        for (tool, family, subnet) in
            [("iptables-legacy", Family::Ip, "10.8.0.0/24"), ("ip6tables-legacy", Family::Ip6, "fd08::/64")]
        {
            in_new_namespace(|| {
                if !succeeds(tool, &["-P", "FORWARD", "DROP"]) {
                    assert!(std::env::var_os("CI").is_none(), "no {tool}");
                    return;
                }
                let rule = |rule: &str| drop(run(tool, &rule.split(' ').collect::<Vec<_>>()));
                let of = |from, to| verdict(family, subnet, [from, to]);
                let dropped = |chain: &str| match of("br0", "up0") {
                    Verdict::Drop(by) => by.to_string() == format!("{tool} table filter, chain {chain}"),
                    other => panic!("{other:?}"),
                };
                assert!(dropped("FORWARD (policy drop)"));
                rule("-N DOCKER-USER");
                rule("-A FORWARD -j DOCKER-USER");
                rule("-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
                rule("-A FORWARD -i docker0 ! -o docker0 -j ACCEPT");
                rule("-A FORWARD -i br0 -o br0 -j ACCEPT");
                rule("-A FORWARD -i eth+ -j ACCEPT");
                rule("-A DOCKER-USER -j RETURN");
                assert!(dropped("FORWARD (policy drop)"), "none is about the lab");
                assert_eq!(of("br0", "br0"), Verdict::Accept);
                rule("-A FORWARD -p tcp -j ACCEPT");
                assert!(matches!(of("br0", "up0"), Verdict::MayDrop(_)));
                rule(&format!("-I DOCKER-USER -s {subnet} -m comment --comment lab -j ACCEPT"));
                assert_eq!(of("br0", "up0"), Verdict::Accept);
                rule("-I DOCKER-USER ! -i eth0 -j REJECT");
                assert!(dropped("FORWARD"));
                rule("-D DOCKER-USER 1");
                rule("-P FORWARD ACCEPT");
                rule("-N late");
                rule("-I FORWARD -g late");
                assert_eq!(of("br0", "up0"), Verdict::Accept);
                rule("-A late -j DROP");
                assert!(dropped("FORWARD"));
                rule("-F late");
                rule("-t raw -A PREROUTING -j NOTRACK");
                rule("-I FORWARD -m conntrack --ctstate NEW -j DROP");
                assert!(matches!(of("br0", "up0"), Verdict::MayDrop(_)), "it may not be tracked");
            });
        }
    }
}
