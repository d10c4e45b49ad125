//! What is printed is read by other parsers, and the picture is measured.

use std::{collections::BTreeMap, io};

use super::{
    layout::{LINE, Picture, TITLE},
    shapes::{Rect, Wire},
    *,
};
use crate::{
    graph::MOST_NODES,
    topology::{Source, read},
};

fn of(text: &str) -> Graph {
    let lab = read(Source { path: "lab.toml", text }, Some("lab")).unwrap_or_else(|_| panic!("{text}"));
    Graph::of(&lab, &BTreeMap::new()).folded(MOST_NODES)
}

fn printed(print: impl FnOnce(&Graph, &mut dyn io::Write) -> io::Result<()>, graph: &Graph) -> String {
    let mut out = Vec::new();
    print(graph, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Labs of every shape, by name.
fn labs() -> Vec<(&'static str, Graph)> {
    let mesh = |count: u32| format!("[mesh.r]\ncount = {count}\nsubnet = \"10.0.0.0/16\"\n");
    let group = |count: u32| {
        format!(
            "[bridge.br0]\naddresses = [\"10.1.0.1/16\"]\nnat = true\n\
             [group.h]\ncount = {count}\nbridge = \"br0\"\nsubnet = \"10.1.0.0/16\"\n"
        )
    };
    let routed = "[bridge.left]\n[bridge.right]\n[namespace.a.interface.eth0]\nlink = \"left\"\n\
                  [namespace.b.interface.eth0]\nlink = \"right\"\n[namespace.router.interface.eth0]\nlink = \"left\"\n\
                  [namespace.router.interface.eth1]\nlink = \"right\"\n[namespace.router.interface.up]\n\
                  link = \"host:v0\"\naddresses = [\"fd00:1234:5678:9abc:def0:1234:5678:9abc/64\"]\n";
    let long = "[bridge.br0]\n[namespace.a-namespace-with-a-name-of-forty-six-letters]\n\
                [namespace.a-namespace-with-a-name-of-forty-six-letters.interface.eth0]\nlink = \"br0\"\n";
    let tree = "[bridge.r]\ntrunks = [\"a\", \"b\", \"c\"]\n[bridge.a]\n[bridge.b]\n[bridge.c]\n\
                [group.x]\ncount = 5\nbridge = \"a\"\n[group.y]\ncount = 2\nbridge = \"b\"\n[group.z]\ncount = 30\nbridge = \"c\"\n";
    let chain = "[chain.sw]\nbridges = 8\n[group.h]\ncount = 16\nchain = \"sw\"\n";
    let fabric = "fabric = true\n[bridge.br0]\naddresses = [\"10.1.0.1/16\"]\nnat = true\n\
                  [namespace.a.interface.eth0]\nlink = \"br0\"\n[namespace.alone]\n";
    [
        ("nothing", String::new()),
        ("one bridge", "[bridge.br0]\n".to_owned()),
        ("a cable", mesh(2)),
        ("a triangle", mesh(3)),
        ("a mesh of five", mesh(5)),
        ("a mesh of sixteen", mesh(16)),
        ("three hosts", group(3)),
        ("twelve hosts", group(12)),
        ("forty hosts", group(40)),
        ("as many as fit", group(98)),
        ("a thousand hosts", group(1000)),
        ("a router", routed.to_owned()),
        ("a long name", long.to_owned()),
        ("a tree", tree.to_owned()),
        ("a chain", chain.to_owned()),
        ("a fabric", fabric.to_owned()),
    ]
    .map(|(name, text)| (name, of(&text)))
    .into()
}

fn overlap(one: Rect, other: Rect) -> bool {
    one.x < other.x + other.width
        && other.x < one.x + one.width
        && one.y < other.y + other.height
        && other.y < one.y + one.height
}

fn is_inside(inner: Rect, outer: Rect) -> bool {
    inner.x >= outer.x - 0.1
        && inner.y >= outer.y - 0.1
        && inner.x + inner.width <= outer.x + outer.width + 0.1
        && inner.y + inner.height <= outer.y + outer.height + 0.1
}

#[test]
fn nothing_overlaps_and_all_text_fits() {
    for (name, graph) in labs() {
        let picture = Picture::of(&graph);
        let page = Rect { x: 0.0, y: 0.0, width: picture.width, height: picture.height };
        for (n, card) in picture.cards.iter().enumerate() {
            assert!(is_inside(card.rect, page), "{name}: {card:?}");
            for other in &picture.cards[..n] {
                assert!(!overlap(card.rect, other.rect), "{name}: {card:?} {other:?}");
            }
            // A card is in a panel, or away from it.
            for panel in picture.panels.iter().filter(|panel| overlap(**panel, card.rect)) {
                assert!(is_inside(card.rect, *panel), "{name}: {card:?} {panel:?}");
            }
            for (n, ((x, y), line)) in layout::baselines(card).zip(&card.text).enumerate() {
                let size = if n == 0 { TITLE } else { LINE };
                // DejaVu Sans Mono has characters of 0.602 of its size.
                let width = 0.61 * size * f64::from(u32::try_from(line.chars().count()).unwrap());
                let text = Rect { x, y: y - size, width, height: size + 3.0 };
                assert!(is_inside(text, card.rect), "{name}: {line:?} in {card:?}");
            }
        }
        for (n, panel) in picture.panels.iter().enumerate() {
            assert!(picture.panels[..n].iter().all(|other| !overlap(*panel, *other)), "{name}: {panel:?}");
        }
        assert_eq!(picture.cards.len(), graph.nodes.len(), "{name}");
        let drawn = picture.wires.iter().filter(|wire| wire.link.is_some()).count();
        assert_eq!(drawn, graph.links.len(), "{name}");
        assert!(picture.wires.iter().all(|wire| ends_at_cards(wire, &picture, &graph)), "{name}");
    }
}

/// Whether a link's line goes from one of its nodes to the other: to its card, or to the panel that it is in.
fn ends_at_cards(wire: &Wire, picture: &Picture, graph: &Graph) -> bool {
    let Some(link) = wire.link else { return true };
    let link = &graph.links[link];
    let areas = |id: &str| {
        let card = picture.cards.iter().find(|card| graph.nodes[card.node].id == id).unwrap().rect;
        let panel = picture.panels.iter().copied().find(|panel| is_inside(card, *panel));
        // Lines that lie side by side are moved, and a row has a bar of its own.
        let wider = |rect: Rect| Rect {
            x: rect.x - 60.0,
            y: rect.y - 60.0,
            width: rect.width + 120.0,
            height: rect.height + 120.0,
        };
        [Some(card), panel].into_iter().flatten().map(wider).collect::<Vec<_>>()
    };
    let end = wire.curves.last().map_or(wire.from, |curve| curve[2]);
    let at = |(x, y): (f64, f64), id: &str| {
        areas(id).into_iter().any(|area| is_inside(Rect { x, y, width: 0.0, height: 0.0 }, area))
    };
    at(wire.from, &link.source) && at(end, &link.target)
        || at(wire.from, &link.target) && at(end, &link.source)
}

#[test]
fn a_picture_is_the_same_each_time_and_not_too_long() {
    for (name, graph) in labs() {
        let picture = Picture::of(&graph);
        assert_eq!(picture, Picture::of(&graph), "{name}");
        if graph.nodes.len() > 2 {
            let ratio = picture.width / picture.height;
            assert!((0.3..4.5).contains(&ratio), "{name}: {} x {}", picture.width, picture.height);
        }
    }
}

/// A lab with what would end a string, a tag, a label or a line. Names of devices cannot have it; what the kernel reports
/// can.
fn hostile() -> Graph {
    let mut graph = of("[bridge.br0]\n[namespace.a.interface.eth0]\nlink = \"br0\"\n");
    let evil = "</title>&<script>\"']|{};\\\n\u{1b}[2J#quot;\u{0}`--><br/>";
    for node in &mut graph.nodes {
        node.name = evil.to_owned();
        node.notes.push(evil.to_owned());
    }
    for link in &mut graph.links {
        link.name = evil.to_owned();
        link.target_interface = Some(evil.to_owned());
        let reason = Some(evil.to_owned());
        link.live = Some(Live { state: Health::Slow, reason, packets: 1.0, bits: 8.0 });
    }
    graph
}

#[test]
fn a_picture_is_xml_whatever_names_are() {
    for (name, graph) in labs().into_iter().chain([("hostile", hostile())]) {
        let text = printed(svg, &graph);
        let document =
            roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
        let tags = |tag: &str| document.descendants().filter(|node| node.has_tag_name(tag)).count();
        assert_eq!(tags("script"), 0, "{name}");
        assert!(tags("title") > graph.nodes.len(), "{name}");
        assert!(text.contains("prefers-color-scheme: dark"));
        let is_own = |node: &roxmltree::Node<'_, '_>| {
            node.attributes().all(|attribute| !["href", "src", "onload"].contains(&attribute.name()))
        };
        assert!(document.descendants().all(|node| is_own(&node)), "nothing is loaded");
    }
}

#[test]
fn live_links_have_colours_and_a_legend() {
    let text = printed(svg, &hostile());
    assert!(text.contains("<g class=\"wire slow busy\">"), "{text}");
    assert!(text.contains("plain bridge</text>"), "{text}");
    assert!(!printed(svg, &labs()[6].1).contains("plain bridge"), "there is nothing to explain");
}

/// The tokens of a DOT file: words, strings, and signs.
fn tokens(text: &str) -> Vec<String> {
    let mut characters = text.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(character) = characters.next() {
        let mut token = String::from(character);
        match character {
            '"' => loop {
                let next = characters.next().expect("a closed string");
                assert!(next != '\n', "a line break in {token}");
                token.push(next);
                match next {
                    '\\' => token.push(characters.next().expect("an escaped character")),
                    '"' => break,
                    _ => {}
                }
            },
            character if character.is_alphanumeric() => {
                while let Some(next) = characters.next_if(|next| next.is_alphanumeric()) {
                    token.push(next);
                }
            }
            character if character.is_whitespace() => continue,
            _ => {}
        }
        tokens.push(token);
    }
    tokens
}

#[test]
fn dot_has_the_tokens_of_its_grammar() {
    for (name, graph) in labs().into_iter().chain([("hostile", hostile())]) {
        let tokens = tokens(&printed(dot, &graph));
        assert_eq!((tokens[0].as_str(), tokens[2].as_str()), ("graph", "{"), "{name}");
        assert_eq!(tokens.last().map(String::as_str), Some("}"), "{name}");
        let count = |token: &str| tokens.iter().filter(|one| *one == token).count();
        // One list of attributes for each node and link, and for all of each.
        assert_eq!(
            (count("["), count("]")),
            (graph.nodes.len() + graph.links.len() + 2, count("[")),
            "{name}"
        );
        assert_eq!(count("{"), 1, "{name}");
    }
}

#[test]
fn mermaid_has_a_line_for_each_part_and_no_sign_of_its_own_in_labels() {
    for (name, graph) in labs().into_iter().chain([("hostile", hostile())]) {
        let text = printed(mermaid, &graph);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("flowchart TB"));
        for line in lines {
            let quotes = line.matches('"').count();
            assert!(quotes == 0 || quotes == 2, "{name}: {line}");
            let label = line.split('"').nth(1).unwrap_or_default().replace("<br/>", "");
            assert!(!label.contains(['<', '>', '`', '[', ']', '{', '}', '|', '&', '\\']), "{name}: {line}");
            let entities = label.matches('#').count();
            assert_eq!(entities, label.matches(';').count(), "{name}: {line}");
        }
        let is_node =
            |line: &&str| line.starts_with("    n") && (line.contains("[\"") || line.contains("([\""));
        assert_eq!(text.lines().filter(is_node).count(), graph.nodes.len(), "{name}");
    }
    let three = printed(mermaid, &labs()[6].1);
    assert!(three.contains("n0[[\"br0<br/>10.1.0.1/16<br/>nat\"]]:::bridge"), "{three}");
    assert!(three.contains("n1 ---|\"h0-eth0\"| n0"), "{three}");
}

#[test]
fn json_is_for_other_tools() {
    let json =
        serde_json::to_value(of("[bridge.br0]\n[namespace.a.interface.eth0]\nlink = \"br0\"\n")).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "lab": "lab",
            "nodes": [
                {"id": "host:br0", "kind": "bridge", "name": "br0", "namespace": "host"},
                {"id": "a", "kind": "host", "name": "a"},
            ],
            "links": [
                {"name": "a:eth0", "kind": "pair", "source": "a", "target": "host:br0",
                 "source_interface": "eth0", "target_interface": "a-eth0"},
            ],
        })
    );
}
