//! Resolves what every interface is linked to, a bridge or by a cable another interface, and trunks between bridges.

use std::{collections::HashMap, ops::Range};

use super::{
    Bridge, IfName, LabName, Place, Trunk, TrunkEnd,
    declared::{Index, InterfaceDecl},
    fault::Sink,
    parse::Link,
    port_mac,
    port_names::trunk_port_name,
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

/// A trunk: the indices of its bridges, and where it is declared first.
pub(super) type Joint = At<(usize, usize)>;

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
    let hint = format!("to be on that bridge: link = \"{name}\"");
    sink.add(span, format!("`{place}:{name}` is a bridge"), hint).also(&bridge.name.span, "declared here");
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
    for ((key, own), (_, other)) in near.sizes.each().into_iter().zip(far.sizes.each()) {
        let (Some(own), Some(other)) = (own, other) else { continue };
        if own != other && second {
            let message = format!("the ends of a cable differ in `{key}`: {other} and {own} bytes");
            sink.add(span, message, "write the same at both ends, or at one of them only")
                .also(&far.name.span, "the other end");
        }
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

/// Resolves every trunk. One that is declared at both ends is one trunk.
pub(super) fn resolve_trunks(index: &Index<'_>, sink: &mut Sink) -> Vec<Joint> {
    let bridges = &index.declared.bridges;
    let mut joints: Vec<Joint> = Vec::new();
    let mut declared: HashMap<(usize, usize), Range<usize>> = HashMap::new();
    for (near, bridge) in bridges.iter().enumerate() {
        for trunk in &bridge.trunks {
            let Some(far) = index.bridge(trunk, sink) else { continue };
            if near == far {
                let hint = "a trunk joins two bridges: name the other one";
                sink.add(&trunk.span, format!("bridge `{}` has a trunk to itself", trunk.value), hint);
                continue;
            }
            if let Some(first) = declared.insert((near, far), trunk.span.clone()) {
                let message = format!("a second trunk from `{}` to `{}`", bridge.name.value, trunk.value);
                sink.add(&trunk.span, message, "keep one: two would be a loop").also(&first, "the first");
                continue;
            }
            if !declared.contains_key(&(far, near)) {
                joints.push(trunk.with((near, far)));
            }
        }
    }
    check_loops(index, &joints, sink);
    joints
}

/// Reports loops without STP, in which broadcast frames circulate for ever. One bridge with STP per loop is enough,
/// since the others forward its BPDUs (`br_handle_frame`, BR_NO_STP).
fn check_loops(index: &Index<'_>, joints: &[Joint], sink: &mut Sink) {
    let bridges = &index.declared.bridges;
    let mut group: Vec<usize> = (0..bridges.len()).collect();
    for joint in joints {
        let (a, b) = joint.value;
        if bridges[a].stp || bridges[b].stp {
            continue;
        }
        let (from, to) = (group[a], group[b]);
        if from == to {
            let message = format!(
                "this trunk closes a loop: `{}` and `{}` are joined already",
                bridges[a].name.value, bridges[b].name.value
            );
            let hint = "take a trunk out, or write `stp = true` on a bridge of the loop";
            sink.add(&joint.span, message, hint).label("frames would circle for ever");
        }
        for member in group.iter_mut().filter(|member| **member == from) {
            *member = to;
        }
    }
}

/// Builds a trunk. It has no namespace, so its MACs are derived with the prefix "trunk ". They are none of an interface,
/// since a namespace name has no space.
pub(super) fn trunk(lab: &LabName, joint: &Joint, bridges: &[Bridge]) -> Trunk {
    let end = |near: &Bridge, far: &Bridge| {
        let place = format!("trunk {}", near.name);
        TrunkEnd {
            bridge: near.name.clone(),
            place: near.place.clone(),
            port: trunk_port_name(lab, &near.name, &far.name),
            mac: port_mac(lab, &place, far.name.as_str()),
        }
    };
    let (a, b) = (&bridges[joint.value.0], &bridges[joint.value.1]);
    Trunk { number: 0, a: end(a, b), b: end(b, a) }
}
