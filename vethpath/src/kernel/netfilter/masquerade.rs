//! `nat = true`: what leaves the host for a bridge's subnet gets the host's address.

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_sys::Socket;

use super::{
    Family, NetfilterError, Result, expressions, header, kind,
    table::{NFTA_TABLE_NAME, Step, change, deletion, describe, mark},
};
use crate::{kernel::exchange::Attributes, topology::IfName};

/// The family of our tables: one for both IP versions.
pub(super) const FAMILY: Family = Family::Inet;
/// The one chain of our tables.
pub(super) const CHAIN: &str = "postrouting";
/// The chain's type.
pub(super) const CHAIN_TYPE: &str = "nat";
/// `NF_INET_POST_ROUTING`.
pub(super) const HOOK: u32 = 4;
/// `NF_IP_PRI_NAT_SRC`, nft's `srcnat`.
pub(super) const PRIORITY: u32 = 100;
/// `NF_ACCEPT`.
pub(super) const ACCEPT: u32 = 1;

/// A batch is one datagram, and this many rules of 500 bytes fit the default send buffer (208 KiB).
const MOST_RULES: usize = 256;

/// One subnet whose packets are masqueraded, unless they stay on its bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasqueradeRule {
    /// Source addresses; host bits are ignored.
    pub subnet: IpNet,
    /// The bridge with that subnet.
    pub bridge: IfName,
}

/// Makes table `inet TABLE` with exactly these rules, in place of a table of ours with that name.
///
/// The table is what this text makes, one rule per subnet, and it outlives the process:
/// ```text
/// table inet TABLE {
///     comment "made by vethpath"
///     chain postrouting {
///         type nat hook postrouting priority srcnat; policy accept;
///         ip saddr SUBNET oifname != "BRIDGE" masquerade
///     }
/// }
/// ```
/// It is one transaction: either all of it is in force or nothing changed.
///
/// # Errors
/// [`NetfilterError::NotOurs`] if a table of that name lacks our mark; else what the kernel said.
pub fn add_masquerade(socket: &Socket, table: &str, rules: &[MasqueradeRule]) -> Result<()> {
    if rules.len() > MOST_RULES {
        let object = describe(FAMILY, table);
        return Err(NetfilterError::Invalid { object, reason: "it would have more than 256 rules" });
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
mod tests {
    use netlink_sys::protocols::NETLINK_NETFILTER;
    use serde_json::{Value, json};

    use super::*;
    use crate::kernel::{
        netfilter::remove_table,
        sandbox::{in_new_namespace, nft, run},
    };

    fn rules(list: &[(&str, &str)]) -> Vec<MasqueradeRule> {
        let rule = |&(subnet, bridge): &(&str, &str)| MasqueradeRule {
            subnet: subnet.parse().unwrap(),
            bridge: bridge.parse().unwrap(),
        };
        list.iter().map(rule).collect()
    }

    fn ruleset() -> Vec<Value> {
        let listing: Value = serde_json::from_str(&nft("list ruleset")).unwrap();
        listing["nftables"].as_array().unwrap().iter().skip(1).cloned().collect()
    }

    fn socket() -> Socket {
        Socket::new(NETLINK_NETFILTER).unwrap()
    }

    #[test]
    fn nft_reads_what_we_wrote() {
        in_new_namespace(|| {
            let list = [
                ("172.17.0.1/16", "docker0"),
                ("fd00::1/64", "fifteen-letters"),
                ("10.1.2.3/32", "b"),
                ("10.9.0.0/21", "b"),
                ("fd00:1::/61", "b"),
            ];
            add_masquerade(&socket(), "vethpath-lab", &rules(&list)).unwrap();
            let found = ruleset();
            // nft 1.0.6 leaves a table's comment out of its JSON.
            let listing = run("nft", &["list", "table", "inet", "vethpath-lab"]);
            assert!(
                listing.contains("comment \"made by vethpath\"") && !listing.contains("flags"),
                "{listing}"
            );
            let chain = &found[1]["chain"];
            assert_eq!(chain["type"], "nat");
            assert_eq!(chain["hook"], "postrouting");
            assert_eq!(chain["prio"], 100);
            assert_eq!(chain["policy"], "accept");
            let expected = |protocol: &str, right: Value, bridge: &str| {
                json!([
                    {"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": "saddr"}}, "right": right}},
                    {"match": {"op": "!=", "left": {"meta": {"key": "oifname"}}, "right": bridge}},
                    {"masquerade": null},
                ])
            };
            let prefix = |address: &str, length: u8| json!({"prefix": {"addr": address, "len": length}});
            assert_eq!(found[2]["rule"]["expr"], expected("ip", prefix("172.17.0.0", 16), "docker0"));
            assert_eq!(found[3]["rule"]["expr"], expected("ip6", prefix("fd00::", 64), "fifteen-letters"));
            assert_eq!(found[4]["rule"]["expr"], expected("ip", json!("10.1.2.3"), "b"));
            assert_eq!(found[5]["rule"]["expr"], expected("ip", prefix("10.9.0.0", 21), "b"));
            assert_eq!(found[6]["rule"]["expr"], expected("ip6", prefix("fd00:1::", 61), "b"));
            assert_eq!(found.len(), 7);
        });
    }

    #[test]
    fn adding_again_replaces_and_removing_twice_is_fine() {
        in_new_namespace(|| {
            let socket = socket();
            add_masquerade(&socket, "vethpath-lab", &rules(&[("10.0.0.0/8", "a"), ("10.0.0.0/9", "b")]))
                .unwrap();
            add_masquerade(&socket, "vethpath-lab", &rules(&[("10.0.0.0/8", "c")])).unwrap();
            assert_eq!(ruleset().len(), 3);
            add_masquerade(&socket, "vethpath-other", &[]).unwrap();
            remove_table(&socket, Family::Inet, "vethpath-lab").unwrap();
            remove_table(&socket, Family::Inet, "vethpath-lab").unwrap();
            assert_eq!(ruleset()[0]["table"]["name"], "vethpath-other");
            remove_table(&socket, Family::Inet, "vethpath-other").unwrap();
            assert!(ruleset().is_empty());
        });
    }

    #[test]
    fn a_table_of_somebody_else_stays() {
        in_new_namespace(|| {
            nft("add table inet vethpath-lab { comment \"mine\"; }");
            let socket = socket();
            let error = add_masquerade(&socket, "vethpath-lab", &[]).unwrap_err().to_string();
            assert_eq!(error, "nft table inet vethpath-lab is there already and was not made by vethpath");
            assert!(remove_table(&socket, Family::Inet, "vethpath-lab").is_err());
            assert_eq!(ruleset().len(), 1);
        });
    }

    #[test]
    fn the_largest_batch_fits_and_a_larger_one_is_refused() {
        in_new_namespace(|| {
            let many = rules(&vec![("fd00::/61", "fifteen-letters"); MOST_RULES + 1]);
            assert!(add_masquerade(&socket(), "t", &many).is_err());
            add_masquerade(&socket(), "t", &many[1..]).unwrap();
            assert_eq!(ruleset().len(), 2 + MOST_RULES);
        });
    }

    #[test]
    fn two_at_once_do_not_lose_each_other() {
        in_new_namespace(|| {
            let sockets: Vec<_> = (0..4).map(|_| socket()).collect();
            std::thread::scope(|scope| {
                for (index, socket) in sockets.iter().enumerate() {
                    scope.spawn(move || {
                        add_masquerade(socket, &format!("t{index}"), &rules(&[("10.0.0.0/8", "a")])).unwrap();
                    });
                }
            });
            assert_eq!(ruleset().len(), 12);
        });
    }

    #[test]
    fn errors_name_operation_object_and_errno() {
        let long = "x".repeat(256);
        in_new_namespace(|| {
            assert!(
                add_masquerade(&socket(), &long, &[])
                    .unwrap_err()
                    .to_string()
                    .starts_with("cannot add nft table inet xxx")
            );
            assert!(add_masquerade(&socket(), "", &[]).is_err());
            // A route socket knows no such request.
            let wrong = Socket::new(netlink_sys::protocols::NETLINK_USERSOCK).unwrap();
            let error = add_masquerade(&wrong, "t", &[]).unwrap_err().to_string();
            assert!(
                error.starts_with("cannot add nft table inet t: ") && error.contains("os error"),
                "{error}"
            );
        });
    }
}
