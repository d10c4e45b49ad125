//! The verdict of a hook's chains on packets. Pure.
//!
//! A test of which the result is unknown may be true or false. So the rules drop packets *certainly*, or they *may* drop
//! them.

use std::{collections::HashMap, fmt};

use ipnet::IpNet;

use super::{
    Family, HookPoint,
    expression::{Action, Loaded, Lookup},
    masquerade::ACCEPT,
    ruleset::{NEW, OTHER_STATE, Rule, Ruleset, Test},
    sets::{Element, Relation, Set, Value, is_nowhere},
};

/// `NFT_JUMP_STACK_SIZE` of include/net/netfilter/nf_tables.h.
const DEEPEST: usize = 16;

/// How many keys are looked up in a set. With more, what is found is unknown.
const MOST_KEYS: usize = 64;

/// `ETH_P_IP`, `ETH_P_IPV6` and `ETH_P_ARP` of linux/if_ether.h.
const ETHER_TYPES: [(Family, u16); 3] = [(Family::Ip, 0x0800), (Family::Ip6, 0x86dd), (Family::Arp, 0x0806)];

/// Packets of any protocol.
#[derive(Clone, Copy, Debug)]
pub struct Packets<'a> {
    /// [`Family::Ip`], [`Family::Ip6`] or [`Family::Arp`].
    pub family: Family,
    /// The devices by which they may come; `""` is none. For bridged packets, hooks of IP get the bridge.
    pub in_devices: &'a [&'a str],
    /// The devices by which they may leave.
    pub out_devices: &'a [&'a str],
    /// Whether a bridge forwards them.
    pub are_bridged: bool,
    /// The state of their connection: [`NEW`](super::NEW), [`ESTABLISHED`](super::ESTABLISHED) or
    /// [`UNTRACKED`](super::UNTRACKED).
    pub state: u32,
    /// The subnets that they come from; empty if those are any of other networks.
    pub sources: &'a [IpNet],
    /// The subnets that they go to; empty if those are any of other networks.
    pub destinations: &'a [IpNet],
}

/// What becomes of packets, from best to worst.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// No rule drops them.
    Accept,
    /// A rule may drop some of them.
    MayDrop(Dropper),
    /// All are dropped.
    Drop(Dropper),
}

impl Verdict {
    /// The same where not all packets are concerned.
    #[must_use]
    pub fn lessened(self) -> Self {
        match self {
            Self::Drop(dropper) => Self::MayDrop(dropper),
            other => other,
        }
    }
}

/// A base chain that drops packets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dropper {
    /// Its family.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// Whether its policy drops them, rather than a rule.
    pub by_policy: bool,
    /// Whether it is a chain of x_tables.
    pub is_legacy: bool,
    /// A set that was not read, if the verdict depends on one.
    pub unread: Option<String>,
}

impl fmt::Display for Dropper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, table, chain, by_policy, is_legacy, unread } = self;
        match (is_legacy, family) {
            (false, _) => write!(f, "nft table {family}")?,
            (true, Family::Ip6) => f.write_str("ip6tables-legacy table")?,
            (true, _) => f.write_str("iptables-legacy table")?,
        }
        let policy = if *by_policy { " (policy drop)" } else { "" };
        write!(f, " {}, chain {}{policy}", table.escape_debug(), chain.escape_debug())?;
        match unread {
            Some(set) => write!(f, " (set {} is not read)", set.escape_debug()),
            None => Ok(()),
        }
    }
}

/// Nothing is known.
const ANY: Outcomes = Outcomes { accepts: true, drops: true, falls: true };
const ACCEPTS: Outcomes = Outcomes { accepts: true, drops: false, falls: false };
const DROPS: Outcomes = Outcomes { accepts: false, drops: true, falls: false };
const FALLS: Outcomes = Outcomes { accepts: false, drops: false, falls: true };
const NOTHING: Outcomes = Outcomes { accepts: false, drops: false, falls: false };

/// What may become of packets in a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Outcomes {
    accepts: bool,
    drops: bool,
    /// They reach the end of the chain, or return from it.
    falls: bool,
}

/// What may become of packets by the action of a rule.
#[derive(Clone, Copy, Debug)]
struct Effect {
    outcomes: Outcomes,
    /// They go on to the next rule.
    goes_on: bool,
}

impl Outcomes {
    const fn or(self, other: Self) -> Self {
        Self {
            accepts: self.accepts || other.accepts,
            drops: self.drops || other.drops,
            falls: self.falls || other.falls,
        }
    }
}

impl Ruleset {
    /// What the base chains at a hook do to packets. `families` are those of the chains that the packets pass.
    #[must_use]
    pub fn verdict(&self, hook: HookPoint, families: &[Family], packets: Packets<'_>) -> Verdict {
        let mut walk = Walk { ruleset: self, packets, known: HashMap::new(), unread: None };
        let mut verdict = Verdict::Accept;
        for (index, chain) in self.chains.iter().enumerate() {
            // Only the first packet of a connection passes the chains of NAT.
            let is_passed = families.contains(&chain.family)
                && (chain.kind != "nat" || packets.state == NEW)
                && chain.base.as_ref().is_some_and(|base| {
                    HookPoint::from_number(chain.family, base.point) == hook && base.devices.is_empty()
                });
            if !is_passed {
                continue;
            }
            let Outcomes { mut accepts, mut drops, falls } = walk.chain(index, 0);
            let by_policy = falls && chain.policy != Some(ACCEPT);
            (accepts, drops) = (accepts || falls && !by_policy, drops || by_policy);
            let unread = walk.unread.take().filter(|_| accepts);
            let dropper = || Dropper {
                family: chain.family,
                table: chain.table.clone(),
                chain: chain.name.clone(),
                by_policy,
                is_legacy: self.is_legacy,
                unread: unread.clone(),
            };
            match (drops, accepts) {
                (true, false) => return Verdict::Drop(dropper()),
                (true, true) if verdict == Verdict::Accept => verdict = Verdict::MayDrop(dropper()),
                _ => {}
            }
        }
        verdict
    }

    /// Whether there is a table with a chain in it.
    #[must_use]
    pub fn has_table(&self, family: Family, name: &str) -> bool {
        self.chains.iter().any(|chain| chain.family == family && chain.table == name)
    }

    /// Whether a rule of one chain jumps to another of its table.
    #[must_use]
    pub fn has_jump(&self, family: Family, table: &str, from: &str, to: &str) -> bool {
        let from = self.index.get(&(family, table.to_owned(), from.to_owned()));
        let rules = from.and_then(|&index| self.rules.get(index)).into_iter().flatten();
        rules.map(|rule| &rule.action).any(|action| matches!(action, Action::Jump(name) if name == to))
    }

    /// Whether a table has a chain of this name.
    #[must_use]
    pub fn has_chain(&self, family: Family, table: &str, name: &str) -> bool {
        self.index.contains_key(&(family, table.to_owned(), name.to_owned()))
    }
}

struct Walk<'a> {
    ruleset: &'a Ruleset,
    packets: Packets<'a>,
    /// By chain. Its rules are the same for every jump to it.
    known: HashMap<usize, Outcomes>,
    /// A set that was not read, and was asked.
    unread: Option<String>,
}

impl<'a> Walk<'a> {
    fn chain(&mut self, index: usize, depth: usize) -> Outcomes {
        if let Some(known) = self.known.get(&index) {
            return *known;
        }
        let outcomes = self.rules(index, depth);
        self.known.insert(index, outcomes);
        outcomes
    }

    fn rules(&mut self, index: usize, depth: usize) -> Outcomes {
        let mut all = Outcomes::default();
        let ruleset = self.ruleset;
        for rule in ruleset.rules.get(index).into_iter().flatten() {
            let Some(is_sure) = self.matches(rule, index) else { continue };
            let Effect { outcomes, goes_on } = self.effect(&rule.action, index, depth);
            all = all.or(outcomes);
            if is_sure && !goes_on {
                return all;
            }
        }
        all.falls = true;
        all
    }

    /// What an action does. Packets that fall out of the chain of a jump go on behind it.
    fn effect(&mut self, action: &Action, index: usize, depth: usize) -> Effect {
        let (outcomes, goes_on) = match action {
            Action::Continue => (NOTHING, true),
            Action::Accept => (ACCEPTS, false),
            Action::Drop => (DROPS, false),
            Action::Return => (FALLS, false),
            Action::Unknown => (Outcomes { falls: false, ..ANY }, true),
            Action::Jump(name) => {
                let target = self.target(index, name, depth);
                (Outcomes { falls: false, ..target }, target.falls)
            }
            Action::Goto(name) => (self.target(index, name, depth), false),
            Action::Map(lookup) => return self.mapped(lookup, index, depth),
        };
        Effect { outcomes, goes_on }
    }

    /// What the elements of a verdict map do that packets may have. Packets without an element go on.
    fn mapped(&mut self, lookup: &Lookup, index: usize, depth: usize) -> Effect {
        let (Some(set), Some(keys)) = (self.set(lookup, index), self.keys(lookup)) else {
            return Effect { outcomes: ANY, goes_on: true };
        };
        let mut all = Effect { outcomes: NOTHING, goes_on: false };
        for key in keys {
            let found = set.find(&key);
            all.goes_on |= !found.is_sure;
            for element in found.elements {
                let effect = self.effect(&element.action, index, depth);
                all.outcomes = all.outcomes.or(effect.outcomes);
                all.goes_on |= effect.goes_on;
            }
        }
        all
    }

    /// The set that a rule of a chain looks something up in, if it was read.
    fn set(&mut self, lookup: &Lookup, index: usize) -> Option<&'a Set> {
        let chain = self.ruleset.chains.get(index)?;
        let name = (chain.family, chain.table.clone(), lookup.set.clone());
        let set = self.ruleset.sets.get(&name);
        if set.is_none() && !lookup.key.is_empty() {
            self.unread = Some(lookup.set.clone());
        }
        set
    }

    /// What is known of the keys that packets have, each part behind so many bytes; `None` if there are too many.
    fn keys(&self, lookup: &Lookup) -> Option<Vec<Vec<(usize, Value)>>> {
        let mut keys = vec![Vec::new()];
        for &(at, loaded) in &lookup.key {
            let values = self.values(loaded);
            if keys.len() * values.len() > MOST_KEYS {
                return None;
            }
            let with = |key: &Vec<_>| {
                let key = key.clone();
                values.iter().map(move |value| [key.clone(), vec![(at, value.clone())]].concat())
            };
            keys = keys.iter().flat_map(with).collect();
        }
        Some(keys)
    }

    /// The values of what a rule has loaded.
    fn values(&self, loaded: Loaded) -> Vec<Value> {
        let one = |bytes: Vec<u8>| Value::Between(bytes.clone(), bytes);
        let devices = |is_in| if is_in { self.packets.in_devices } else { self.packets.out_devices };
        match loaded {
            Loaded::Device { is_in } => {
                let padded = |device: &&str| {
                    let mut name = device.as_bytes().to_vec();
                    name.resize(loaded.length(), 0);
                    one(name)
                };
                devices(is_in).iter().map(padded).collect()
            }
            Loaded::Index { is_in } => {
                // A device that does not exist yet has another number than any.
                let ifindex = |device: &&str| match *device {
                    "" => 0,
                    device => self.ruleset.ifindexes.get(device).copied().unwrap_or(u32::MAX),
                };
                devices(is_in).iter().map(|device| one(ifindex(device).to_ne_bytes().to_vec())).collect()
            }
            Loaded::Family => vec![one(vec![self.packets.family.number()])],
            Loaded::Protocol => {
                vec![self.ether_type().map_or(Value::Unknown, |number| one(number.to_vec()))]
            }
            Loaded::State(_) if self.ruleset.may_untrack => vec![Value::Unknown],
            Loaded::State(_) => vec![one(self.packets.state.to_ne_bytes().to_vec())],
            Loaded::Address { is_source, .. } => {
                let subnets = if is_source { self.packets.sources } else { self.packets.destinations };
                let between = |net: &IpNet| match net {
                    IpNet::V4(net) => {
                        Value::Between(net.network().octets().to_vec(), net.broadcast().octets().to_vec())
                    }
                    IpNet::V6(net) => {
                        Value::Between(net.network().octets().to_vec(), net.broadcast().octets().to_vec())
                    }
                };
                match (subnets, self.packets.family) {
                    (_, Family::Arp) => vec![Value::Unknown],
                    ([], _) => vec![Value::OtherNetwork],
                    (subnets, _) => subnets.iter().map(between).collect(),
                }
            }
            Loaded::Status(_) | Loaded::Other => vec![Value::Unknown],
        }
    }

    fn ether_type(&self) -> Option<[u8; 2]> {
        let of = ETHER_TYPES.iter().find(|(family, _)| *family == self.packets.family);
        of.map(|(_, number)| number.to_be_bytes())
    }

    /// What may become of packets in another chain of the same table.
    fn target(&mut self, from: usize, name: &str, depth: usize) -> Outcomes {
        let Ruleset { chains, index, .. } = self.ruleset;
        let target = chains
            .get(from)
            .and_then(|from| index.get(&(from.family, from.table.clone(), name.to_owned())).copied());
        match target.filter(|_| depth < DEEPEST) {
            Some(target) => self.chain(target, depth + 1),
            None => ANY,
        }
    }
    /// Whether the action of a rule is surely taken for all packets; `None` if it is for none.
    fn matches(&mut self, rule: &Rule, index: usize) -> Option<bool> {
        let mut is_sure = true;
        for test in &rule.tests {
            match self.result(test, index) {
                Some(false) => return None,
                Some(true) => {}
                None => is_sure = false,
            }
        }
        Some(is_sure)
    }

    /// Whether a test is true of all packets, or of none; `None` if that is unknown.
    fn result(&mut self, test: &Test, index: usize) -> Option<bool> {
        let packets = &self.packets;
        match test {
            Test::Device { is_in, name, is_prefix, is_equal } => {
                let devices = if *is_in { packets.in_devices } else { packets.out_devices };
                let is_it =
                    |device: &&&str| if *is_prefix { device.starts_with(name) } else { **device == name };
                match devices.iter().filter(is_it).count() {
                    0 => Some(!is_equal),
                    all if all == devices.len() => Some(*is_equal),
                    _ => None,
                }
            }
            Test::Address { is_source, subnet, is_equal } => {
                let subnets = if *is_source { packets.sources } else { packets.destinations };
                are_within(subnets, subnet).map(|are_within| are_within == *is_equal)
            }
            Test::Family { family, is_equal } => Some((*family == packets.family) == *is_equal),
            Test::Protocol { number, is_equal } => {
                self.ether_type().map(|ether_type| (ether_type == *number) == *is_equal)
            }
            Test::State(_) if self.ruleset.may_untrack => None,
            Test::State(states) if states & packets.state != 0 => Some(true),
            // The source of the first packet of a connection is translated last.
            Test::State(states) => (states & OTHER_STATE == 0 || packets.state == NEW).then_some(false),
            Test::Bridged => Some(packets.are_bridged),
            Test::Rare => Some(false),
            Test::Lookup(lookup) => {
                let set = self.set(lookup, index)?;
                let mut results = self.keys(lookup)?.into_iter().map(|key| set.contains(&key));
                let first = results.next()??;
                results.all(|result| result == Some(first)).then_some(first != lookup.is_inverted)
            }
            Test::Between { loaded, low, high, is_equal } => {
                let interval = Element::between(low.clone(), high.clone());
                let mut relations =
                    self.values(*loaded).into_iter().map(|value| value.relation(0, &interval));
                let first = relations.next().filter(|first| *first != Relation::Unknown)?;
                let is_within = first == Relation::Within;
                relations.all(|relation| relation == first).then_some(is_within == *is_equal)
            }
            Test::Unknown => None,
        }
    }
}

/// Whether all of these are in a subnet, or none; `None` if that is unknown.
fn are_within(subnets: &[IpNet], subnet: &IpNet) -> Option<bool> {
    let is_of_family = |one: &IpNet| one.addr().is_ipv4() == subnet.addr().is_ipv4();
    let is_nowhere = || match subnet {
        IpNet::V4(net) => is_nowhere(&net.network().octets(), &net.broadcast().octets()),
        IpNet::V6(net) => is_nowhere(&net.network().octets(), &net.broadcast().octets()),
    };
    if subnets.is_empty() && is_nowhere() {
        return Some(false);
    }
    if subnets.is_empty() || !subnets.iter().all(is_of_family) {
        return None;
    }
    if subnets.iter().all(|one| subnet.contains(one)) {
        return Some(true);
    }
    let is_apart = |one: &IpNet| !subnet.contains(one) && !one.contains(subnet);
    subnets.iter().all(is_apart).then_some(false)
}

#[cfg(test)]
mod tests;
