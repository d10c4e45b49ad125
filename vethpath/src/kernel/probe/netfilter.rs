//! Foreign rules that bridged frames pass in this namespace.

use std::path::Path;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::Check;
use crate::kernel::{
    Netns, Result, Source,
    netfilter::{
        BRIDGE_SYSCTLS, BridgeCalls, PROC, THREAD_NET, bridge_nf_call, ebtables, legacy_tables, rules,
    },
};

const CALLS: &str = "net.bridge.bridge-nf-call-*";
const RULES: &str = "rules on bridges";
/// Maximum number of chains that are named. The rest is counted.
const MOST_NAMED: usize = 4;
const ELSEWHERE: &str = "put the bridges into a namespace of the lab (`fabric = true`, or `up --fabric`), where these rules do not apply";

pub(super) fn checks() -> Vec<Check> {
    let calls = bridge_nf_call(Path::new(BRIDGE_SYSCTLS));
    let rules = match &calls {
        Ok(calls) => found_rules(*calls),
        Err(_) => found_rules(BridgeCalls { iptables: true, ip6tables: true, arptables: true }),
    };
    let rules = match rules {
        Ok(names) => check_rules(&names),
        Err(error) => Check::warning(
            RULES,
            error.to_string(),
            "while the rules are unknown, no frame takes the fast path",
        ),
    };
    let calls = match calls {
        Ok(calls) => check_calls(calls),
        Err(error) => Check::warning(CALLS, error.to_string(), "mount /proc"),
    };
    vec![calls, rules]
}

/// br_netfilter slows down every bridged frame, even without rules. `bench` then underrates the bridge.
fn check_calls(calls: BridgeCalls) -> Check {
    let all = [("iptables", calls.iptables), ("ip6tables", calls.ip6tables), ("arptables", calls.arptables)];
    let on: Vec<_> = all.into_iter().filter_map(|(name, on)| on.then_some(name)).collect();
    if on.is_empty() {
        return Check::ok(CALLS, "off");
    }
    let settings: Vec<_> = on.iter().map(|name| format!("net.bridge.bridge-nf-call-{name}=0")).collect();
    let advice = format!(
        "bridged frames pass netfilter even where it has no rules, which slows the bridge that `bench` compares with: \
         sysctl -w {} (in the bridge's namespace: new ones begin with these on)",
        settings.join(" ")
    );
    Check::warning(CALLS, format!("on: {}", on.join(", ")), advice)
}

fn check_rules(names: &[String]) -> Check {
    if names.is_empty() {
        return Check::ok(RULES, "none");
    }
    let mut found = names.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join("; ");
    if names.len() > MOST_NAMED {
        found += &format!("; and {} more", names.len() - MOST_NAMED);
    }
    Check::warning(
        RULES,
        found,
        format!("every bridged frame must pass these, so none takes the fast path: {ELSEWHERE}"),
    )
}

/// The chains and tables that every bridged frame of the namespace passes. Chains of single devices are left out.
fn found_rules(calls: BridgeCalls) -> Result<Vec<String>> {
    let no_device = "";
    let mut source = Source::new(&Netns::current()?, NETLINK_NETFILTER);
    let hooks = source.socket()?.map(|socket| rules(socket, &[])).transpose()?.unwrap_or_default();
    let hooks = hooks.into_iter().filter(|hook| hook.sees(no_device, calls));
    // Tables of running labs have this prefix.
    let mut names: Vec<_> =
        hooks.filter(|hook| !hook.table.starts_with("vethpath-")).map(|hook| hook.to_string()).collect();
    let tables = legacy_tables(Path::new(THREAD_NET))?.into_iter().chain(ebtables(Path::new(PROC))?);
    names.extend(tables.filter(|table| table.sees(calls)).map(|table| table.to_string()));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{
        probe::Status,
        sandbox::{in_new_namespace, nft},
    };

    #[test]
    fn a_filter_on_the_bridge_is_named_with_the_way_out() {
        in_new_namespace(|| {
            assert_eq!(found_rules(BridgeCalls::default()).unwrap(), [""; 0]);
            nft("add table ip filter");
            nft("add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }");
            assert_eq!(found_rules(BridgeCalls::default()).unwrap(), [""; 0]);
            let calls = BridgeCalls { iptables: true, ..BridgeCalls::default() };
            let names = found_rules(calls).unwrap();
            assert_eq!(names, ["nft table ip filter, chain FORWARD"]);
            let check = check_rules(&names);
            assert_eq!(check.status, Status::Warning);
            assert!(check.advice.unwrap().contains("fabric = true"));
        });
    }

    #[test]
    fn settings_that_are_on_come_with_the_command() {
        assert_eq!(check_calls(BridgeCalls::default()), Check::ok(CALLS, "off"));
        let check = check_calls(BridgeCalls { iptables: true, ip6tables: false, arptables: true });
        assert_eq!(check.found, "on: iptables, arptables");
        let command = "sysctl -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-arptables=0";
        assert!(check.advice.unwrap().contains(command));
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let names: Vec<_> = (0..9).map(|n| n.to_string()).collect();
        assert_eq!(check_rules(&names).found, "0; 1; 2; 3; and 5 more");
    }
}
