//! veth pairs between bridges.

use std::{collections::HashMap, ops::Range};

use super::{Bridge, LabName, Trunk, TrunkEnd, declared::Index, fault::Sink, port_mac, port_name, read::At};

/// A trunk: the indices of its bridges, and where it is declared first.
pub(super) type Joint = At<(usize, usize)>;

/// Resolves every trunk. One that is declared at both ends is one trunk.
pub(super) fn resolve(index: &Index<'_>, sink: &mut Sink) -> Vec<Joint> {
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

/// Builds a trunk. It has no namespace, so its names are derived with the prefix "trunk ". They cannot collide with
/// those of an interface, since a namespace name has no space.
pub(super) fn build(lab: &LabName, joint: &Joint, bridges: &[Bridge]) -> Trunk {
    let end = |near: &Bridge, far: &Bridge| {
        let place = format!("trunk {}", near.name);
        TrunkEnd {
            bridge: near.name.clone(),
            place: near.place.clone(),
            port: port_name(lab, &place, far.name.as_str()),
            mac: port_mac(lab, &place, far.name.as_str()),
        }
    };
    let (a, b) = (&bridges[joint.value.0], &bridges[joint.value.1]);
    Trunk { number: 0, a: end(a, b), b: end(b, a) }
}
