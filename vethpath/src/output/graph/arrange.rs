//! Places the blocks of a picture, and draws the lines between them.
//!
//! Blocks that are connected are placed together: a full mesh and a ring on a circle, a chain in rows, and anything else in
//! layers, by the `layout` library. What is not connected stands side by side.

use std::{
    collections::{BTreeMap, BTreeSet},
    f64::consts::TAU,
};

use layout::{
    core::{
        base::Orientation,
        format::{ClipHandle, RenderBackend},
        geometry::{Point, Position},
        style::{LineStyleKind, StyleAttr},
    },
    std_shapes::shapes::{Arrow, Element, LineEndKind, ShapeKind},
    topo::layout::VisualGraph,
};

use super::shapes::{Card, Rect, Wire};

/// Between two blocks: half of it is each one's.
const BETWEEN: f64 = 56.0;

/// A longer chain is drawn in rows.
const LONG_CHAIN: usize = 5;

/// A part of a picture that is placed as a whole.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) width: f64,
    pub(super) height: f64,
    /// Whether it is drawn on an area of its own.
    pub(super) has_panel: bool,
    /// What is in it, from its upper left corner.
    pub(super) cards: Vec<Card>,
    pub(super) wires: Vec<Wire>,
}

impl Block {
    pub(super) fn rect(&self) -> Rect {
        Rect { x: 0.0, y: 0.0, width: self.width, height: self.height }
    }
}

/// Blocks with their places: the upper left corner of each.
#[derive(Debug, Default)]
pub(super) struct Arranged {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) places: Vec<(f64, f64)>,
    pub(super) wires: Vec<Wire>,
}

/// A link between two different blocks: its number, and theirs.
type Edge = (usize, usize, usize);

/// Places blocks.
pub(super) fn arrange(blocks: &[Block], edges: &[Edge]) -> Arranged {
    let parts: Vec<(Vec<usize>, Arranged)> = connected(blocks.len(), edges)
        .into_iter()
        .map(|members| {
            let of_part: Vec<Edge> = edges.iter().filter(|edge| members.contains(&edge.1)).copied().collect();
            let part = part(blocks, &members, &of_part);
            (members, part)
        })
        .collect();
    // Rows that are half as wide again as all of them are high.
    let area: f64 = parts.iter().map(|(_, part)| (part.width + BETWEEN) * (part.height + BETWEEN)).sum();
    let widest = parts.iter().map(|(_, part)| part.width).fold((area * 1.5).sqrt(), f64::max);
    let mut all = Arranged { places: vec![(0.0, 0.0); blocks.len()], ..Arranged::default() };
    let (mut x, mut y, mut height) = (0.0, 0.0, 0.0_f64);
    for (members, part) in parts {
        if x > 0.0 && x + part.width > widest {
            (x, y, height) = (0.0, y + height + BETWEEN, 0.0);
        }
        for (member, (at_x, at_y)) in members.into_iter().zip(part.places) {
            all.places[member] = (x + at_x, y + at_y);
        }
        all.wires.extend(part.wires.into_iter().map(|wire| wire.moved((x, y))));
        height = height.max(part.height);
        all.width = all.width.max(x + part.width);
        all.height = all.height.max(y + height);
        x += part.width + BETWEEN;
    }
    all
}

/// The connected components, each in the order of its blocks.
fn connected(count: usize, edges: &[Edge]) -> Vec<Vec<usize>> {
    let mut first: Vec<usize> = (0..count).collect();
    for &(_, a, b) in edges {
        let (from, to) = (first[a].max(first[b]), first[a].min(first[b]));
        first.iter_mut().filter(|one| **one == from).for_each(|one| *one = to);
    }
    let mut parts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (block, first) in first.into_iter().enumerate() {
        parts.entry(first).or_default().push(block);
    }
    parts.into_values().collect()
}

/// Places blocks that are connected. Places are in the order of `members`.
fn part(blocks: &[Block], members: &[usize], edges: &[Edge]) -> Arranged {
    let position: BTreeMap<usize, usize> =
        members.iter().enumerate().map(|(n, &member)| (member, n)).collect();
    let blocks: Vec<&Block> = members.iter().map(|&member| &blocks[member]).collect();
    let edges: Vec<Edge> = edges.iter().map(|&(link, a, b)| (link, position[&a], position[&b])).collect();
    let mut neighbours = vec![BTreeSet::new(); blocks.len()];
    for &(_, a, b) in &edges {
        neighbours[a].insert(b);
        neighbours[b].insert(a);
    }
    let has_all = |degree: usize| neighbours.iter().all(|others| others.len() == degree);
    match blocks.len() {
        1 => Arranged {
            width: blocks[0].width,
            height: blocks[0].height,
            places: vec![(0.0, 0.0)],
            wires: Vec::new(),
        },
        count if count > 2 && has_all(count - 1) => {
            on_a_circle(&blocks, &(0..count).collect::<Vec<_>>(), &edges)
        }
        count if count > 2 && has_all(2) => on_a_circle(&blocks, &walk(&neighbours, 0), &edges),
        count => {
            let end = neighbours.iter().position(|others| others.len() == 1);
            let is_chain = neighbours.iter().all(|others| others.len() <= 2);
            match end {
                Some(end) if is_chain && count >= LONG_CHAIN => {
                    in_rows(&blocks, &walk(&neighbours, end), &edges)
                }
                _ => in_layers(&blocks, &edges),
            }
        }
    }
}

/// The blocks of a chain or a ring, one after the other.
fn walk(neighbours: &[BTreeSet<usize>], start: usize) -> Vec<usize> {
    let mut path = vec![start];
    let mut here = start;
    while let Some(&next) = neighbours[here].iter().find(|next| !path.contains(next)) {
        path.push(next);
        here = next;
    }
    path
}

#[expect(clippy::cast_precision_loss, reason = "a picture has no billion parts")]
fn number(count: usize) -> f64 {
    count as f64
}

fn on_a_circle(blocks: &[&Block], order: &[usize], edges: &[Edge]) -> Arranged {
    let diagonal = blocks.iter().map(|block| block.width.hypot(block.height)).fold(0.0, f64::max);
    let half_turn = TAU / 2.0 / number(order.len());
    // Far enough that neighbours are apart, and that a line between next neighbours passes by the one between.
    let apart = (diagonal + BETWEEN / 2.0) / (2.0 * half_turn.sin());
    let passed = (diagonal / 2.0 + 8.0) / (2.0 * half_turn.sin().powi(2));
    let radius = if order.len() > 3 && order.len() <= 16 { apart.max(passed) } else { apart };
    let mut places = vec![(0.0, 0.0); blocks.len()];
    for (n, &block) in order.iter().enumerate() {
        let turn = TAU * number(n) / number(order.len()) - TAU / 4.0;
        let (width, height) = (blocks[block].width, blocks[block].height);
        places[block] = (radius * turn.cos() - width / 2.0, radius * turn.sin() - height / 2.0);
    }
    straight(blocks, places, edges)
}

/// A chain, in rows that turn back and forth.
fn in_rows(blocks: &[&Block], order: &[usize], edges: &[Edge]) -> Arranged {
    let cell = blocks.iter().map(|block| block.width).fold(0.0, f64::max) + BETWEEN;
    let row = blocks.iter().map(|block| block.height).fold(0.0, f64::max) + BETWEEN;
    let columns = (1..=order.len())
        .find(|&columns| number(columns) * cell >= 1.6 * number(order.len().div_ceil(columns)) * row)
        .unwrap_or(order.len())
        .max(2);
    let mut places = vec![(0.0, 0.0); blocks.len()];
    for (n, &block) in order.iter().enumerate() {
        let (line, step) = (n / columns, n % columns);
        let column = if line % 2 == 0 { step } else { columns - 1 - step };
        let (width, height) = (blocks[block].width, blocks[block].height);
        let (x, y) = (number(column) * cell, number(line) * row);
        places[block] = (x + (cell - width) / 2.0, y + (row - height) / 2.0);
    }
    straight(blocks, places, edges)
}

/// Draws straight lines between blocks, and moves all to the origin. Several links between two blocks lie side by side.
fn straight(blocks: &[&Block], places: Vec<(f64, f64)>, edges: &[Edge]) -> Arranged {
    let rects: Vec<Rect> = blocks.iter().zip(&places).map(|(block, at)| block.rect().moved(*at)).collect();
    let wires = edges.iter().map(|&(link, a, b)| {
        let (from, to) = (rects[a], rects[b]);
        let points = [from.border(to.middle()), to.border(from.middle())];
        Wire::through(Some(link), &points).moved(beside(edges, link, a, b))
    });
    let wires = wires.collect();
    at_the_origin(&rects, wires)
}

/// How far a link is moved from the first one between the same blocks.
fn beside(edges: &[Edge], link: usize, a: usize, b: usize) -> (f64, f64) {
    let is_same = |edge: &&Edge| (edge.1, edge.2) == (a, b) || (edge.1, edge.2) == (b, a);
    let before = edges.iter().filter(is_same).take_while(|edge| edge.0 != link).count();
    (number(before) * 9.0, number(before) * 5.0)
}

fn at_the_origin(rects: &[Rect], wires: Vec<Wire>) -> Arranged {
    let points = wires.iter().flat_map(|wire| wire.curves.iter().flatten().chain([&wire.from]));
    let points: Vec<(f64, f64)> = points.copied().collect();
    let corners =
        rects.iter().flat_map(|rect| [(rect.x, rect.y), (rect.x + rect.width, rect.y + rect.height)]);
    let all: Vec<(f64, f64)> = corners.chain(points).collect();
    let least = |of: fn(&(f64, f64)) -> f64| all.iter().map(of).fold(f64::INFINITY, f64::min);
    let most = |of: fn(&(f64, f64)) -> f64| all.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
    let (left, top) = (least(|point| point.0), least(|point| point.1));
    Arranged {
        width: most(|point| point.0) - left,
        height: most(|point| point.1) - top,
        places: rects.iter().map(|rect| (rect.x - left, rect.y - top)).collect(),
        wires: wires.into_iter().map(|wire| wire.moved((-left, -top))).collect(),
    }
}

/// Places blocks in layers, from the top or from the left: whichever is less long.
fn in_layers(blocks: &[&Block], edges: &[Edge]) -> Arranged {
    let length = |arranged: &Arranged| (arranged.width / 1.5).max(arranged.height);
    let down = layers(blocks, edges, Orientation::TopToBottom);
    let right = layers(blocks, edges, Orientation::LeftToRight);
    if length(&right) < length(&down) { right } else { down }
}

fn layers(blocks: &[&Block], edges: &[Edge], orientation: Orientation) -> Arranged {
    let mut graph = VisualGraph::new(orientation);
    let mut handles = Vec::new();
    for (n, block) in blocks.iter().enumerate() {
        let size = Point::new(block.width, block.height);
        let shape = ShapeKind::new_box("");
        let mut element =
            Element::create_with_properties(shape, StyleAttr::simple(), orientation, size, n.to_string());
        element.pos = Position::new(Point::zero(), size, Point::zero(), Point::splat(BETWEEN / 2.0));
        handles.push(graph.add_node(element));
    }
    // Several links between two blocks are placed once.
    let mut first: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for &(link, a, b) in edges {
        let key = (a.min(b), a.max(b));
        if first.contains_key(&key) {
            continue;
        }
        first.insert(key, link);
        let (look, end) = (StyleAttr::simple(), LineEndKind::None);
        let style = LineStyleKind::Normal;
        let arrow = Arrow::with_properties(end, end, style, "", &look, link.to_string(), &None, &None);
        graph.add_edge(arrow, handles[a], handles[b]);
    }
    let mut drawn = Drawn { rects: vec![Rect::default(); blocks.len()], wires: Vec::new() };
    graph.do_it(false, false, false, &mut drawn);
    let paths: BTreeMap<usize, Wire> =
        drawn.wires.into_iter().filter_map(|wire| Some((wire.link?, wire))).collect();
    let wires = edges.iter().filter_map(|&(link, a, b)| {
        let path = paths.get(first.get(&(a.min(b), a.max(b)))?)?.clone();
        Some(Wire { link: Some(link), ..path }.moved(beside(edges, link, a, b)))
    });
    let wires = wires.collect();
    at_the_origin(&drawn.rects, wires)
}

/// Keeps what the library draws: boxes and arrows, by the numbers that they were given.
struct Drawn {
    rects: Vec<Rect>,
    wires: Vec<Wire>,
}

impl RenderBackend for Drawn {
    fn draw_rect(
        &mut self,
        xy: Point,
        size: Point,
        _: &StyleAttr,
        number: Option<String>,
        _: Option<ClipHandle>,
    ) {
        if let Some(rect) = number.and_then(|number| self.rects.get_mut(number.parse::<usize>().ok()?)) {
            *rect = Rect { x: xy.x, y: xy.y, width: size.x, height: size.y };
        }
    }

    /// `path` begins with a point and the control point after it. A control point and a point follow for each curve.
    /// The control point before is mirrored, as in `S` of an SVG path.
    fn draw_arrow(
        &mut self,
        path: &[(Point, Point)],
        _: bool,
        _: (bool, bool),
        _: &StyleAttr,
        number: Option<String>,
        _: &str,
    ) {
        let Some(link) = number.and_then(|number| number.parse().ok()) else { return };
        let [(from, control), rest @ ..] = path else { return };
        let mut next = (control.x, control.y);
        let mut curves = Vec::new();
        for (before, end) in rest {
            curves.push([next, (before.x, before.y), (end.x, end.y)]);
            next = (2.0 * end.x - before.x, 2.0 * end.y - before.y);
        }
        self.wires.push(Wire { link: Some(link), from: (from.x, from.y), curves });
    }

    fn draw_line(&mut self, _: Point, _: Point, _: &StyleAttr, _: Option<String>) {}

    fn draw_circle(&mut self, _: Point, _: Point, _: &StyleAttr, _: Option<String>) {}

    fn draw_text(&mut self, _: Point, _: &str, _: &StyleAttr) {}

    fn create_clip(&mut self, _: Point, _: Point, _: usize) -> ClipHandle {
        0
    }
}
