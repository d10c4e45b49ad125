//! Tables that stand for many: `[group.NAME]`, `[mesh.NAME]`, `[chain.NAME]`. What they stand for is
//! put beside what is written out, and no later part of validation knows the difference.
//!
//! Everything made has a number as the end of its name, and nothing that has a lower number depends
//! on how many there are: a group that grows leaves its first namespaces as they are.

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

/// Reads every shorthand of the file and puts what it stands for among what is declared.
pub(super) fn read(file: &Table<'_>, declared: &mut Declared, sink: &mut Sink) {
    chains::read(file, declared, sink);
    groups::read(file, declared, sink);
    meshes::read(file, declared, sink);
    // In the file's order; what one table stands for stays together and in order.
    declared.bridges.sort_by_key(|bridge| bridge.name.span.start);
    declared.namespaces.sort_by_key(|namespace| namespace.name.span.start);
    declared.interfaces.sort_by_key(|interface| interface.name.span.start);
    crowded(declared, sink);
}

/// A namespace has no more interfaces by meshes than it could have written out.
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

/// Names of what a shorthand makes: its own with a number behind. `None` with a fault if the longest
/// is no name.
fn names<T>(key: &At<&str>, count: u32, sink: &mut Sink) -> Option<Vec<At<T>>>
where
    T: std::str::FromStr<Err = super::NameError>,
{
    let name = |n: u32| format!("{}{n}", key.value);
    let _: T = parse::named(&name(count.saturating_sub(1)), &key.span, sink)?;
    (0..count).map(|n| name(n).parse().ok().map(|name| key.with(name))).collect()
}

/// Names of namespaces that a shorthand makes, if the lab has room for so many.
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

/// Namespaces that a shorthand makes, without routes. Those that exist already are faults, and cut
/// the file: what refers to them could mean either.
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

/// Whether the file has room for so many more interfaces that no line of it names.
fn room(what: impl Display, span: &Range<usize>, more: usize, declared: &Declared, sink: &mut Sink) -> bool {
    if declared.interfaces.len() + more <= limits::EXPANDED {
        return true;
    }
    let most = limits::EXPANDED;
    let message = format!("with {what} the lab has more than {most} interfaces, which is the most");
    let _: Option<()> = cut(span, message, "split the lab in two, or lower the count", None, sink);
    false
}

/// Faults a shorthand that stands for nothing then, so that no more can be said of what refers to it.
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
