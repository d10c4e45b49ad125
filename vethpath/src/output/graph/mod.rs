//! A lab as a picture: SVG, Mermaid and DOT. Its JSON is that of the model.

mod arrange;
mod dot;
mod layout;
mod mermaid;
mod shapes;
mod svg;

use std::fmt::{self, Write};

pub use dot::dot;
pub use mermaid::mermaid;
pub use svg::svg;

use super::{format::short, printable};
use crate::graph::{Graph, Health, Kind, Link, LinkKind, Live, Node};

/// `1.2k packets/s, 9.8M bits/s`.
fn rate(live: &Live) -> String {
    format!("{} packets/s, {} bits/s", short(live.packets), short(live.bits))
}

/// The lines of a node in diagrams that others lay out: its name, its addresses, what is special.
fn lines(graph: &Graph, node: &Node) -> Vec<String> {
    let mut lines = vec![node.name.clone()];
    lines.extend(node.count.map(|count| format!("{count} hosts")));
    lines.extend(node.namespace.iter().filter(|place| *place != "host").map(|place| format!("in {place}")));
    lines.extend(node.addresses.iter().map(ToString::to_string));
    if node.kind != Kind::Bridge {
        for (interface, addresses) in graph.interfaces_of(&node.id) {
            let addresses = addresses.iter().map(|address| format!(" {address}"));
            lines.push(addresses.fold(interface.to_owned(), |line, address| line + &address));
        }
    }
    lines.extend(node.notes.iter().cloned());
    lines.iter().map(|line| printable(line).into_owned()).collect()
}

/// What a link is called in diagrams that others lay out: the device on the bridge, the reason and the rate.
fn label(link: &Link) -> String {
    let mut label = String::new();
    let name = match link.kind {
        LinkKind::Pair => link.target_interface.clone(),
        LinkKind::Nat => Some("nat".to_owned()),
        LinkKind::Cable | LinkKind::Trunk | LinkKind::Inside => None,
    };
    label.extend(name);
    if let Some(live) = &link.live {
        if !label.is_empty() {
            label.push_str(": ");
        }
        label.push_str(&rate(live));
    }
    printable(&label).into_owned()
}

/// The whole text about a link, for a tooltip.
fn account(link: &Link) -> String {
    let mut text = link.name.clone();
    if let (LinkKind::Pair, Some(port)) = (link.kind, &link.target_interface) {
        text += &format!(", port {port}");
    }
    if let Some(live) = &link.live {
        let state = health(live);
        text += &format!(": {state}, {}", rate(live));
    }
    printable(&text).into_owned()
}

/// The state of a link in words.
fn health(live: &Live) -> String {
    let state = match live.state {
        Health::Up => "up",
        Health::Slow => "plain bridge",
        Health::Down => "down",
        Health::Missing => "missing",
    };
    match &live.reason {
        Some(reason) => format!("{state} ({reason})"),
        None => state.to_owned(),
    }
}

/// Writes to a string, which does not fail.
fn put(text: &mut String, arguments: fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
}

/// The id of a node in a language whose ids are letters and digits: its position.
fn number(graph: &Graph, id: &str) -> usize {
    graph.nodes.iter().position(|node| node.id == id).unwrap_or(graph.nodes.len())
}

#[cfg(test)]
mod tests;
