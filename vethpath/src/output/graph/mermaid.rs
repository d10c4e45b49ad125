//! A lab as a flowchart of Mermaid, which GitHub and GitLab draw in Markdown.

use std::io::{self, Write};

use super::{label, lines, number, put};
use crate::graph::{Graph, Health, Kind, LinkKind};

/// Prints a graph as a flowchart.
///
/// # Errors
/// Those of `out`.
pub fn mermaid(graph: &Graph, out: &mut dyn Write) -> io::Result<()> {
    let mut text = String::from("flowchart TB\n");
    for (n, node) in graph.nodes.iter().enumerate() {
        let label = quoted(&lines(graph, node).join("\n"));
        let shape = match node.kind {
            Kind::Bridge => format!("[[{label}]]:::bridge"),
            Kind::Host | Kind::Machine => format!("[{label}]"),
            Kind::Hosts => format!("[{label}]:::hosts"),
            Kind::Outside => format!("([{label}])"),
        };
        put(&mut text, format_args!("    n{n}{shape}\n"));
    }
    let mut colours = String::new();
    for (n, link) in graph.links.iter().enumerate() {
        let (from, to) = (number(graph, &link.source), number(graph, &link.target));
        let arrow = match link.kind {
            LinkKind::Trunk => "===",
            LinkKind::Inside | LinkKind::Nat => "-.-",
            LinkKind::Pair | LinkKind::Cable => "---",
        };
        let label = label(link);
        let label = if label.is_empty() { label } else { format!("|{}|", quoted(&label)) };
        put(&mut text, format_args!("    n{from} {arrow}{label} n{to}\n"));
        let colour = match link.live.as_ref().map(|live| live.state) {
            Some(Health::Up) => "#1a7f37",
            Some(Health::Slow) => "#bf8700",
            Some(Health::Down | Health::Missing) => "#cf222e",
            None => continue,
        };
        put(&mut colours, format_args!("    linkStyle {n} stroke:{colour}\n"));
    }
    text += &colours;
    text +=
        "    classDef bridge fill:#cfe2ff,stroke:#0a58ca,color:#000\n    classDef hosts stroke-width:3px\n";
    out.write_all(text.as_bytes())
}

/// A quoted label. Entities stand for what Mermaid, Markdown or HTML would read: `#35;` is `#`. Letters, digits, and what
/// names and addresses have otherwise stay.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '\n' => quoted.push_str("<br/>"),
            ' ' | '.' | ':' | '/' | '-' | '(' | ')' | ',' => quoted.push(character),
            character if character.is_alphanumeric() => quoted.push(character),
            character => quoted.push_str(&format!("#{};", u32::from(character))),
        }
    }
    quoted + "\""
}
