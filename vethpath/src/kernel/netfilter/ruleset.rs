//! All nftables rules of a namespace, decoded as far as a verdict on packets needs.
//!
//! Mirrors the expressions of nf_tables (include/uapi/linux/netfilter/nf_tables.h), and the matches and targets that
//! `iptables` makes of them (net/netfilter/nft_compat.c).

use std::collections::{BTreeMap, HashMap, HashSet};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_sys::Socket;

use super::{
    Family, HEADER, attributes,
    expression::{Action, Fields, Loaded, Lookup, verdict},
    generation, header,
    inspect::{self, Chain},
    kind, parse_string,
    sets::{self, Set},
};
use crate::kernel::{Context, LinkFacts, Result, netlink::NetlinkError};

type NetlinkResult<T> = std::result::Result<T, NetlinkError>;

/// The bits of connection states (`NF_CT_STATE_BIT` of linux/netfilter/nf_conntrack_common.h). Of packets that belong to no
/// connection.
const INVALID: u32 = 1;
/// Of packets of a known connection.
pub const ESTABLISHED: u32 = 1 << 1;
/// Of packets that belong to another, known connection, such as ICMP errors.
pub(super) const RELATED: u32 = 1 << 2;
/// Of the first packets of connections.
pub const NEW: u32 = 1 << 3;
/// Of packets that are not tracked.
pub const UNTRACKED: u32 = 1 << 6;
/// Of anything else.
pub(super) const OTHER_STATE: u32 = 1 << 31;

/// The chains of a namespace, with their rules.
#[derive(Clone, Debug, Default)]
pub struct Ruleset {
    /// In dump order.
    pub(super) chains: Vec<Chain>,
    /// The rules of each chain, in their order.
    pub(super) rules: Vec<Vec<Rule>>,
    /// The chains by family, table and name.
    pub(super) index: HashMap<(Family, String, String), usize>,
    /// Whether a rule may keep packets from being tracked.
    pub(super) may_untrack: bool,
    /// The sets that rules look something up in, by family, table and name; those that cannot be read are missing.
    pub(super) sets: HashMap<(Family, String, String), Set>,
    /// The ifindex of each device.
    pub(super) ifindexes: HashMap<String, u32>,
    /// Whether these are rules of x_tables.
    pub(super) is_legacy: bool,
}

/// A rule: its action is taken if all tests are true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) tests: Vec<Test>,
    pub(super) action: Action,
    /// The text of its `comment` match, by which programs find their rules again.
    pub(super) comment: Option<Box<str>>,
    pub(super) may_untrack: bool,
}

/// A test of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// The name of the device by which a packet comes (`iifname`), or leaves (`oifname`).
    Device { is_in: bool, name: String, is_prefix: bool, is_equal: bool },
    /// The packet's address is in a subnet.
    Address { is_source: bool, subnet: IpNet, is_equal: bool },
    /// The packet is of this family.
    Family { family: Family, is_equal: bool },
    /// The EtherType of the frame.
    Protocol { number: [u8; 2], is_equal: bool },
    /// The connection is in one of these states.
    State(u32),
    /// The packet is bridged (`--physdev-is-bridged`).
    Bridged,
    /// Something that is true of no packet by which a lab is judged: its destination was translated, or it has an IPv6
    /// routing header.
    Rare,
    /// A set has an element for the packet.
    Lookup(Lookup),
    /// What was loaded is in an interval.
    Between { loaded: Loaded, low: Vec<u8>, high: Vec<u8>, is_equal: bool },
    /// Anything else.
    Unknown,
}

impl Ruleset {
    /// Reads all rules in the socket's namespace, where the `links` are. There are none on a kernel without nf_tables. If
    /// they change meanwhile, they are read again, `most` times in all.
    ///
    /// # Errors
    /// The kernel refuses a request, there are more than 65,536 rules, or they change all the time.
    pub fn read(socket: &Socket, links: &[LinkFacts], most: usize) -> Result<Self> {
        let once = || {
            let dormant =
                dormant_tables(&inspect::dump(socket, kind::GET_TABLE, &header(Family::Unspecified))?)?;
            let mut chains = inspect::chains(socket)?;
            chains.retain(|chain| !dormant.contains(&(chain.family, chain.table.clone())));
            let replies = inspect::dump(socket, kind::GET_RULE, &header(Family::Unspecified))?;
            let mut ruleset = Self::of(chains, &replies, links)?;
            ruleset.sets = sets::read(socket, &ruleset.wanted_sets())?;
            Ok(ruleset)
        };
        // Chains of one generation with rules of the next would drop what neither does.
        let read = || {
            let mut before = generation(socket)?;
            for _ in 0..most {
                let (ruleset, after) = (once()?, generation(socket)?);
                if before == after {
                    return Ok(ruleset);
                }
                before = after;
            }
            Err(NetlinkError::Malformed("rules that change meanwhile"))
        };
        read().doing("read", "the nft rules of the namespace")
    }

    fn of(chains: Vec<Chain>, replies: &[Vec<u8>], links: &[LinkFacts]) -> NetlinkResult<Self> {
        let mut rules = vec![Vec::new(); chains.len()];
        let index: HashMap<_, _> = chains
            .iter()
            .enumerate()
            .map(|(index, chain)| ((chain.family, chain.table.clone(), chain.name.clone()), index))
            .collect();
        let names: HashMap<u32, &str> = links.iter().map(|link| (link.ifindex, link.name.as_str())).collect();
        for reply in replies {
            let (family, table, chain, rule) = parse(reply, &names)?;
            // The chain may be newer than the dump of chains.
            if let Some(rules) = index.get(&(family, table, chain)).and_then(|&index| rules.get_mut(index)) {
                rules.push(rule);
            }
        }
        let may_untrack = rules.iter().flatten().any(|rule: &Rule| rule.may_untrack);
        let ifindexes = links.iter().map(|link| (link.name.clone(), link.ifindex)).collect();
        Ok(Self { chains, rules, index, may_untrack, ifindexes, ..Self::default() })
    }

    /// The sets in which rules look up something that is known of packets.
    fn wanted_sets(&self) -> HashSet<(Family, String, String)> {
        let mut wanted = HashSet::new();
        for (chain, rules) in self.chains.iter().zip(&self.rules) {
            for lookup in rules.iter().flat_map(Rule::lookups).filter(|lookup| !lookup.key.is_empty()) {
                wanted.insert((chain.family, chain.table.clone(), lookup.set.clone()));
            }
        }
        wanted
    }
}

/// Runs the decoders of replies, for the fuzzers.
#[cfg(feature = "fuzzing")]
pub(super) fn decode(reply: &[u8]) {
    let _ =
        (dormant_tables(&[reply.to_vec()]), parse(reply, &Names::new()), Rule::parse(reply, &Names::new()));
}

/// The tables whose chains are not called.
fn dormant_tables(replies: &[Vec<u8>]) -> NetlinkResult<HashSet<(Family, String)>> {
    const NAME: u16 = 1;
    const FLAGS: u16 = 2;
    const DORMANT: u32 = 1;
    let mut dormant = HashSet::new();
    for reply in replies {
        let (header, rest) =
            reply.split_first_chunk::<HEADER>().ok_or(NetlinkError::Malformed("a table without a header"))?;
        let fields = Fields::parse(rest)?;
        if fields.number(FLAGS).is_some_and(|flags| flags & DORMANT != 0) {
            dormant.insert((Family::from_number(header[0]), parse_string(fields.bytes(NAME))));
        }
    }
    Ok(dormant)
}

/// The names of devices, by ifindex.
pub(super) type Names<'a> = HashMap<u32, &'a str>;

/// The family, table and chain of a rule, and the rule.
pub(super) fn parse(reply: &[u8], names: &Names<'_>) -> NetlinkResult<(Family, String, String, Rule)> {
    const TABLE: u16 = 1;
    const CHAIN: u16 = 2;
    const EXPRESSIONS: u16 = 4;
    let (header, rest) =
        reply.split_first_chunk::<HEADER>().ok_or(NetlinkError::Malformed("a rule without a header"))?;
    let fields = Fields::parse(rest)?;
    let [table, chain] = [TABLE, CHAIN].map(|number| parse_string(fields.bytes(number)));
    let rule = Rule::parse(fields.bytes(EXPRESSIONS), names)?;
    Ok((Family::from_number(header[0]), table, chain, rule))
}

/// The length of a register.
const REGISTER: usize = 4;

/// What registers hold, each by the first 32 bits that it occupies.
#[derive(Default)]
struct Registers(BTreeMap<usize, Loaded>);

impl Registers {
    /// The register of 32 bits with which a register begins (`nft_parse_register` in net/netfilter/nf_tables_api.c).
    fn first(number: u32) -> Option<usize> {
        let first = match number {
            1..=4 => (number - 1) * 4,
            8..=23 => number - 8,
            _ => return None,
        };
        usize::try_from(first).ok()
    }

    fn load(&mut self, number: Option<u32>, loaded: Loaded) {
        let Some(first) = number.and_then(Self::first) else { return };
        let end = |first: usize, loaded: Loaded| first + loaded.length().div_ceil(REGISTER);
        let behind = end(first, loaded);
        self.0.retain(|&other, &mut former| end(other, former) <= first || other >= behind);
        self.0.insert(first, loaded);
    }

    fn get(&self, number: Option<u32>) -> Loaded {
        let loaded = number.and_then(Self::first).and_then(|first| self.0.get(&first));
        loaded.copied().unwrap_or(Loaded::Other)
    }

    /// What is known of a key that begins in a register.
    fn key(&self, number: Option<u32>) -> Vec<(usize, Loaded)> {
        let Some(first) = number.and_then(Self::first) else { return Vec::new() };
        let is_known = |loaded: &Loaded| match loaded {
            Loaded::Device { .. } | Loaded::Index { .. } | Loaded::Family | Loaded::Protocol => true,
            Loaded::State(bits) => *bits == u32::MAX,
            Loaded::Address { length, .. } => loaded.is_ordered(*length),
            Loaded::Status(_) | Loaded::Other => false,
        };
        let known = self.0.range(first..).filter(|(_, loaded)| is_known(loaded));
        known.map(|(&at, &loaded)| ((at - first) * REGISTER, loaded)).collect()
    }
}

impl Rule {
    fn parse(expressions: &[u8], names: &Names<'_>) -> NetlinkResult<Self> {
        let mut rule = Self::default();
        let mut registers = Registers::default();
        for element in attributes(expressions) {
            let element = element?;
            let fields = Fields::parse(element.value())?;
            let name = parse_string(fields.bytes(1));
            rule.add(&name, &Fields::parse(fields.bytes(2))?, &mut registers, names)?;
        }
        Ok(rule)
    }

    /// What the rule looks up in sets.
    fn lookups(&self) -> impl Iterator<Item = &Lookup> {
        let tests = self.tests.iter().filter_map(|test| match test {
            Test::Lookup(lookup) => Some(lookup),
            _ => None,
        });
        let action = match &self.action {
            Action::Map(lookup) => Some(lookup),
            _ => None,
        };
        tests.chain(action)
    }

    fn add(
        &mut self,
        expression: &str,
        fields: &Fields,
        registers: &mut Registers,
        names: &Names<'_>,
    ) -> NetlinkResult<()> {
        let from = registers.get(fields.number(1));
        let mut load = |number, loaded| registers.load(fields.number(number), loaded);
        match expression {
            "meta" => load(1, meta(fields.number(2))),
            "ct" => load(
                1,
                match fields.number(2) {
                    Some(0) => Loaded::State(u32::MAX),
                    Some(2) => Loaded::Status(u32::MAX),
                    _ => Loaded::Other,
                },
            ),
            "payload" => load(1, payload(fields)),
            "exthdr" | "fib" | "rt" | "osf" | "numgen" | "xfrm" => load(1, Loaded::Other),
            "socket" | "hash" | "tunnel" => load(2, Loaded::Other),
            "bitwise" => load(2, bitwise(from, fields)?),
            "byteorder" => load(2, Loaded::Other),
            "cmp" => self.tests.push(compare(from, fields.number(2), &fields.data(3)?, names)),
            "immediate" if fields.number(1) == Some(0) => self.action = verdict(fields)?,
            "immediate" => load(1, Loaded::Other),
            "lookup" => {
                const INVERTED: u32 = 1;
                let lookup = Lookup {
                    set: parse_string(fields.bytes(1)),
                    key: registers.key(fields.number(2)),
                    is_inverted: fields.number(5).is_some_and(|flags| flags & INVERTED != 0),
                };
                match fields.number(3) {
                    // With a destination it is a map: of verdicts, or of data.
                    Some(0) => self.action = Action::Map(lookup),
                    to => {
                        registers.load(to, Loaded::Other);
                        self.tests.push(Test::Lookup(lookup));
                    }
                }
            }
            // An object may be a limit, and an update of a set may have one.
            "range" => {
                let (low, high) = (fields.data(3)?, fields.data(4)?);
                self.tests.push(match (from.is_ordered(low.len()), fields.number(2)) {
                    (true, Some(op @ (0 | 1))) => {
                        Test::Between { loaded: from, low, high, is_equal: op == 0 }
                    }
                    _ => Test::Unknown,
                });
            }
            "limit" | "quota" | "connlimit" | "dynset" | "objref" => self.tests.push(Test::Unknown),
            "notrack" => self.may_untrack = true,
            "match" => match parse_string(fields.bytes(1)).as_str() {
                "comment" => self.comment = Some(parse_string(fields.bytes(3)).into()),
                name => self.tests.push(extension(name, fields.bytes(3)).unwrap_or(Test::Unknown)),
            },
            "target" => {
                let name = parse_string(fields.bytes(1));
                self.may_untrack |= name == "CT" || name == "NOTRACK";
                self.action = target(&name);
            }
            "reject" => self.action = Action::Drop,
            "nat" | "masq" | "redir" => self.action = Action::Accept,
            "counter" | "log" | "last" | "dup" | "flow_offload" => {}
            _ => {
                self.tests.push(Test::Unknown);
                self.action = Action::Unknown;
            }
        }
        Ok(())
    }
}

/// `enum nft_meta_keys`.
fn meta(key: Option<u32>) -> Loaded {
    match key {
        Some(1) => Loaded::Protocol,
        Some(4) => Loaded::Index { is_in: true },
        Some(5) => Loaded::Index { is_in: false },
        Some(6) => Loaded::Device { is_in: true },
        Some(7) => Loaded::Device { is_in: false },
        Some(15) => Loaded::Family,
        _ => Loaded::Other,
    }
}

/// An address of the network header, or its first bytes; or the EtherType.
fn payload(fields: &Fields) -> Loaded {
    const LINK: u32 = 0;
    const NETWORK: u32 = 1;
    let (offset, length) = match [2, 3, 4].map(|number| fields.number(number)) {
        [Some(LINK), Some(12), Some(2)] => return Loaded::Protocol,
        [Some(NETWORK), Some(offset), Some(length)] => (offset, length),
        _ => return Loaded::Other,
    };
    let address = |is_source| Loaded::Address { is_source, length: length as usize, mask: u128::MAX };
    match (offset, length) {
        (12, 1..=4) | (8, 5..=16) => address(true),
        (16, 1..=4) | (24, 5..=16) => address(false),
        _ => Loaded::Other,
    }
}

fn bitwise(from: Loaded, fields: &Fields) -> NetlinkResult<Loaded> {
    let (mask, xor) = (fields.data(4)?, fields.data(5)?);
    let is_and = fields.number(6).unwrap_or_default() == 0 && xor.iter().all(|byte| *byte == 0);
    Ok(match (from, mask.first_chunk()) {
        (Loaded::State(bits), Some(mask)) if is_and => Loaded::State(bits & u32::from_ne_bytes(*mask)),
        (Loaded::Status(bits), Some(mask)) if is_and => Loaded::Status(bits & u32::from_ne_bytes(*mask)),
        (Loaded::Address { is_source, length, mask: former }, _) if is_and && mask.len() == length => {
            Loaded::Address { is_source, length, mask: former & left_aligned(&mask, u8::MAX) }
        }
        _ => Loaded::Other,
    })
}

/// Bytes as the first ones of 16, followed by `rest`.
fn left_aligned(bytes: &[u8], rest: u8) -> u128 {
    let mut all = [rest; 16];
    for (to, from) in all.iter_mut().zip(bytes) {
        *to = *from;
    }
    u128::from_be_bytes(all)
}

/// `IPS_DST_NAT` and `IPS_DST_NAT_DONE` of `enum ip_conntrack_status`.
const DESTINATION_TRANSLATED: u32 = 1 << 5 | 1 << 8;

/// A comparison: `op` is of `enum nft_cmp_ops`.
fn compare(from: Loaded, op: Option<u32>, data: &[u8], names: &Names<'_>) -> Test {
    let between = |low, high| Test::Between { loaded: from, low, high, is_equal: true };
    let is_equal = match op {
        Some(0) => true,
        Some(1) => false,
        Some(3) if from.is_ordered(data.len()) => return between(vec![0; data.len()], data.to_vec()),
        Some(5) if from.is_ordered(data.len()) => return between(data.to_vec(), vec![u8::MAX; data.len()]),
        _ => return Test::Unknown,
    };
    match from {
        Loaded::Device { is_in } => {
            let is_prefix = !data.contains(&0);
            Test::Device { is_in, name: parse_string(data), is_prefix, is_equal }
        }
        // A device that does not exist yet has another name than any.
        Loaded::Index { is_in } => data.first_chunk().map_or(Test::Unknown, |index| {
            let name = names.get(&u32::from_ne_bytes(*index)).copied().unwrap_or("/").to_owned();
            Test::Device { is_in, name, is_prefix: false, is_equal }
        }),
        Loaded::Family => match data {
            [number] => Test::Family { family: Family::from_number(*number), is_equal },
            _ => Test::Unknown,
        },
        Loaded::Protocol => {
            data.try_into().map_or(Test::Unknown, |number| Test::Protocol { number, is_equal })
        }
        Loaded::Status(bits)
            if !is_equal && bits & !DESTINATION_TRANSLATED == 0 && data.iter().all(|byte| *byte == 0) =>
        {
            Test::Rare
        }
        // `ct state new` is compiled to `(state & new) != 0`.
        Loaded::State(bits) if !is_equal && data.iter().all(|byte| *byte == 0) => Test::State(bits),
        Loaded::State(u32::MAX) if is_equal => {
            data.first_chunk().map_or(Test::Unknown, |state| Test::State(u32::from_ne_bytes(*state)))
        }
        Loaded::Address { is_source, length, mask } if data.len() == length => {
            subnet(data, mask).map_or(Test::Unknown, |subnet| Test::Address { is_source, subnet, is_equal })
        }
        _ => Test::Unknown,
    }
}

/// The subnet of an address of which the first bytes are known, with a mask.
pub(super) fn subnet(data: &[u8], mask: u128) -> Option<IpNet> {
    let known = left_aligned(&vec![u8::MAX; data.len()], 0) & mask;
    let length = u8::try_from(known.leading_ones()).ok()?;
    // Ones, and then zeros.
    if known.leading_ones() + known.trailing_zeros() != u128::BITS && known != u128::MAX {
        return None;
    }
    let address = left_aligned(data, 0);
    let net = match data.len() {
        ..=4 => {
            let address = u32::try_from(address >> 96).ok()?;
            IpNet::V4(Ipv4Net::new(address.into(), length.min(32)).ok()?)
        }
        _ => IpNet::V6(Ipv6Net::new(address.into(), length).ok()?),
    };
    Some(net.trunc())
}

/// The test of a match of x_tables; `None` if it is unknown.
pub(super) fn extension(name: &str, info: &[u8]) -> Option<Test> {
    match name {
        "conntrack" => conntrack(info),
        // Without a routing header it does not match, whatever its options are (`rt_mt6` in net/ipv6/netfilter/ip6t_rt.c).
        "rt" => Some(Test::Rare),
        "physdev" => physdev(info),
        _ => None,
    }
}

/// `match_flags` in `struct xt_conntrack_mtinfo3`; `invert_flags` and `state_mask` are behind it.
pub(super) const CONNTRACK_FLAGS: usize = 146;
/// `XT_CONNTRACK_STATE`.
pub(super) const CONNTRACK_STATE: u16 = 1;

/// `struct xt_conntrack_mtinfo3` with a state and nothing else.
fn conntrack(info: &[u8]) -> Option<Test> {
    const STATE: u16 = CONNTRACK_STATE;
    let word = |at: usize| Some(u16::from_ne_bytes(*info.get(at..)?.first_chunk()?));
    let [flags, inverted, states] = [0, 2, 4].map(|offset| word(CONNTRACK_FLAGS + offset));
    let (flags, inverted, states) = (flags?, inverted?, u32::from(states?));
    // `XT_CONNTRACK_STATE_*`, of which those above `NEW` differ from the bits of nf_tables.
    let tracked = states & (INVALID | ESTABLISHED | RELATED | NEW);
    let others = [(1 << 6, OTHER_STATE), (1 << 7, 0), (1 << 8, UNTRACKED)];
    let others =
        others.into_iter().filter(|(bit, _)| states & bit != 0).fold(0, |all, (_, state)| all | state);
    (flags == STATE && inverted & STATE == 0).then_some(Test::State(tracked | others))
}

/// `struct xt_physdev_info` with `--physdev-is-bridged` and nothing else.
fn physdev(info: &[u8]) -> Option<Test> {
    const DEVICES: usize = 64;
    const BRIDGED: u8 = 4;
    let [inverted, flags] = *info.get(DEVICES..)?.first_chunk()?;
    (flags == BRIDGED && inverted == 0).then_some(Test::Bridged)
}

/// The action of a target of x_tables.
pub(super) fn target(name: &str) -> Action {
    match name {
        "REJECT" | "TARPIT" => Action::Drop,
        "LOG" | "NFLOG" | "MARK" | "CONNMARK" | "CT" | "NOTRACK" | "CHECKSUM" | "CLASSIFY" | "DSCP"
        | "TCPMSS" | "TRACE" | "SET" | "AUDIT" | "HMARK" => Action::Continue,
        "MASQUERADE" | "SNAT" | "DNAT" | "REDIRECT" | "NETMAP" => Action::Accept,
        _ => Action::Unknown,
    }
}
