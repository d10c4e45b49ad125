//! Routing rules of a namespace: which packets are looked up in which table.

use std::{collections::HashMap, fmt, ops::Range};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    Family, Place, addresses,
    declared::{Declared, NamespaceDecl, RuleDecl},
    fault::Sink,
    keys::{self, MOST_RULES},
    read::{At, Table, bounded},
};

/// A rule. All conditions that are given must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// Rules are tried in ascending order of it.
    pub priority: u32,
    /// The subnet of the source address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpNet>,
    /// The subnet of the destination address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<IpNet>,
    /// The interface that the packet came in by; `lo` for what the namespace itself sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iif: Option<String>,
    /// The interface that the sender is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oif: Option<String>,
    /// The packet's mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fwmark: Option<u32>,
    /// The bits of the mark that are compared; `None` is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fwmask: Option<u32>,
    /// The table.
    pub table: u32,
}

impl Rule {
    /// The address families that it is of: that of its subnets, or both.
    pub fn families(&self) -> impl Iterator<Item = Family> {
        let of = self.from.or(self.to).map(|net| net.addr());
        Family::ALL.into_iter().filter(move |family| of.is_none_or(|address| family.has(address)))
    }
}

/// `100: from 10.0.0.0/24 lookup 7`, as ip-rule(8) prints it.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { priority, from, to, iif, oif, fwmark, fwmask, table } = self;
        write!(f, "{priority}: from {}", from.map_or_else(|| "all".to_owned(), |net| net.to_string()))?;
        to.iter().try_for_each(|net| write!(f, " to {net}"))?;
        fwmark.iter().try_for_each(|mark| write!(f, " fwmark {mark:#x}"))?;
        fwmask.iter().try_for_each(|mask| write!(f, "/{mask:#x}"))?;
        iif.iter().try_for_each(|name| write!(f, " iif {name}"))?;
        oif.iter().try_for_each(|name| write!(f, " oif {name}"))?;
        write!(f, " lookup {table}")
    }
}

/// The key `rule`.
pub(super) fn read(table: &Table<'_>, sink: &mut Sink) -> Vec<RuleDecl> {
    let example = keys::RULE_EXAMPLE;
    let mut rules: Vec<RuleDecl> = Vec::new();
    let mut seen: HashMap<Rule, Range<usize>> = HashMap::new();
    let mut written = table.array("rule", sink);
    bounded(&mut written, "rule", "a namespace", MOST_RULES, |at| at.span.clone(), sink);
    for At { value: table, span } in written {
        table.only_declared(sink);
        for key in ["priority", "table"].into_iter().filter(|key| table.get(key).is_none()) {
            sink.add(&span, format!("a rule without `{key}`"), format!("a rule has both: {example}"));
        }
        let Some(decl) = rule(&table, sink) else { continue };
        if let Some(first) = seen.insert(decl.rule.clone(), span.clone()) {
            sink.add(&span, format!("a second rule {}", decl.rule), "keep one of them")
                .also(&first, "the first");
            continue;
        }
        rules.push(decl);
    }
    rules
}

fn rule(table: &Table<'_>, sink: &mut Sink) -> Option<RuleDecl> {
    let subnets = ["from", "to"].map(|key| {
        let text = table.string(key, sink)?;
        addresses::destination(&text, sink)
    });
    let names = ["iif", "oif"].map(|key| table.string(key, sink));
    let numbers = ["priority", "table", "fwmark", "fwmask"].map(|key| table.integer(key, sink));
    if ["from", "to"].iter().zip(&subnets).any(|(key, net)| table.get(key).is_some() && net.is_none()) {
        return None;
    }
    if let [Some(from), Some(to)] = &subnets
        && from.value.addr().is_ipv4() != to.value.addr().is_ipv4()
    {
        let message = format!("no packet is from {} and to {}", from.value, to.value);
        sink.add(&to.span, message, "write both in IPv4, or both in IPv6")
            .also(&from.span, "of the other family");
        return None;
    }
    let [priority, number, fwmark, fwmask] = numbers;
    if let (Some(mask), None) = (&fwmask, table.get("fwmark")) {
        sink.add(&mask.span, "`fwmask` is about a `fwmark`", "write both, or leave it out");
        return None;
    }
    let interfaces = names.iter().flatten().map(|name| (name.value.to_owned(), name.span.clone())).collect();
    let [iif, oif] = names.map(|name| name.map(|name| name.value.to_owned()));
    let [from, to] = subnets.map(|net| net.map(|net| net.value));
    let rule = Rule {
        priority: priority?.value,
        from,
        to,
        iif,
        oif,
        fwmark: fwmark.map(|mark| mark.value),
        fwmask: fwmask.map(|mask| mask.value).filter(|mask| *mask != u32::MAX),
        table: number?.value,
    };
    Some(RuleDecl { rule, interfaces })
}

/// Reports interfaces that rules name and their namespace does not have, and rules of adopted namespaces.
pub(super) fn check(declared: &Declared, sink: &mut Sink) {
    for namespace in &declared.namespaces {
        if !namespace.rules.is_empty() {
            check_namespace(namespace, declared, sink);
        }
    }
}

fn check_namespace(namespace: &NamespaceDecl, declared: &Declared, sink: &mut Sink) {
    let name = &namespace.name.value;
    let place = Place::Namespace(name.clone());
    if let Some(adopt) = &namespace.adopt {
        let hint = "leave `rule` out, and add rules where the namespace is made";
        sink.add(&namespace.name.span, "rules of an adopted namespace would stay after `down`", hint)
            .also(&adopt.span, "adopted here");
    }
    if declared.partial.contains(&place) {
        return;
    }
    let own = declared.interfaces.iter().filter(|own| own.place == place).map(|own| own.name.value.as_str());
    let bridges = declared.bridges.iter().filter(|own| own.place.value == place);
    let here: Vec<&str> = own.chain(bridges.map(|own| own.name.value.as_str())).chain(["lo"]).collect();
    for (wanted, span) in namespace.rules.iter().flat_map(|rule| &rule.interfaces) {
        if !here.contains(&wanted.as_str()) {
            let hint = match sink.closest(wanted, here.iter().copied()) {
                Some(closest) => format!("did you mean `{closest}`?"),
                None => format!("declare it: [namespace.{name}.interface.{wanted}]"),
            };
            sink.add(span, format!("`{name}` has no interface `{wanted}`"), hint).label("not declared");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_of_the_family_of_its_subnets_or_of_both() {
        let all = Rule {
            priority: 100,
            from: None,
            to: None,
            iif: Some("eth0".to_owned()),
            oif: None,
            fwmark: Some(16),
            fwmask: Some(255),
            table: 7,
        };
        assert_eq!(all.to_string(), "100: from all fwmark 0x10/0xff iif eth0 lookup 7");
        assert_eq!(all.families().count(), 2);
        let six = Rule { to: "fd00::/8".parse().ok(), ..all };
        assert_eq!(six.families().collect::<Vec<_>>(), [Family::Ipv6]);
    }
}
