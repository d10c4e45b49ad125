//! Tables that expand to many parts: `[group.NAME]`, `[mesh.NAME]`, `[chain.NAME]`. The results are added to the
//! declared parts, and later stages of validation do not distinguish them.
//!
//! The name of every generated part ends in a number. A part does not depend on how many follow it: when a group
//! grows, its existing namespaces do not change.

mod chains;
mod groups;
mod meshes;
mod pool;

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    ops::Range,
    sync::Arc,
};

use super::{
    NsName, Place,
    declared::{Declared, NamespaceDecl},
    fault::Sink,
    limits, parse,
    read::{At, Table},
};

/// Expands every shorthand of the file into declared parts.
pub(super) fn read(file: &Table<'_>, declared: &mut Declared, sink: &mut Sink) {
    chains::read(file, declared, sink);
    groups::read(file, declared, sink);
    meshes::read(file, declared, sink);
    // Sort in the file's order. The sort is stable, so the parts of one table stay in order.
    declared.bridges.sort_by_key(|bridge| bridge.name.span.start);
    declared.namespaces.sort_by_key(|namespace| namespace.name.span.start);
    declared.interfaces.sort_by_key(|interface| interface.name.span.start);
    crowded(declared, sink);
}

/// Reports namespaces that have more interfaces than the limit once meshes are expanded.
fn crowded(declared: &Declared, sink: &mut Sink) {
    let mut counts: HashMap<&Place, usize> = HashMap::new();
    for interface in &declared.interfaces {
        let count = counts.entry(&interface.place).or_default();
        *count += 1;
        if *count == limits::INTERFACES + 1 {
            let (place, most) = (&interface.place, limits::INTERFACES);
            let message = format!("`{place}` has more than {most} interfaces, which is the most");
            sink.add(&interface.name.span, message, "share them out over two namespaces")
                .label("one too many");
        }
    }
}

/// Names of generated parts: the shorthand's name and a number. `None` with a fault if the longest one is invalid.
fn names<T>(key: &At<&str>, count: u32, sink: &mut Sink) -> Option<Vec<At<T>>>
where
    T: std::str::FromStr<Err = super::NameError>,
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
    let room = limits::NAMESPACES.saturating_sub(declared.namespaces.len());
    if usize::try_from(count).is_ok_and(|count| count <= room) {
        return names(key, count, sink);
    }
    let message =
        format!("with {what} the lab has more than {} namespaces, which is the most", limits::NAMESPACES);
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
    };
    Some(names.iter().map(namespace).collect())
}

/// Whether that many more interfaces are within the limit. Reports a fault if not.
fn room(what: impl Display, span: &Range<usize>, more: usize, declared: &Declared, sink: &mut Sink) -> bool {
    if declared.interfaces.len() + more <= limits::EXPANDED {
        return true;
    }
    let most = limits::EXPANDED;
    let message = format!("with {what} the lab has more than {most} interfaces, which is the most");
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
