//! The verdict of a hook's chains on packets. Pure.
//!
//! A test of which the result is unknown may be true or false. So the rules drop packets *certainly*, or they *may* drop
//! them.

use std::{collections::HashMap, fmt};

use ipnet::IpNet;

use super::{
    Family, HookPoint,
    inspect::Chain,
    masquerade::ACCEPT,
    ruleset::{Action, NEW, Rule, Ruleset, Test},
};

/// Invalid, established, related and new.
const KNOWN_STATES: u32 = 0b1111;

/// `NFT_JUMP_STACK_SIZE` of include/net/netfilter/nf_tables.h.
const DEEPEST: usize = 16;

/// Packets of any protocol.
#[derive(Clone, Copy, Debug)]
pub struct Packets<'a> {
    /// [`Family::Ip`] or [`Family::Ip6`].
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
    /// The subnets that they come from; empty if unknown.
    pub sources: &'a [IpNet],
    /// The subnets that they go to; empty if unknown.
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
}

impl fmt::Display for Dropper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, table, chain, by_policy } = self;
        let policy = if *by_policy { " (policy drop)" } else { "" };
        write!(f, "nft table {family} {}, chain {}{policy}", table.escape_debug(), chain.escape_debug())
    }
}

/// Nothing is known.
const ANY: Outcomes = Outcomes { accepts: true, drops: true, falls: true };

/// What may become of packets in a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Outcomes {
    accepts: bool,
    drops: bool,
    /// They reach the end of the chain, or return from it.
    falls: bool,
}

impl Ruleset {
    /// What the base chains at a hook do to packets. `families` are those of the chains that the packets pass.
    #[must_use]
    pub fn verdict(&self, hook: HookPoint, families: &[Family], packets: Packets<'_>) -> Verdict {
        let mut walk = Walk { ruleset: self, packets, known: HashMap::new() };
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
            let dropper = || dropper(chain, by_policy);
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

fn dropper(chain: &Chain, by_policy: bool) -> Dropper {
    let Chain { family, table, name, .. } = chain;
    Dropper { family: *family, table: table.clone(), chain: name.clone(), by_policy }
}

struct Walk<'a> {
    ruleset: &'a Ruleset,
    packets: Packets<'a>,
    /// By chain. Its rules are the same for every jump to it.
    known: HashMap<usize, Outcomes>,
}

impl Walk<'_> {
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
            let Some(is_sure) = rule.matches(&self.packets, ruleset.may_untrack) else { continue };
            let this = match &rule.action {
                Action::Continue => continue,
                Action::Accept => Outcomes { accepts: true, ..Outcomes::default() },
                Action::Drop => Outcomes { drops: true, ..Outcomes::default() },
                Action::Return => Outcomes { falls: true, ..Outcomes::default() },
                Action::Unknown => ANY,
                Action::Jump(name) | Action::Goto(name) => self.target(index, name, depth),
            };
            // Packets that fall out of the chain of a jump go on behind it.
            let go_on = this.falls && matches!(rule.action, Action::Jump(_) | Action::Unknown);
            all.accepts |= this.accepts;
            all.drops |= this.drops;
            all.falls |= this.falls && !go_on;
            if is_sure && !go_on {
                return all;
            }
        }
        all.falls = true;
        all
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
}

impl Rule {
    /// Whether its action is surely taken for all packets; `None` if it is for none.
    fn matches(&self, packets: &Packets<'_>, may_untrack: bool) -> Option<bool> {
        let mut is_sure = true;
        for test in &self.tests {
            match test.result(packets, may_untrack) {
                Some(false) => return None,
                Some(true) => {}
                None => is_sure = false,
            }
        }
        Some(is_sure)
    }
}

impl Test {
    /// Whether it is true of all packets, or of none; `None` if that is unknown.
    fn result(&self, packets: &Packets<'_>, may_untrack: bool) -> Option<bool> {
        match self {
            Self::Device { is_in, name, is_prefix, is_equal } => {
                let devices = if *is_in { packets.in_devices } else { packets.out_devices };
                let is_it =
                    |device: &&&str| if *is_prefix { device.starts_with(name) } else { **device == name };
                match devices.iter().filter(is_it).count() {
                    0 => Some(!is_equal),
                    all if all == devices.len() => Some(*is_equal),
                    _ => None,
                }
            }
            Self::Address { is_source, subnet, is_equal } => {
                let subnets = if *is_source { packets.sources } else { packets.destinations };
                are_within(subnets, subnet).map(|are_within| are_within == *is_equal)
            }
            Self::Family { family, is_equal } => Some((*family == packets.family) == *is_equal),
            Self::State(_) if may_untrack => None,
            Self::State(states) if states & packets.state != 0 => Some(true),
            // Others are those of NAT, and of packets that are not tracked.
            Self::State(states) => (states & !KNOWN_STATES == 0 || packets.state == NEW).then_some(false),
            Self::Bridged => Some(packets.are_bridged),
            Self::Unknown => None,
        }
    }
}

/// Whether all of these are in a subnet, or none; `None` if that is unknown.
fn are_within(subnets: &[IpNet], subnet: &IpNet) -> Option<bool> {
    let is_of_family = |one: &IpNet| one.addr().is_ipv4() == subnet.addr().is_ipv4();
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
mod tests {
    use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};

    use super::*;
    use crate::kernel::{
        Netns, RouteSocket,
        sandbox::{in_new_namespace, nft, run},
    };

    const FORWARD: HookPoint = HookPoint::Forward;
    const IPV4: [Family; 2] = [Family::Ip, Family::Inet];

    fn subnets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// What the rules of the calling thread's namespace do to IPv4 packets between two hosts of `br0`.
    fn bridged() -> Verdict {
        let lab = subnets(&["10.8.0.0/24"]);
        let links = RouteSocket::open(&Netns::current().unwrap()).unwrap().links().unwrap();
        let ruleset = Ruleset::read(&Socket::new(NETLINK_NETFILTER).unwrap(), &links, 8).unwrap();
        let packets = Packets {
            family: Family::Ip,
            in_devices: &["br0"],
            out_devices: &["br0"],
            are_bridged: true,
            state: NEW,
            sources: &lab,
            destinations: &lab,
        };
        ruleset.verdict(FORWARD, &IPV4, packets)
    }

    fn dropper(chain: &str, by_policy: bool) -> Dropper {
        Dropper { family: Family::Ip, table: "filter".into(), chain: chain.into(), by_policy }
    }

    fn filter() {
        nft("add table ip filter");
        nft("add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }");
    }

    #[test]
    fn a_policy_drops_all_unless_a_rule_accepts_before() {
        in_new_namespace(|| {
            assert_eq!(bridged(), Verdict::Accept);
            filter();
            assert_eq!(bridged(), Verdict::Drop(dropper("FORWARD", true)));
            nft("add rule ip filter FORWARD ct state established,related accept");
            nft("add rule ip filter FORWARD iifname \"docker0\" accept");
            nft("add rule ip filter FORWARD oifname \"br-*\" accept");
            nft("add rule ip filter FORWARD ip saddr 10.9.0.0/16 accept");
            nft("add rule ip filter FORWARD ip daddr != 10.8.0.0/16 accept");
            nft("add rule ip filter FORWARD iifname != \"br0\" counter accept");
            assert_eq!(bridged(), Verdict::Drop(dropper("FORWARD", true)), "none of these is about the lab");
            nft("add rule ip filter FORWARD tcp dport 22 accept");
            assert_eq!(bridged(), Verdict::MayDrop(dropper("FORWARD", true)));
            nft(
                "add rule ip filter FORWARD iifname \"br0\" oifname \"br*\" ip saddr 10.8.0.0/16 counter accept",
            );
            assert_eq!(bridged(), Verdict::Accept);
        });
    }

    #[test]
    fn jumps_are_followed() {
        in_new_namespace(|| {
            filter();
            nft("add chain ip filter user");
            nft("add chain ip filter late");
            nft("add rule ip filter FORWARD jump user");
            nft("add rule ip filter FORWARD goto late");
            nft("add rule ip filter user return");
            nft("add rule ip filter user accept");
            assert_eq!(bridged(), Verdict::Drop(dropper("FORWARD", true)), "it returns before");
            nft("insert rule ip filter user iifname \"br0\" accept");
            assert_eq!(bridged(), Verdict::Accept);
            nft("flush chain ip filter user");
            nft("add rule ip filter late meta mark 7 drop");
            nft("add rule ip filter late ct state new reject");
            nft("chain ip filter FORWARD { policy accept; }");
            assert_eq!(bridged(), Verdict::Drop(dropper("FORWARD", false)));
        });
    }

    #[test]
    fn each_base_chain_of_the_hook_decides() {
        in_new_namespace(|| {
            nft("add table inet other");
            nft("add chain inet other f { type filter hook forward priority 10; policy drop; }");
            nft("add rule inet other f meta nfproto ipv6 accept");
            let Verdict::Drop(found) = bridged() else { panic!("{:?}", bridged()) };
            assert_eq!(found.to_string(), "nft table inet other, chain f (policy drop)");
            nft("add rule inet other f meta nfproto ipv4 limit rate 5/second accept");
            assert!(matches!(bridged(), Verdict::MayDrop(_)));
            nft("flush chain inet other f");
            nft("add rule inet other f ct state vmap { new : accept, invalid : drop }");
            assert!(matches!(bridged(), Verdict::MayDrop(_)), "what a map says is unknown");
        });
    }

    #[test]
    fn what_may_stop_a_rule_makes_it_uncertain() {
        in_new_namespace(|| {
            filter();
            nft("chain ip filter FORWARD { policy accept; }");
            nft("add set ip filter flood { type ipv4_addr; flags dynamic; }");
            nft("add rule ip filter FORWARD update @flood { ip saddr limit rate over 9/second } drop");
            assert_eq!(bridged(), Verdict::MayDrop(dropper("FORWARD", false)));
            nft("flush chain ip filter FORWARD");
            nft("add rule ip filter FORWARD iif lo drop");
            assert_eq!(bridged(), Verdict::Accept, "of another device");
            nft("add chain ip filter raw { type filter hook prerouting priority -300; }");
            nft("chain ip filter FORWARD { policy drop; }");
            nft("add rule ip filter FORWARD ct state untracked accept");
            assert_eq!(bridged(), Verdict::Drop(dropper("FORWARD", true)));
            nft("add rule ip filter raw iifname br0 notrack");
            assert_eq!(bridged(), Verdict::MayDrop(dropper("FORWARD", true)));
            nft("add table ip filter { flags dormant; }");
            assert_eq!(bridged(), Verdict::Accept, "its chains are not called");
        });
    }

    #[test]
    fn rules_of_iptables_are_read() {
        in_new_namespace(|| {
            let iptables = |rule: &str| run("iptables-nft", &rule.split(' ').collect::<Vec<_>>());
            let _ = iptables("-P FORWARD DROP");
            let _ = iptables("-N DOCKER-USER");
            let _ = iptables("-A FORWARD -j DOCKER-USER");
            let _ = iptables("-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
            let _ = iptables("-A FORWARD -i docker0 ! -o docker0 -j ACCEPT");
            let _ = iptables("-A DOCKER-USER -j RETURN");
            assert_eq!(bridged(), Verdict::Drop(dropper("FORWARD", true)));
            let _ = iptables("-I DOCKER-USER -s 10.8.0.0/16 -m comment --comment lab -j ACCEPT");
            assert_eq!(bridged(), Verdict::Accept);
            let _ = iptables("-F DOCKER-USER");
            let _ = iptables("-I DOCKER-USER -m physdev --physdev-is-bridged -j ACCEPT");
            assert_eq!(bridged(), Verdict::Accept);
            let _ = iptables("-F DOCKER-USER");
            let _ = iptables("-I DOCKER-USER -m conntrack --ctstate NEW -j REJECT");
            assert_eq!(bridged(), Verdict::Drop(dropper("FORWARD", false)));
        });
    }

    #[test]
    fn subnets_are_compared() {
        let net: IpNet = "10.8.0.0/16".parse().unwrap();
        let within = |texts: &[&str]| are_within(&subnets(texts), &net);
        assert_eq!(within(&["10.8.1.0/24", "10.8.0.0/16"]), Some(true));
        assert_eq!(within(&["10.9.0.0/24", "192.0.2.0/24"]), Some(false));
        assert_eq!(within(&["10.8.1.0/24", "10.9.0.0/24"]), None, "some are");
        assert_eq!(within(&["10.0.0.0/8"]), None, "some may be");
        assert_eq!(within(&["fd00::/64"]), None);
        assert_eq!(within(&[]), None);
    }
}
