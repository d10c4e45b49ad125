//! Where the parts of a picture are drawn. Pure.
//!
//! A bridge and the hosts with no other link than to it are one block: the bridge is a bar, and the hosts hang below it in
//! rows. What else there is of nodes are blocks of their own. `arrange` places the blocks.

use std::collections::BTreeMap;

use super::{
    arrange::{Block, arrange},
    shapes::{Card, Rect, Style, Wire},
};
use crate::{
    graph::{Graph, Kind, Link, LinkKind, Node},
    output::format::short,
};

/// The size of the text of a title and of a line, in pixels.
pub(super) const TITLE: f64 = 13.0;
pub(super) const LINE: f64 = 11.0;

/// The width of a character as a part of its size: no monospace font is wider.
const WIDTH: f64 = 0.62;

/// Between lines of text, and around text in a card.
const LEADING: f64 = 15.0;
const PADDING: f64 = 11.0;

/// Between a bar and a row of hosts, and between hosts of a row.
const DROP: f64 = 30.0;
const GAP: f64 = 18.0;

/// Left of rows, where the line runs that joins them to the bar.
const LANE: f64 = 26.0;

/// Around the picture, and for its title.
const MARGIN: f64 = 24.0;
const HEADING: f64 = 30.0;

/// Characters of a line, and lines of a card. What is longer is in the tooltip.
const MOST_CHARACTERS: usize = 30;
const MOST_LINES: usize = 8;

/// A picture: everything in it with its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Picture {
    /// Its width in pixels.
    pub(super) width: f64,
    /// Its height in pixels.
    pub(super) height: f64,
    /// The areas of bridges with their hosts, which lie below all else.
    pub(super) panels: Vec<Rect>,
    /// Its boxes.
    pub(super) cards: Vec<Card>,
    /// Its lines.
    pub(super) wires: Vec<Wire>,
}

impl Picture {
    /// Draws a graph.
    pub(super) fn of(graph: &Graph) -> Self {
        let (blocks, block_of) = blocks(graph);
        let edges: Vec<(usize, usize, usize)> = graph
            .links
            .iter()
            .enumerate()
            .map(|(n, link)| (n, block_of[&*link.source], block_of[&*link.target]))
            .filter(|(_, from, to)| from != to)
            .collect();
        let arranged = arrange(&blocks, &edges);
        let mut picture = Self {
            width: arranged.width + 2.0 * MARGIN,
            height: arranged.height + 2.0 * MARGIN + HEADING,
            panels: Vec::new(),
            cards: Vec::new(),
            wires: Vec::new(),
        };
        let shift = |(x, y): (f64, f64)| (x + MARGIN, y + MARGIN + HEADING);
        for (block, at) in blocks.into_iter().zip(&arranged.places) {
            let at = shift(*at);
            picture.panels.extend(block.has_panel.then_some(block.rect().moved(at)));
            picture
                .cards
                .extend(block.cards.into_iter().map(|card| Card { rect: card.rect.moved(at), ..card }));
            picture.wires.extend(block.wires.into_iter().map(|wire| wire.moved(at)));
        }
        picture.wires.extend(arranged.wires.into_iter().map(|wire| wire.moved(shift((0.0, 0.0)))));
        picture
    }
}

/// The blocks of a graph, and which block each node is in.
fn blocks(graph: &Graph) -> (Vec<Block>, BTreeMap<&str, usize>) {
    let mut hang: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
    let mut is_hanging = vec![false; graph.nodes.len()];
    for (n, node) in graph.nodes.iter().enumerate() {
        let mut links = graph.links.iter().enumerate().filter(|(_, link)| touches(link, node));
        if let (Some((link, of)), None) = (links.next(), links.next())
            && of.kind == LinkKind::Pair
            && matches!(node.kind, Kind::Host | Kind::Hosts)
        {
            is_hanging[n] = true;
            hang.entry(of.target.as_str()).or_default().push((n, link));
        }
    }
    let (mut blocks, mut block_of) = (Vec::new(), BTreeMap::new());
    for (n, node) in graph.nodes.iter().enumerate().filter(|(n, _)| !is_hanging[*n]) {
        let hanging = hang.remove(node.id.as_str()).unwrap_or_default();
        block_of.insert(node.id.as_str(), blocks.len());
        block_of.extend(hanging.iter().map(|(n, _)| (graph.nodes[*n].id.as_str(), blocks.len())));
        blocks.push(block(graph, n, &hanging));
    }
    (blocks, block_of)
}

fn touches(link: &Link, node: &Node) -> bool {
    link.source == node.id || link.target == node.id
}

/// The block of a node, with the hosts that hang on it and their links.
fn block(graph: &Graph, node: usize, hanging: &[(usize, usize)]) -> Block {
    let text = text(graph, &graph.nodes[node]);
    let style = if graph.nodes[node].kind == Kind::Bridge { Style::Bridge } else { Style::Plain };
    let (width, height) = size(&text);
    let rect = Rect { width, height, ..Rect::default() };
    if hanging.is_empty() {
        let cards = vec![Card { node, rect, style, text }];
        return Block { width, height, has_panel: false, cards, wires: Vec::new() };
    }
    let texts: Vec<Vec<String>> = hanging.iter().map(|&(n, _)| self::text(graph, &graph.nodes[n])).collect();
    let sizes = texts.iter().map(|text| size(text));
    let (cell, row) = sizes.fold((0.0_f64, 0.0_f64), |(width, height), (w, h)| (width.max(w), height.max(h)));
    let columns = columns(hanging.len(), cell + GAP, row + DROP);
    let rows = hanging.len().div_ceil(columns);
    let left = if rows > 1 { LANE } else { GAP };
    let width = width.max(left + index(columns) * (cell + GAP));
    // One row is centred below its bar.
    let used = index(columns) * (cell + GAP) - GAP;
    let left = if rows > 1 { left } else { (width - used) / 2.0 };
    let mut cards = vec![Card { node, rect: Rect { width, ..rect }, style, text }];
    let mut wires = Vec::new();
    for (n, (&(node, link), text)) in hanging.iter().zip(texts).enumerate() {
        let (at_row, column) = (n / columns, n % columns);
        let x = left + index(column) * (cell + GAP);
        let y = height + DROP + index(at_row) * (row + DROP);
        let middle = x + cell / 2.0;
        let top = if at_row == 0 { height } else { y - DROP / 2.0 };
        wires.push(Wire::through(Some(link), &[(middle, top), (middle, y)]));
        let rect = Rect { x, y, width: cell, height: row };
        cards.push(Card { node, rect, style: Style::Plain, text });
    }
    // The bars of further rows, and what joins them to the first.
    for at_row in 1..rows {
        let y = height + index(at_row) * (row + DROP) + DROP / 2.0;
        let last = (hanging.len() - at_row * columns).min(columns) - 1;
        let end = left + index(last) * (cell + GAP) + cell / 2.0;
        wires.push(Wire::through(None, &[(LANE / 2.0, y), (end, y)]));
        if at_row + 1 == rows {
            wires.push(Wire::through(None, &[(LANE / 2.0, height), (LANE / 2.0, y)]));
        }
    }
    let height = height + index(rows) * (row + DROP) + GAP;
    Block { width, height, has_panel: true, cards, wires }
}

/// How many hosts are in a row: as many as make the rows one and a half times as wide as they are high.
fn columns(hosts: usize, cell: f64, row: f64) -> usize {
    let wide = |columns: &usize| {
        let rows = hosts.div_ceil(*columns);
        index(*columns) * cell >= 1.5 * index(rows) * row
    };
    (1..=hosts).find(wide).unwrap_or(hosts).max(hosts.min(3))
}

#[expect(clippy::cast_precision_loss, reason = "a picture has no billion parts")]
fn index(number: usize) -> f64 {
    number as f64
}

/// The size of a card with this text.
fn size(text: &[String]) -> (f64, f64) {
    let width = |line: &String, size: f64| index(line.chars().count()) * WIDTH * size;
    let title = text.first().map_or(0.0, |line| width(line, TITLE));
    let lines = text.iter().skip(1).map(|line| width(line, LINE)).fold(title, f64::max);
    (lines.max(70.0) + 2.0 * PADDING, index(text.len()) * LEADING + 2.0 * PADDING)
}

/// Where the text of a card begins, and the base line of each of its lines.
pub(super) fn baselines(card: &Card) -> impl Iterator<Item = (f64, f64)> {
    let Rect { x, y, .. } = card.rect;
    (0..card.text.len()).map(move |n| (x + PADDING, y + PADDING + index(n) * LEADING + TITLE - 2.0))
}

/// The lines of a node's card.
fn text(graph: &Graph, node: &Node) -> Vec<String> {
    let mut lines = vec![node.name.clone()];
    match (&node.namespace, node.count) {
        (Some(place), _) if place != "host" => lines.push(format!("in {place}")),
        (_, Some(count)) => lines.push(format!("{count} hosts")),
        _ => {}
    }
    lines.extend(node.addresses.iter().map(ToString::to_string));
    lines.extend(node.notes.iter().cloned());
    if node.kind != Kind::Bridge {
        for (interface, addresses) in graph.interfaces_of(&node.id) {
            match addresses.split_first() {
                None => lines.push(interface.to_owned()),
                Some((first, others)) => {
                    lines.push(format!("{interface} {first}"));
                    lines.extend(others.iter().map(|address| format!("  {address}")));
                }
            }
        }
    }
    if matches!(node.kind, Kind::Host | Kind::Hosts)
        && let [only] = &graph.links_of(&node.id).collect::<Vec<_>>()[..]
    {
        lines.extend(
            only.live.as_ref().map(|live| format!("{}/s {}b/s", short(live.packets), short(live.bits))),
        );
    }
    if lines.len() > MOST_LINES {
        let more = lines.len() - (MOST_LINES - 1);
        lines.truncate(MOST_LINES - 1);
        lines.push(format!("and {more} more"));
    }
    lines.iter().map(|line| shortened(line)).collect()
}

fn shortened(line: &str) -> String {
    if line.chars().count() <= MOST_CHARACTERS {
        return line.to_owned();
    }
    line.chars().take(MOST_CHARACTERS - 1).chain(['…']).collect()
}
