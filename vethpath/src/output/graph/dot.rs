//! A lab in DOT, the language of Graphviz.

use std::io::{self, Write};

use super::{account, label, lines, number, put};
use crate::graph::{Graph, Health, Kind, Link, LinkKind};

/// Prints a graph in DOT. Bridges are boxes with a fill.
///
/// # Errors
/// Those of `out`.
pub fn dot(graph: &Graph, out: &mut dyn Write) -> io::Result<()> {
    let mut text = String::new();
    put(&mut text, format_args!("graph {} {{\n", quoted(graph.lab.as_str())));
    text += "  layout = neato; overlap = prism; splines = true;\n  node [shape = box, fontname = monospace, fontsize = 10];\n";
    text += "  edge [fontname = monospace, fontsize = 8];\n";
    for (n, node) in graph.nodes.iter().enumerate() {
        let style = match node.kind {
            Kind::Bridge => ", style = filled, fillcolor = \"#cfe2ff\", fontcolor = black",
            Kind::Hosts => ", peripheries = 2",
            Kind::Outside => ", shape = ellipse, style = dashed",
            Kind::Host | Kind::Machine => "",
        };
        let label = quoted(&lines(graph, node).join("\n"));
        put(&mut text, format_args!("  n{n} [label = {label}{style}];\n"));
    }
    for link in &graph.links {
        let (from, to) = (number(graph, &link.source), number(graph, &link.target));
        let (label, tip) = (quoted(&label(link)), quoted(&account(link)));
        let style = style(link);
        put(&mut text, format_args!("  n{from} -- n{to} [label = {label}, tooltip = {tip}{style}];\n"));
    }
    text += "}\n";
    out.write_all(text.as_bytes())
}

fn style(link: &Link) -> String {
    let mut style = match link.kind {
        LinkKind::Trunk => ", penwidth = 3".to_owned(),
        LinkKind::Inside | LinkKind::Nat => ", style = dashed".to_owned(),
        LinkKind::Pair | LinkKind::Cable => String::new(),
    };
    style += match link.live.as_ref().map(|live| live.state) {
        Some(Health::Up) => ", color = \"#1a7f37\"",
        Some(Health::Slow) => ", color = \"#bf8700\"",
        Some(Health::Down | Health::Missing) => ", color = \"#cf222e\"",
        None => "",
    };
    style
}

/// A quoted string. `\n` is a line break in a label; any other backslash is doubled.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
