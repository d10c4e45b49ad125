//! Warnings about a valid lab: likely mistakes, and things that cannot work. They are not errors, since each may be
//! intended. The host, adopted namespaces and manual configuration are not in the file.

mod forwarding;
mod gateways;
mod mtus;
mod net;
mod paths;
mod subnets;

use super::{declared::Declared, fault::Sink, links::Links, trunks::Joint};

/// Checks a lab that was read completely and whose links resolve.
pub(super) fn warn(declared: &Declared, links: &Links, joints: &[Joint], sink: &mut Sink) {
    let net = net::Net::new(declared, links, joints);
    subnets::warn(&net, sink);
    gateways::warn(&net, sink);
    mtus::warn(&net, joints, sink);
    paths::warn(&net, sink);
    spreads(&net, sink);
}

/// Warns of a group on bridges that no trunk joins: its members cannot reach each other.
fn spreads(net: &net::Net<'_>, sink: &mut Sink) {
    for spread in &net.declared.spreads {
        let segment = |name: &String| {
            let position = net.declared.bridges.iter().position(|b| b.name.value.as_str() == name);
            position.map(|position| net.segment_of_bridge[position])
        };
        let Some(first) = spread.bridges.first() else { continue };
        let apart = spread.bridges.iter().find(|bridge| segment(bridge) != segment(first));
        if let Some(apart) = apart {
            let message = format!(
                "the bridges of group `{}` are not joined: who is on `{first}` cannot reach who is on `{apart}`",
                spread.group
            );
            let hint =
                format!("join them: trunks = [\"{apart}\"] under [bridge.{first}]; or make a chain of them");
            sink.warn(&spread.span, message, hint);
        }
    }
}
