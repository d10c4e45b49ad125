//! Resolves what every interface is linked to: a bridge, or by a cable another interface.

use std::{collections::HashMap, ops::Range};

use super::{
    IfName, Place,
    declared::{Index, InterfaceDecl},
    fault::Sink,
    parse::Link,
    read::At,
};

/// The links of a file. Numbers are indices of its interfaces and bridges.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// An interface and its bridge.
    pub(super) pairs: Vec<(usize, usize)>,
    /// An interface and the other end of its cable.
    pub(super) cables: Vec<(usize, Far)>,
}

/// The end of a cable that is not the first one declared.
#[derive(Debug)]
pub(super) enum Far {
    /// An interface of the file.
    Declared(usize),
    /// One that only the cable's first end names.
    Bare(At<(Place, IfName)>),
}

/// Resolves every link.
pub(super) fn resolve(index: &Index<'_>, sink: &mut Sink) -> Links {
    let mut links = Links::default();
    // Undeclared ends, and the interfaces that name them.
    let mut bare: HashMap<(&Place, &IfName), (usize, Range<usize>)> = HashMap::new();
    for (n, near) in index.declared.interfaces.iter().enumerate() {
        let Some(link) = &near.link else { continue };
        let (place, name) = match &link.value {
            Link::Bridge(bridge) => {
                if let Some(bridge) = to_bridge(near, &link.with(bridge.clone()), index, sink) {
                    links.pairs.push((n, bridge));
                }
                continue;
            }
            Link::Interface(place, name) => (place, name),
        };
        if (place, name) == (&near.place, &near.name.value) {
            let hint = "a cable has two ends: name an interface of another namespace";
            sink.add(&link.span, format!("`{}` is linked to itself", near.title()), hint);
            continue;
        }
        if !index.check_place(place, &link.span, sink) {
            continue;
        }
        if is_bridge(place, name, &link.span, index, sink) {
            continue;
        }
        if let Some(far) = index.interface(place, name) {
            if agree(near, &link.span, &index.declared.interfaces[far], n > far, sink) && n < far {
                links.cables.push((n, Far::Declared(far)));
            }
        } else if let Some((first, span)) = bare.get(&(place, name)) {
            let first = index.declared.interfaces[*first].title();
            let message = format!("`{place}:{name}` is the end of two cables");
            sink.add(&link.span, message, "give each cable an end of its own, such as eth1")
                .also(span, format!("the cable of {first}"));
        } else {
            bare.insert((place, name), (n, link.span.clone()));
            links.cables.push((n, Far::Bare(link.with((place.clone(), name.clone())))));
        }
    }
    links
}

fn to_bridge(near: &InterfaceDecl, link: &At<String>, index: &Index<'_>, sink: &mut Sink) -> Option<usize> {
    let bridge = index.bridge(link, sink)?;
    if near.place != Place::Host {
        return Some(bridge);
    }
    let message = format!("`{}` is the host's, and linked to bridge `{}`", near.title(), link.value);
    let hint = "only cables lead to the host, link = \"ns0:eth0\"; for a bridge to be reached \
                from its namespace, give the bridge `addresses`";
    sink.add(&link.span, message, hint);
    None
}

/// Reports a fault if the cable's other end is a bridge.
fn is_bridge(place: &Place, name: &IfName, span: &Range<usize>, index: &Index<'_>, sink: &mut Sink) -> bool {
    let Some(bridge) = index.bridge_at(place, name) else { return false };
    sink.add(
        span,
        format!("`{place}:{name}` is a bridge"),
        format!("to be on that bridge: link = \"{name}\""),
    )
    .also(&bridge.name.span, "declared here");
    true
}

/// Whether two declared ends describe the same cable. A fault of both ends is only reported at the `second` one.
fn agree(
    near: &InterfaceDecl,
    span: &Range<usize>,
    far: &InterfaceDecl,
    second: bool,
    sink: &mut Sink,
) -> bool {
    let Some(back) = &far.link else { return false };
    let points_back = matches!(&back.value, Link::Interface(place, name)
        if (place, name) == (&near.place, &near.name.value));
    if !points_back {
        let message = format!("`{}` is linked to `{}`, which leads elsewhere", near.title(), far.title());
        let hint = format!("write link = \"{}\" there, or nothing there at all", near.title());
        sink.add(span, message, hint).also(&back.span, "leads here");
        return false;
    }
    let (Some(mtu), Some(other)) = (&near.mtu, &far.mtu) else { return true };
    if mtu.value == other.value {
        return true;
    }
    if second {
        let message = format!("the ends of a cable differ in MTU: {} and {} bytes", other.value, mtu.value);
        sink.add(&mtu.span, message, "write the same at both ends, or at one of them only")
            .also(&other.span, "the other end's");
    }
    false
}
