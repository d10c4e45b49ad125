//! What a lab may not mean to be: traps, and things that cannot work. Only warnings:
//! each of these may be on purpose, and what is on the host, in adopted namespaces or set up by hand is not
//! in the file.

mod forwarding;
mod gateways;
mod mtus;
mod net;
mod paths;
mod subnets;

use super::{declared::Declared, fault::Sink, links::Links, trunks::Joint};

/// Looks at a lab of which all could be read, and whose links lead somewhere.
pub(super) fn warn(declared: &Declared, links: &Links, joints: &[Joint], sink: &mut Sink) {
    let net = net::Net::new(declared, links, joints);
    subnets::warn(&net, sink);
    gateways::warn(&net, sink);
    mtus::warn(&net, joints, sink);
    paths::warn(&net, sink);
    spreads(&net, sink);
}

/// A group on bridges that no trunk joins is two groups.
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
