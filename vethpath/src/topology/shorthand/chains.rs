//! `[chain.NAME]`: bridges in a row, each joined to the next by a trunk.

use super::{
    super::{
        declared::{BridgeDecl, Declared},
        fault::Sink,
        keys, limits,
        read::{At, List, Table},
    },
    cut, names,
};
use crate::topology::IfName;

/// Reads every chain of the file.
pub(super) fn read(file: &Table<'_>, declared: &mut Declared, sink: &mut Sink) {
    for (key, table) in file.tables("chain", "a chain", limits::BRIDGES, sink) {
        match chain(&key, &table, declared, sink) {
            Some(bridges) => declared.bridges.extend(bridges),
            None => sink.cut(),
        }
    }
}

fn chain(key: &At<&str>, table: &Table<'_>, declared: &Declared, sink: &mut Sink) -> Option<Vec<BridgeDecl>> {
    table.only(keys::CHAIN, sink);
    if table.get("bridges").is_none() {
        sink.add(&key.span, format!("chain `{}` has no length", key.value), "write bridges = 8");
    }
    let count = table.number("bridges", limits::LINKED, "", sink);
    let names: Option<Vec<At<IfName>>> = count.as_ref().and_then(|count| names(key, count.value, sink));
    let first = super::super::bridges::with_settings(
        key,
        names.as_ref().and_then(|names| names.first()).map(|name| name.value.clone()),
        table,
        sink,
    );
    let (names, first) = (names?, first?);
    if declared.bridges.len() + names.len() > limits::BRIDGES {
        let most = limits::BRIDGES;
        let message =
            format!("with chain `{}` the lab has more than {most} bridges, which is the most", key.value);
        return cut(&key.span, message, "split the lab in two, or shorten the chain", None, sink);
    }
    if let Some(other) =
        declared.bridges.iter().find(|other| names.iter().any(|name| name.value == other.name.value))
    {
        let message =
            format!("chain `{}` makes a bridge `{}`, and there is one already", key.value, other.name.value);
        let hint = "rename one of the two, or leave the other out";
        return cut(&key.span, message, hint, Some((&other.name.span, "the other")), sink);
    }
    let next = |n: usize| names.get(n + 1).map(|next| next.with(next.value.to_string()));
    let bridge = |(n, name): (usize, &At<IfName>)| BridgeDecl {
        name: name.clone(),
        trunks: next(n).into_iter().collect(),
        // Only the first bridge has the addresses. One gateway is enough for a segment.
        addresses: if n == 0 { first.addresses.clone() } else { List { items: Vec::new(), whole: true } },
        nat: n == 0 && first.nat,
        mac: None,
        ..first.clone()
    };
    Some(names.iter().enumerate().map(bridge).collect())
}
