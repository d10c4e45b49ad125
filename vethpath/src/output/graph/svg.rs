//! A lab as an SVG picture, which is complete in itself: no script, no font and no other file. It follows the reader's
//! choice of a light or dark page.

use std::io::{self, Write};

use super::{
    account,
    layout::{Picture, baselines},
    put,
    shapes::{Card, Rect, Style, Wire},
};
use crate::{
    graph::{Graph, Health, Kind, LinkKind, Live},
    output::printable,
};

/// Colours and fonts.
const CSS: &str = include_str!("style.css");

/// The height of the legend.
const LEGEND: f64 = 26.0;

/// Links from this many packets a second on are wider, and those from the second number on the widest.
const BUSY: [f64; 2] = [1.0, 1_000.0];

/// Prints a graph as an SVG document.
///
/// # Errors
/// Those of `out`.
pub fn svg(graph: &Graph, out: &mut dyn Write) -> io::Result<()> {
    let picture = Picture::of(graph);
    let is_live = graph.links.iter().any(|link| link.live.is_some());
    let width = if is_live { picture.width.max(LEGEND_WIDTH) } else { picture.width.max(160.0) };
    let height = picture.height + if is_live { LEGEND } else { 0.0 };
    let mut text = String::new();
    put(
        &mut text,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {height:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\" role=\"img\">\n<title>{}</title>\n<style>\n{CSS}</style>\n\
             <rect class=\"page\" width=\"100%\" height=\"100%\"/>\n\
             <text class=\"heading\" x=\"24\" y=\"34\">{}</text>\n",
            escaped(&format!("lab {}", graph.lab)),
            escaped(graph.lab.as_str()),
        ),
    );
    for panel in &picture.panels {
        rect(&mut text, *panel, "panel", 8.0);
    }
    for wire in &picture.wires {
        self::wire(&mut text, graph, wire);
    }
    for card in &picture.cards {
        self::card(&mut text, graph, card);
    }
    if is_live {
        legend(&mut text, height - LEGEND);
    }
    text += "</svg>\n";
    out.write_all(text.as_bytes())
}

fn rect(text: &mut String, Rect { x, y, width, height }: Rect, class: &str, round: f64) {
    put(
        text,
        format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             rx=\"{round}\"/>\n"
        ),
    );
}

fn card(text: &mut String, graph: &Graph, card: &Card) {
    let node = &graph.nodes[card.node];
    let class = match (card.style, node.kind) {
        (Style::Bridge, _) => "card bridge",
        (_, Kind::Machine) => "card machine",
        (_, Kind::Outside) => "card outside",
        _ => "card",
    };
    let whole: Vec<String> = super::lines(graph, node);
    put(text, format_args!("<g>\n<title>{}</title>\n", escaped(&whole.join("\n"))));
    if node.kind == Kind::Hosts {
        let Rect { x, y, width, height } = card.rect;
        rect(text, Rect { x: x + 4.0, y: y + 4.0, width, height }, class, 6.0);
    }
    rect(text, card.rect, class, 6.0);
    for (n, ((x, y), line)) in baselines(card).zip(&card.text).enumerate() {
        let class = if n == 0 { "name" } else { "line" };
        let line = escaped(&printable(line));
        put(
            text,
            format_args!(
                "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" xml:space=\"preserve\">{line}</text>\n"
            ),
        );
    }
    text.push_str("</g>\n");
}

fn wire(text: &mut String, graph: &Graph, wire: &Wire) {
    let mut path = format!("M{:.1} {:.1}", wire.from.0, wire.from.1);
    for [one, two, end] in &wire.curves {
        put(
            &mut path,
            format_args!(" C{:.1} {:.1} {:.1} {:.1} {:.1} {:.1}", one.0, one.1, two.0, two.1, end.0, end.1),
        );
    }
    let Some(link) = wire.link.and_then(|link| graph.links.get(link)) else {
        put(text, format_args!("<path class=\"bus\" d=\"{path}\"/>\n"));
        return;
    };
    let kind = match link.kind {
        LinkKind::Trunk => "trunk",
        LinkKind::Inside | LinkKind::Nat => "dashed",
        LinkKind::Pair | LinkKind::Cable => "wire",
    };
    let class = link.live.as_ref().map_or(String::new(), |live| format!(" {}", class(live)));
    // The wide one is for a pointer.
    put(
        text,
        format_args!(
            "<g class=\"{kind}{class}\"><title>{}</title><path d=\"{path}\"/><path class=\"reach\" d=\"{path}\"/></g>\n",
            escaped(&account(link))
        ),
    );
}

/// The classes of a link that was read: its state, and how busy it is.
fn class(live: &Live) -> &'static str {
    match (live.state, live.packets) {
        (Health::Up, packets) if packets >= BUSY[1] => "up busiest",
        (Health::Up, packets) if packets >= BUSY[0] => "up busy",
        (Health::Up, _) => "up",
        (Health::Slow, packets) if packets >= BUSY[1] => "slow busiest",
        (Health::Slow, packets) if packets >= BUSY[0] => "slow busy",
        (Health::Slow, _) => "slow",
        (Health::Down, _) => "down",
        (Health::Missing, _) => "missing",
    }
}

/// What the colours and widths of links mean: the class of each, its text, and where it begins.
const LEGEND_OF: [(&str, &str, f64); 6] = [
    ("up", "up, idle", 24.0),
    ("up busy", "1 packet/s", 130.0),
    ("up busiest", "1k packets/s", 250.0),
    ("slow", "plain bridge", 384.0),
    ("down", "down", 518.0),
    ("missing", "missing", 598.0),
];
const LEGEND_WIDTH: f64 = 710.0;

fn legend(text: &mut String, top: f64) {
    let middle = top + 8.0;
    for (class, meaning, x) in LEGEND_OF {
        let end = x + 24.0;
        put(
            text,
            format_args!(
                "<g class=\"wire {class}\"><path d=\"M{x:.1} {middle:.1} H{end:.1}\"/></g>\n\
                 <text class=\"line\" x=\"{:.1}\" y=\"{:.1}\">{meaning}</text>\n",
                end + 6.0,
                middle + 4.0
            ),
        );
    }
}

/// Text as character data, and as the value of an attribute. XML has no other control characters than these.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            character if character.is_control() && character != '\n' => escaped.push('\u{fffd}'),
            character => escaped.push(character),
        }
    }
    escaped
}
