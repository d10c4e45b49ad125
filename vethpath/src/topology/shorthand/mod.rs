//! Tables that expand to many parts: `[group.NAME]`, `[mesh.NAME]`, `[chain.NAME]`. The results are added to the
//! declared parts, and later stages of validation do not distinguish them.
//!
//! The name of every generated part ends in a number. A part does not depend on how many follow it: when a group
//! grows, its existing namespaces do not change.

mod groups;
mod meshes;
mod pool;

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    ops::Range,
    str::FromStr,
    sync::Arc,
};

use super::{
    IfName, NameError, NsName, Place, Resolver,
    declared::{BridgeDecl, Declared, NamespaceDecl},
    fault::Sink,
    keys::{MOST_BRIDGES, MOST_EXPANDED, MOST_INTERFACES, MOST_NAMESPACES},
    parse,
    read::{At, List, Table},
    tables::bridge_settings,
};

/// Expands every shorthand of the file into declared parts.
pub(super) fn read(file: &Table<'_>, declared: &mut Declared, sink: &mut Sink) {
    chains(file, declared, sink);
    groups::read(file, declared, sink);
    meshes::read(file, declared, sink);
    // Sort in the file's order. The sort is stable, so the parts of one table stay in order.
    declared.bridges.sort_by_key(|bridge| bridge.name.span.start);
    declared.namespaces.sort_by_key(|namespace| namespace.name.span.start);
    declared.interfaces.sort_by_key(|interface| interface.name.span.start);
    crowded(declared, sink);
}

/// Expands every `[chain.NAME]`: bridges in a row, each joined to the next by a trunk.
fn chains(file: &Table<'_>, declared: &mut Declared, sink: &mut Sink) {
    for (key, table) in file.tables("chain", sink) {
        match chain(&key, &table, declared, sink) {
            Some(bridges) => declared.bridges.extend(bridges),
            None => sink.cut(),
        }
    }
}

fn chain(key: &At<&str>, table: &Table<'_>, declared: &Declared, sink: &mut Sink) -> Option<Vec<BridgeDecl>> {
    table.only_declared(sink);
    if table.get("bridges").is_none() {
        sink.add(&key.span, format!("chain `{}` has no length", key.value), "write bridges = 8");
    }
    let count = table.integer("bridges", sink);
    let names: Option<Vec<At<IfName>>> = count.as_ref().and_then(|count| names(key, count.value, sink));
    let first_name = names.as_ref().and_then(|names| names.first()).map(|name| name.value.clone());
    let first = bridge_settings(key, first_name, table, sink);
    let (names, first) = (names?, first?);
    if declared.bridges.len() + names.len() > MOST_BRIDGES {
        let chain = key.value;
        let message =
            format!("with chain `{chain}` the lab has more than {MOST_BRIDGES} bridges, which is the most");
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
        addresses: if n == 0 {
            first.addresses.clone()
        } else {
            List { items: Vec::new(), is_complete: true }
        },
        nat: n == 0 && first.nat,
        host: first.host.clone().filter(|_| n == 0),
        ..first.clone()
    };
    Some(names.iter().enumerate().map(bridge).collect())
}

/// Reports namespaces that have more interfaces than the limit once meshes are expanded.
fn crowded(declared: &Declared, sink: &mut Sink) {
    let mut counts: HashMap<&Place, usize> = HashMap::new();
    for interface in &declared.interfaces {
        let count = counts.entry(&interface.place).or_default();
        *count += 1;
        if *count == MOST_INTERFACES + 1 {
            let place = &interface.place;
            let message = format!("`{place}` has more than {MOST_INTERFACES} interfaces, which is the most");
            sink.add(&interface.name.span, message, "share them out over two namespaces")
                .label("one too many");
        }
    }
}

/// Names of generated parts: the shorthand's name and a number. `None` with a fault if the longest one is invalid.
fn names<T>(key: &At<&str>, count: u32, sink: &mut Sink) -> Option<Vec<At<T>>>
where
    T: FromStr<Err = NameError>,
{
    let name = |n: u32| format!("{}{n}", key.value);
    let _: T = parse::named(&name(count.saturating_sub(1)), &key.span, sink)?;
    (0..count).map(|n| name(n).parse().ok().map(|name| key.with(name))).collect()
}

/// Names of generated namespaces. A fault if the lab would exceed the limit.
fn namespace_names(
    what: impl Display,
    key: &At<&str>,
    count: u32,
    declared: &Declared,
    sink: &mut Sink,
) -> Option<Vec<At<NsName>>> {
    let room = MOST_NAMESPACES.saturating_sub(declared.namespaces.len());
    if usize::try_from(count).is_ok_and(|count| count <= room) {
        return names(key, count, sink);
    }
    let message =
        format!("with {what} the lab has more than {MOST_NAMESPACES} namespaces, which is the most");
    cut(&key.span, message, "split the lab in two, or lower the count", None, sink)
}

/// Generated namespaces, without routes. If one exists already, this is a fault and cuts the file, since references
/// to it are ambiguous.
fn namespaces(
    what: impl Display,
    names: &[At<NsName>],
    declared: &Declared,
    sink: &mut Sink,
) -> Option<Vec<NamespaceDecl>> {
    let made: HashSet<&NsName> = names.iter().map(|name| &name.value).collect();
    if let Some(other) = declared.namespaces.iter().find(|other| made.contains(&other.name.value)) {
        let message = format!("{what} makes a namespace `{}`, and there is one already", other.name.value);
        let hint = "rename one of the two, or leave the other out";
        return cut(&names[0].span, message, hint, Some((&other.name.span, "the other")), sink);
    }
    let namespace = |name: &At<NsName>| NamespaceDecl {
        name: name.clone(),
        adopt: None,
        routes: Arc::default(),
        sysctls: Arc::default(),
        resolver: Resolver::default(),
        rules: Vec::new(),
        loopback: List::default(),
    };
    Some(names.iter().map(namespace).collect())
}

/// Whether that many more interfaces are within the limit. Reports a fault if not.
fn room(what: impl Display, span: &Range<usize>, more: usize, declared: &Declared, sink: &mut Sink) -> bool {
    if declared.interfaces.len() + more <= MOST_EXPANDED {
        return true;
    }
    let message = format!("with {what} the lab has more than {MOST_EXPANDED} interfaces, which is the most");
    let _: Option<()> = cut(span, message, "split the lab in two, or lower the count", None, sink);
    false
}

/// Records a fault of a shorthand and marks the file as cut, so that references to its parts are not reported.
fn cut<T>(
    span: &Range<usize>,
    message: impl AsRef<str>,
    hint: impl AsRef<str>,
    also: Option<(&Range<usize>, &str)>,
    sink: &mut Sink,
) -> Option<T> {
    let fault = sink.add(span, message, hint);
    if let Some((span, label)) = also {
        fault.also(span, label);
    }
    sink.cut();
    None
}
