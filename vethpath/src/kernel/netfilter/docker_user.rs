//! Rules of a lab in `DOCKER-USER`, in the tables of `iptables` and `ip6tables` on nf_tables. `FORWARD` jumps to this chain
//! before Docker's own chains, and Docker leaves its rules to the user.
//!
//! Each rule has the expressions that `iptables` itself would write: conntrack and comment are matches of x_tables
//! (net/netfilter/nft_compat.c), since `iptables -S` and `iptables-save` fail on a table with a native `ct state`. The
//! comment is the lab's mark, by which its rules are found again.

use std::collections::BTreeSet;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_sys::Socket;
use nix::libc;

use super::{
    Family, HEADER, attributes,
    expression::Action,
    generation, header, kind,
    masquerade::{
        ACCEPT, NFT_CMP_EQ, NFT_META_OIFNAME, NFTA_DATA_VALUE, compare, load_meta, with_expression,
    },
    ruleset::{CONNTRACK_FLAGS, CONNTRACK_STATE, ESTABLISHED, Names, RELATED, Rule, Ruleset, Test, parse},
    table::{Step, transaction},
};
use crate::{
    kernel::{
        Context, Result,
        netlink::{self, Attributes, NetlinkError},
    },
    topology::AcceptRule,
};

/// The chain. Docker creates it if it is missing, makes it the first jump of `FORWARD`, and does not change its rules.
pub const DOCKER_USER: &str = "DOCKER-USER";

/// The x_tables table that filters packets.
pub const FILTER: &str = "filter";

/// Docker's chain of packets to its bridges.
const DOCKER: &str = "DOCKER";

const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_HANDLE: u16 = 3;

/// The states of replies.
const REPLIES: u32 = RELATED | ESTABLISHED;

/// A rule of the chain, with its handle.
struct InChain {
    handle: [u8; 8],
    rule: Rule,
}

/// Whether the chain exists.
///
/// # Errors
/// The kernel refuses the request. A kernel without nf_tables has no chain, which is not an error.
pub fn has_docker_user(socket: &Socket, family: Family) -> Result<bool> {
    const NFTA_CHAIN_TABLE: u16 = 1;
    const NFTA_CHAIN_NAME: u16 = 3;
    let find = || {
        if generation(socket)?.is_none() {
            return Ok(false);
        }
        let chain = Attributes::default().text(NFTA_CHAIN_TABLE, FILTER).text(NFTA_CHAIN_NAME, DOCKER_USER);
        match netlink::request(socket, kind::GET_CHAIN, 0, &chain.behind(&header(family))) {
            Ok(replies) => Ok(!replies.is_empty()),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    };
    find().doing("look for", describe(family))
}

/// Makes these the rules in the chain that carry the mark, in this order. Their position is after the rules of others, but
/// before one that ends the chain for every packet, such as Docker's `RETURN`. This is one transaction: it is applied
/// completely or not at all. A missing chain has no rules.
///
/// # Errors
/// The chain does not exist and is to have rules, or the kernel refuses.
pub fn accept(socket: &Socket, family: Family, mark: &str, rules: &[AcceptRule]) -> Result<()> {
    const OPERATION: &str = "change rules of";
    let object = describe(family);
    if rules.is_empty() && !has_docker_user(socket, family)? {
        return Ok(());
    }
    transaction(OPERATION, socket, &object, || {
        let found = read(socket, family).doing(OPERATION, &object)?;
        let (ours, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| found.rule.carries(mark));
        if ours.iter().map(|ours| ours.rule.accepted()).eq(rules.iter().cloned().map(Some)) {
            return Ok(Vec::new());
        }
        let before = end_of(others.iter().map(|other| &other.rule)).and_then(|end| others.get(end));
        let before = before.map(|other| other.handle);
        let deletions = ours.iter().map(|ours| deletion(family, ours.handle));
        Ok(deletions.chain(rules.iter().map(|rule| new_rule(family, mark, rule, before))).collect())
    })
}

impl Ruleset {
    /// The rules in the chain of a family that carry a mark, in their order. `None` stands for one that is not as vethpath
    /// writes it. Without the chain, there is no list.
    #[must_use]
    pub fn accepted(&self, family: Family, mark: &str) -> Option<Vec<Option<AcceptRule>>> {
        let rules = self.rules.get(self.docker_user(family)?)?;
        Some(rules.iter().filter(|rule| rule.carries(mark)).map(Rule::accepted).collect())
    }

    /// The same change as [`accept`] makes, to this copy of the rules alone.
    pub fn accept(&mut self, family: Family, mark: &str, rules: &[AcceptRule]) {
        let Some(there) = self.docker_user(family).and_then(|index| self.rules.get_mut(index)) else {
            return;
        };
        there.retain(|rule| !rule.carries(mark));
        let end = end_of(there.iter()).unwrap_or(there.len());
        let _ = there.splice(end..end, rules.iter().map(|rule| Rule::accepting(rule, mark)));
    }

    fn docker_user(&self, family: Family) -> Option<usize> {
        self.index.get(&(family, FILTER.to_owned(), DOCKER_USER.to_owned())).copied()
    }

    /// The bridges of Docker's networks: the output devices of rules that jump to Docker's own chain.
    #[must_use]
    pub fn docker_bridges(&self) -> BTreeSet<&str> {
        let of_filter = self.chains.iter().zip(&self.rules).filter(|(chain, _)| chain.table == FILTER);
        let jumps = of_filter.flat_map(|(_, rules)| rules).filter(
            |rule| matches!(&rule.action, Action::Jump(chain) | Action::Goto(chain) if chain == DOCKER),
        );
        let to = |test| match test {
            &Test::Device { is_in: false, ref name, is_prefix: false, is_equal: true } => Some(name.as_str()),
            _ => None,
        };
        jumps.flat_map(|rule| rule.tests.iter().filter_map(to)).collect()
    }
}

impl Rule {
    fn carries(&self, mark: &str) -> bool {
        self.comment.as_deref() == Some(mark)
    }

    /// The rule that [`expressions`] encodes like this, if there is one.
    fn accepted(&self) -> Option<AcceptRule> {
        let [
            Test::Device { is_in: true, name: from, is_prefix: false, is_equal: true },
            Test::Device { is_in: false, name: to, is_prefix: false, is_equal: true },
            rest @ ..,
        ] = &self.tests[..]
        else {
            return None;
        };
        let (from, to) = (from.clone(), to.clone());
        match (rest, &self.action) {
            ([], Action::Accept) => Some(AcceptRule { bridge: from, uplink: to, are_replies: false }),
            ([Test::State(REPLIES)], Action::Accept) => {
                Some(AcceptRule { bridge: to, uplink: from, are_replies: true })
            }
            _ => None,
        }
    }

    fn accepting(rule: &AcceptRule, mark: &str) -> Self {
        let (from, to) = devices(rule);
        let device = |is_in, name: &str| Test::Device {
            is_in,
            name: name.to_owned(),
            is_prefix: false,
            is_equal: true,
        };
        let mut tests = vec![device(true, from), device(false, to)];
        tests.extend(rule.are_replies.then_some(Test::State(REPLIES)));
        Self { tests, action: Action::Accept, comment: Some(mark.into()), may_untrack: false }
    }
}

/// The input and the output device of a rule.
fn devices(rule: &AcceptRule) -> (&str, &str) {
    let AcceptRule { bridge, uplink, are_replies } = rule;
    if *are_replies { (uplink, bridge) } else { (bridge, uplink) }
}

/// The position of the first rule that ends the chain for every packet. Later rules have no effect.
fn end_of<'r>(mut rules: impl Iterator<Item = &'r Rule>) -> Option<usize> {
    rules.position(|rule| {
        let ends = matches!(rule.action, Action::Accept | Action::Drop | Action::Return | Action::Goto(_));
        ends && rule.tests.is_empty()
    })
}

fn read(socket: &Socket, family: Family) -> std::result::Result<Vec<InChain>, NetlinkError> {
    let filter = Attributes::default().text(NFTA_RULE_TABLE, FILTER).text(NFTA_RULE_CHAIN, DOCKER_USER);
    let replies = match netlink::dump(socket, kind::GET_RULE, &filter.behind(&header(family))) {
        Err(error) if error.errno() == Some(libc::ENOENT) => Vec::new(),
        replies => replies?,
    };
    let names = Names::new();
    let mut rules = Vec::new();
    for reply in &replies {
        let (of, table, chain, rule) = parse(reply, &names)?;
        // Kernels before 4.8 do not filter the dump.
        if (of, table.as_str(), chain.as_str()) == (family, FILTER, DOCKER_USER) {
            rules.push(InChain { handle: handle_of(reply)?, rule });
        }
    }
    Ok(rules)
}

pub(super) fn handle_of(reply: &[u8]) -> std::result::Result<[u8; 8], NetlinkError> {
    for attribute in attributes(reply.get(HEADER..).unwrap_or_default()) {
        let attribute = attribute?;
        if attribute.kind() == NFTA_RULE_HANDLE {
            let wrong = |_| NetlinkError::Malformed("a rule whose handle is not 64 bits long");
            return attribute.value().try_into().map_err(wrong);
        }
    }
    Err(NetlinkError::Malformed("a rule without a handle"))
}

/// Deletes a rule by its handle, never one that has taken its place since.
fn deletion(family: Family, handle: [u8; 8]) -> Step {
    let attributes = in_chain().bytes(NFTA_RULE_HANDLE, &handle);
    Step { kind: kind::DELETE_RULE, flags: 0, payload: attributes.behind(&header(family)) }
}

/// Adds a rule before another, or at the end of the chain.
fn new_rule(family: Family, mark: &str, rule: &AcceptRule, before: Option<[u8; 8]>) -> Step {
    const NFTA_RULE_EXPRESSIONS: u16 = 4;
    const NFTA_RULE_POSITION: u16 = 6;
    let attributes = in_chain().nested(NFTA_RULE_EXPRESSIONS, &expressions(rule, mark));
    // Without NLM_F_APPEND, the position is that of the rule that follows.
    let (attributes, place) = match before {
        Some(handle) => (attributes.bytes(NFTA_RULE_POSITION, &handle), 0),
        None => (attributes, NLM_F_APPEND),
    };
    Step { kind: kind::NEW_RULE, flags: NLM_F_CREATE | place, payload: attributes.behind(&header(family)) }
}

fn in_chain() -> Attributes {
    Attributes::default().text(NFTA_RULE_TABLE, FILTER).text(NFTA_RULE_CHAIN, DOCKER_USER)
}

fn describe(family: Family) -> String {
    format!("nft table {family} {FILTER}, chain {DOCKER_USER}")
}

/// `-i FROM -o TO [-m conntrack --ctstate RELATED,ESTABLISHED] -m comment --comment MARK -j ACCEPT`, as `iptables`
/// encodes it (`nft_ipv4_add` in iptables/nft-ipv4.c).
fn expressions(rule: &AcceptRule, mark: &str) -> Attributes {
    const NFT_META_IIFNAME: u32 = 6;
    let (from, to) = devices(rule);
    let mut list = Attributes::default();
    for (key, device) in [(NFT_META_IIFNAME, from), (NFT_META_OIFNAME, to)] {
        list = with_expression(list, "meta", &load_meta(key));
        // With its zero: otherwise it would be a prefix.
        list = with_expression(list, "cmp", &compare(NFT_CMP_EQ, &[device.as_bytes(), &[0]].concat()));
    }
    if rule.are_replies {
        list = with_expression(list, "match", &extension("conntrack", 3, &conntrack_info()));
    }
    list = with_expression(list, "match", &extension("comment", 0, &comment_info(mark)));
    list = with_expression(list, "counter", &counter());
    with_expression(list, "immediate", &verdict())
}

/// A match of x_tables (net/netfilter/nft_compat.c).
fn extension(name: &str, revision: u32, info: &[u8]) -> Attributes {
    const NFTA_MATCH_NAME: u16 = 1;
    const NFTA_MATCH_REV: u16 = 2;
    const NFTA_MATCH_INFO: u16 = 3;
    Attributes::default()
        .text(NFTA_MATCH_NAME, name)
        .number(NFTA_MATCH_REV, revision)
        .bytes(NFTA_MATCH_INFO, info)
}

/// The length of a structure as x_tables aligns it (`XT_ALIGN` of linux/netfilter/x_tables.h): to the largest integer.
const fn aligned(length: usize) -> usize {
    length.next_multiple_of(align_of::<u64>())
}

/// `struct xt_conntrack_mtinfo3` of linux/netfilter/xt_conntrack.h with these states and nothing else.
fn conntrack_info() -> Vec<u8> {
    const LENGTH: usize = 164;
    let mut info = vec![0; aligned(LENGTH)];
    let states = u16::try_from(REPLIES).unwrap_or_default();
    for (offset, word) in [(0, CONNTRACK_STATE), (4, states)] {
        let at = CONNTRACK_FLAGS + offset;
        info[at..at + 2].copy_from_slice(&word.to_ne_bytes());
    }
    info
}

/// `struct xt_comment_info` of linux/netfilter/xt_comment.h. A lab's mark has at most 41 bytes.
fn comment_info(mark: &str) -> Vec<u8> {
    const XT_MAX_COMMENT_LEN: usize = 256;
    let mut info = vec![0; aligned(XT_MAX_COMMENT_LEN)];
    let length = mark.len().min(XT_MAX_COMMENT_LEN - 1);
    info[..length].copy_from_slice(&mark.as_bytes()[..length]);
    info
}

/// A counter that begins at zero.
fn counter() -> Attributes {
    const NFTA_COUNTER_BYTES: u16 = 1;
    const NFTA_COUNTER_PACKETS: u16 = 2;
    Attributes::default().bytes(NFTA_COUNTER_BYTES, &[0; 8]).bytes(NFTA_COUNTER_PACKETS, &[0; 8])
}

fn verdict() -> Attributes {
    const NFTA_IMMEDIATE_DREG: u16 = 1;
    const NFTA_IMMEDIATE_DATA: u16 = 2;
    const NFTA_DATA_VERDICT: u16 = NFTA_DATA_VALUE + 1;
    const NFTA_VERDICT_CODE: u16 = 1;
    const NFT_REG_VERDICT: u32 = 0;
    let code = Attributes::default().number(NFTA_VERDICT_CODE, ACCEPT);
    let data = Attributes::default().nested(NFTA_DATA_VERDICT, &code);
    Attributes::default().number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT).nested(NFTA_IMMEDIATE_DATA, &data)
}

#[cfg(test)]
mod tests {
    use netlink_sys::protocols::NETLINK_NETFILTER;

    use super::*;
    use crate::kernel::{
        netfilter::masquerade::canonical,
        sandbox::{in_new_namespace, nft, run},
    };

    const LAB: &str = "vethpath:lab";
    const OTHER: &str = "vethpath:lab2";
    const TOOLS: [(Family, &str); 2] = [(Family::Ip, "iptables-nft"), (Family::Ip6, "ip6tables-nft")];

    fn socket() -> Socket {
        Socket::new(NETLINK_NETFILTER).unwrap()
    }

    fn both(bridge: &str, uplink: &str) -> Vec<AcceptRule> {
        AcceptRule::both(&bridge.parse().unwrap(), uplink).to_vec()
    }

    /// Runs `iptables` with a rule, for both families.
    fn iptables(rule: &str) {
        let words: Vec<_> = rule.split(' ').collect();
        TOOLS.iter().for_each(|(_, tool)| drop(run(tool, &words)));
    }

    fn chain_of_docker() {
        let chain = ["-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-I FORWARD -j DOCKER-USER"];
        chain.into_iter().for_each(iptables);
    }

    /// The rules as `iptables -S` prints them.
    fn listed(tool: &str) -> Vec<String> {
        let rules = run(tool, &["-S", "DOCKER-USER"]);
        rules.lines().filter_map(|line| line.strip_prefix("-A DOCKER-USER ")).map(str::to_owned).collect()
    }

    fn expressions_there(family: Family) -> Vec<Vec<u8>> {
        const NFTA_RULE_EXPRESSIONS: u16 = 4;
        let chain = in_chain().behind(&header(family));
        let replies = netlink::dump(&socket(), kind::GET_RULE, &chain).unwrap();
        let of = |reply: &Vec<u8>| {
            let all: Vec<_> = attributes(&reply[HEADER..]).map(|attribute| attribute.unwrap()).collect();
            let list = all.iter().find(|attribute| attribute.kind() == NFTA_RULE_EXPRESSIONS).unwrap();
            list.value().to_vec()
        };
        replies.iter().map(of).collect()
    }

    #[test]
    fn rules_are_byte_for_byte_those_of_iptables() {
        in_new_namespace(|| {
            chain_of_docker();
            for (family, tool) in TOOLS {
                for (bridge, uplink) in [("br0", "eth0"), ("fifteen-letters", "wlp0s20f3.4094x")] {
                    run(tool, &["-F", "DOCKER-USER"]);
                    accept(&socket(), family, LAB, &both(bridge, uplink)).unwrap();
                    let (ours, listing, saved) =
                        (expressions_there(family), listed(tool), run(tool, &["-S"]));
                    assert_eq!(ours.len(), 2);
                    assert_eq!(
                        listing,
                        [
                            format!("-i {bridge} -o {uplink} -m comment --comment \"{LAB}\" -j ACCEPT"),
                            format!(
                                "-i {uplink} -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -m comment \
                                 --comment \"{LAB}\" -j ACCEPT"
                            ),
                        ]
                    );
                    run(tool, &["-F", "DOCKER-USER"]);
                    for rule in listing {
                        let rule = rule.replace('"', "");
                        run(
                            tool,
                            &[&["-A", "DOCKER-USER"][..], &rule.split(' ').collect::<Vec<_>>()].concat(),
                        );
                    }
                    assert_eq!(expressions_there(family), ours, "{tool} has written them now");
                    assert_eq!(run(tool, &["-S"]), saved);
                    // What iptables has written, such as after iptables-restore, is ours too.
                    accept(&socket(), family, LAB, &[]).unwrap();
                    assert_eq!(listed(tool), [""; 0]);
                }
            }
        });
    }

    #[test]
    fn the_table_can_be_read_and_is_as_it_was_afterwards() {
        in_new_namespace(|| {
            chain_of_docker();
            iptables("-I DOCKER-USER -p tcp -j DROP");
            for (family, tool) in TOOLS {
                let save = || {
                    let text = run(&format!("{tool}-save"), &[]);
                    assert!(!text.contains("is incompatible"), "{text}");
                    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
                };
                let (listing, before) = (run(tool, &["-S"]), save());
                accept(&socket(), family, LAB, &both("br0", "eth0")).unwrap();
                let after = save();
                assert_eq!(after.len(), before.len() + 2);
                assert!(before.iter().all(|line| after.contains(line)), "{after:?}");
                assert!(run(tool, &["-L", "-n", "-v"]).contains("/* vethpath:lab */"));
                accept(&socket(), family, LAB, &[]).unwrap();
                assert_eq!((run(tool, &["-S"]), save()), (listing, before));
            }
        });
    }

    #[test]
    fn they_stand_behind_the_rules_of_the_user_and_before_the_return() {
        in_new_namespace(|| {
            chain_of_docker();
            iptables("-I DOCKER-USER -i eth0 -p udp -j DROP");
            let socket = socket();
            accept(&socket, Family::Ip, LAB, &both("br0", "eth0")).unwrap();
            accept(&socket, Family::Ip, OTHER, &both("br1", "eth0")).unwrap();
            let rules = listed("iptables-nft");
            assert_eq!(rules.len(), 6, "{rules:#?}");
            assert_eq!((rules[0].as_str(), rules[5].as_str()), ("-i eth0 -p udp -j DROP", "-j RETURN"));
            // The same again changes nothing, not even the counters and the handles.
            let handles = || run("nft", &["-a", "list", "chain", "ip", "filter", "DOCKER-USER"]);
            let before = handles();
            accept(&socket, Family::Ip, LAB, &both("br0", "eth0")).unwrap();
            assert_eq!(handles(), before);
            // Another uplink replaces the rules of this lab, and no others.
            accept(&socket, Family::Ip, LAB, &both("br0", "wlan0")).unwrap();
            let rules = listed("iptables-nft");
            assert_eq!(rules.iter().filter(|rule| rule.contains("br0") && rule.contains("wlan0")).count(), 2);
            assert_eq!(rules.iter().filter(|rule| rule.contains("br1") && rule.contains("eth0")).count(), 2);
            assert_eq!(rules.len(), 6, "{rules:#?}");
            accept(&socket, Family::Ip, LAB, &[]).unwrap();
            accept(&socket, Family::Ip, OTHER, &[]).unwrap();
            assert_eq!(listed("iptables-nft"), ["-i eth0 -p udp -j DROP", "-j RETURN"]);
            // Without a RETURN, they are the last.
            iptables("-D DOCKER-USER -j RETURN");
            accept(&socket, Family::Ip, LAB, &both("br0", "eth0")).unwrap();
            assert_eq!(listed("iptables-nft")[0], "-i eth0 -p udp -j DROP");
        });
    }

    #[test]
    fn what_is_worked_out_is_what_the_kernel_does() {
        let read = || Ruleset::read(&socket(), &[], 8).unwrap();
        in_new_namespace(|| {
            chain_of_docker();
            iptables("-I DOCKER-USER -p udp -j DROP");
            let mut expected = read();
            assert_eq!(expected.accepted(Family::Ip, LAB), Some(Vec::new()));
            for rules in [both("br0", "eth0"), both("br0", "eth1"), Vec::new()] {
                accept(&socket(), Family::Ip, LAB, &rules).unwrap();
                expected.accept(Family::Ip, LAB, &rules);
                let found = read();
                assert_eq!(found.rules, expected.rules);
                let rules: Vec<_> = rules.into_iter().map(Some).collect();
                assert_eq!(found.accepted(Family::Ip, LAB), Some(rules));
                assert_eq!(found.accepted(Family::Ip, OTHER), Some(Vec::new()));
            }
            // A rule with the mark that is not one of ours.
            iptables("-I DOCKER-USER -i br0 -p tcp -m comment --comment vethpath:lab -j ACCEPT");
            assert_eq!(read().accepted(Family::Ip, LAB), Some(vec![None]));
            iptables("-F DOCKER-USER");
        });
    }

    #[test]
    fn without_the_chain_there_is_nothing_to_remove_and_nowhere_to_add() {
        in_new_namespace(|| {
            let without = || {
                for (family, _) in TOOLS {
                    assert!(!has_docker_user(&socket(), family).unwrap());
                    accept(&socket(), family, LAB, &[]).unwrap();
                    let error = accept(&socket(), family, LAB, &both("br0", "eth0")).unwrap_err().to_string();
                    assert!(
                        error.starts_with(&format!("cannot change rules of {}", describe(family))),
                        "{error}"
                    );
                }
            };
            without();
            nft("add table ip filter");
            nft("add table ip6 filter");
            without();
            let rules = Ruleset::read(&socket(), &[], 8).unwrap();
            assert_eq!(rules.accepted(Family::Ip, LAB), None);
        });
    }

    #[test]
    fn the_bridges_of_dockers_networks_are_known_by_its_rules() {
        in_new_namespace(|| {
            iptables("-N DOCKER");
            iptables("-A FORWARD -o docker0 -j DOCKER");
            iptables("-A FORWARD -o custom -j DOCKER");
            iptables("-A FORWARD -i in -j DOCKER");
            iptables("-A FORWARD -o other -j ACCEPT");
            let rules = Ruleset::read(&socket(), &[], 8).unwrap();
            assert_eq!(rules.docker_bridges().into_iter().collect::<Vec<_>>(), ["custom", "docker0"]);
        });
    }

    #[test]
    fn a_rules_answer_may_be_garbage() {
        let rule = &both("br0", "eth0")[1];
        let reply = new_rule(Family::Ip, LAB, rule, Some([7; 8])).payload;
        let (.., parsed) = parse(&reply, &Names::new()).unwrap();
        assert_eq!((parsed.accepted().as_ref(), parsed.carries(LAB)), (Some(rule), true));
        assert_eq!(canonical(expressions(rule, LAB).as_bytes()).unwrap().len(), 8);
        for cut in 0..reply.len() {
            let _ = (parse(&reply[..cut], &Names::new()), handle_of(&reply[..cut]));
        }
        assert!(handle_of(&reply).is_err(), "a new rule has none");
        assert_eq!(handle_of(&deletion(Family::Ip, [7; 8]).payload).unwrap(), [7; 8]);
    }
}
