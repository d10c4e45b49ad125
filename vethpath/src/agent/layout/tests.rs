//! Which bridges can be one segment.

use super::*;
use crate::topology::{Source, read};

fn layout(bridges: &str) -> Layout {
    let text = format!("[namespace.fabric]\n{bridges}");
    let source = Source { path: "lab.toml", text: &text };
    let topology = read(source, Some("lab")).unwrap_or_else(|faults| panic!("{faults:?}"));
    Layout::of(&topology, 0, &Place::Host)
}

fn segments(layout: &Layout) -> Vec<(usize, usize)> {
    layout.bridges.iter().map(|bridge| (bridge.segment, bridge.bit)).collect()
}

#[test]
fn bridges_without_trunks_are_apart() {
    let layout = layout("[bridge.br0]\n[bridge.br1]\n");
    assert_eq!(segments(&layout), [(0, 0), (1, 0)]);
    assert_eq!(layout.bridges.iter().map(|bridge| bridge.number).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn trunks_join_bridges_however_they_are_declared() {
    let layout = layout(
        "[bridge.br0]\n[bridge.br1]\ntrunks = [\"br3\"]\n[bridge.br2]\n[bridge.br3]\ntrunks = [\"br0\"]\n",
    );
    assert_eq!(segments(&layout), [(0, 0), (0, 1), (2, 0), (0, 2)]);
    assert!(layout.trunks.iter().all(|trunk| trunk.barred.is_none() && trunk.ends.len() == 2));
    assert_eq!(layout.all_ports().count(), 4);
}

#[test]
fn a_trunk_to_another_namespace_joins_nothing() {
    let layout = layout("[bridge.br0]\ntrunks = [\"br1\"]\n[bridge.br1]\nnamespace = \"fabric\"\n");
    assert_eq!(segments(&layout), [(0, 0)]);
    assert_eq!(layout.trunks[0].barred, Some(NotArmed::TwoNamespaces));
    assert_eq!(layout.trunks[0].ends.len(), 1);
}

#[test]
fn a_plain_bridge_is_crossed_by_the_bridge_alone() {
    let layout = layout("[bridge.br0]\ntrunks = [\"br1\"]\n[bridge.br1]\ndatapath = \"bridge\"\n");
    assert_eq!(layout.trunks[0].barred, Some(NotArmed::NotWanted));
}
