//! One change at a time: what is written then, and what was written before, are what would be written of everything.

use std::collections::BTreeSet;

use super::*;
use crate::kernel::watch::Event;

/// The maps' contents, and what is evaluated. They follow the changes of a bridge namespace.
struct Followed {
    layout: Layout,
    facts: NetnsState,
    segments: Segments,
    maps: Desired,
    paths: Paths,
}

impl Followed {
    fn new(layout: Layout, facts: NetnsState) -> Self {
        let segments = Segments::new(&layout, &facts);
        let (maps, paths) = (Desired::default(), Paths::known([], 10));
        let mut followed = Self { layout, facts, segments, maps, paths };
        followed.maps = followed.desired(true);
        followed
    }

    fn desired(&mut self, is_whole: bool) -> Desired {
        let mut desired = Desired { is_whole, ..Desired::default() };
        desired.add(&self.layout, &self.segments, &mut self.facts, &mut self.paths);
        desired.stations.retain(|_, entries| !is_whole || entries.len() > 0);
        desired
    }

    /// Applies a change. Returns the ports and the addresses that are written, unless everything is to be evaluated.
    fn change(&mut self, change: impl FnOnce(&mut NetnsState)) -> Option<(Vec<u32>, Vec<[u8; 6]>)> {
        change(&mut self.facts);
        let affected = match self.facts.dirty.ports {
            true => None,
            false => self.segments.update(&self.layout, &self.facts),
        };
        let whole = Segments::new(&self.layout, &self.facts);
        let Some(affected) = affected else {
            *self = Self::new(self.layout.clone(), self.facts.clone());
            return None;
        };
        assert_eq!(self.segments, whole);
        self.facts.mark_stations_behind(&affected);
        let part = self.desired(false);
        let written = (
            part.ports.keys().map(|key| key.ifindex).collect(),
            part.stations.keys().map(|(_, mac)| *mac).collect(),
        );
        for (key, record) in part.ports {
            self.maps.ports.insert(key, record);
        }
        self.maps.ports.retain(|_, record| record.is_some());
        self.maps.stations.extend(part.stations);
        self.maps.stations.retain(|_, entries| entries.len() > 0);
        let all = self.desired(true);
        assert_eq!(self.maps, all);
        Some(written)
    }

    fn event(&mut self, event: &Event) -> Option<(Vec<u32>, Vec<[u8; 6]>)> {
        self.change(|facts| facts.apply_link_event(event))
    }
}

fn two_hosts() -> Followed {
    let mut facts = facts();
    // A station behind each host, besides its own address.
    facts.fdb.extend([entry(A, mac(40)), entry(B, mac(41))]);
    Followed::new(layout(), facts)
}

#[test]
fn a_link_concerns_its_own_port_alone() {
    let mut followed = two_hosts();
    let down = LinkFacts { up: false, ..port(A) };
    let written = followed.event(&Event::Link(Box::new(down.clone())));
    assert_eq!(written, Some((vec![A], vec![mac(A), mac(40)])));
    assert!(!followed.segments.armed.contains_key(&A) && followed.segments.armed.contains_key(&B));
    assert_eq!(followed.event(&Event::Link(Box::new(down))), Some((vec![], vec![])), "known already");
    let written = followed.event(&Event::Link(Box::new(port(A))));
    assert_eq!(written, Some((vec![A], vec![mac(A), mac(40)])));
}

#[test]
fn a_change_that_does_not_matter_to_stations_writes_none() {
    let mut followed = two_hosts();
    let alias = LinkFacts { alias: Some("a cable".to_owned()), ..port(A) };
    assert_eq!(followed.event(&Event::Link(Box::new(alias))), Some((vec![A], vec![])));
    let other = link(99, "eth0");
    assert_eq!(followed.event(&Event::Link(Box::new(other))), Some((vec![99], vec![])), "none of the lab's");
}

#[test]
fn flags_and_qdiscs_of_a_port_are_its_own() {
    let mut followed = two_hosts();
    let attributes = vec![P::State(BridgePortState::Forwarding), P::Isolated(true)];
    let isolated = Event::Port { ifindex: B, bridge: Some(BRIDGE), attributes };
    assert_eq!(followed.event(&isolated), Some((vec![B], vec![mac(B), mac(41)])));
    let qdisc = Event::Traffic { ifindex: B };
    assert_eq!(followed.event(&qdisc), Some((vec![B], vec![mac(B), mac(41)])));
    assert_eq!(followed.segments.states[&2], Some(NotArmed::Unread));
    let read = followed.change(|facts| {
        let unread = std::mem::take(&mut facts.unread);
        facts.mark_changed(unread);
    });
    assert_eq!(read, Some((vec![B], vec![mac(B), mac(41)])));
}

#[test]
fn a_port_that_leaves_and_comes_back_under_another_index_is_followed() {
    let mut followed = two_hosts();
    assert_eq!(followed.event(&Event::Released { ifindex: A }), Some((vec![A], vec![mac(A), mac(40)])));
    assert_eq!(followed.event(&Event::Gone { ifindex: A }), Some((vec![A], vec![])));
    assert_eq!(followed.segments.states[&1], Some(NotArmed::NoPort));
    assert_eq!(followed.maps.ports.len(), 1, "its record is gone");
    let back = LinkFacts { ifindex: 15, ..port(A) };
    assert_eq!(followed.event(&Event::Link(Box::new(back))), Some((vec![15], vec![])));
    let armed = followed.change(|facts| {
        facts.attached.insert(15);
        facts.inner.insert(15, LinkFacts { mac: Some(mac(A)), ..link(2, "eth0") });
        facts.mark_changed([15]);
    });
    assert_eq!(armed, Some((vec![15], vec![])), "no entry leads there yet");
    assert!(followed.segments.armed.contains_key(&15) && !followed.segments.armed.contains_key(&A));
}

#[test]
fn a_renamed_port_is_none_of_the_labs() {
    let mut followed = two_hosts();
    let renamed = LinkFacts { name: "elsewhere".to_owned(), ..port(A) };
    assert_eq!(followed.event(&Event::Link(Box::new(renamed))), Some((vec![A], vec![mac(A), mac(40)])));
    assert_eq!(followed.segments.states[&1], Some(NotArmed::NoPort));
    let taken = LinkFacts { name: "vp5".to_owned(), ..port(B) };
    assert_eq!(followed.event(&Event::Link(Box::new(taken))), Some((vec![B], vec![mac(B), mac(41)])));
}

#[test]
fn what_concerns_every_port_evaluates_all() {
    let bridge_down = LinkFacts { up: false, ..facts().links[&BRIDGE].clone() };
    assert_eq!(two_hosts().event(&Event::Link(Box::new(bridge_down))), None);
    let largest = two_hosts().change(|facts| {
        facts.inner.get_mut(&A).expect("an inner end").mtu = 9000;
        facts.mark_changed([A]);
    });
    assert_eq!(largest, None, "frames of any host may be larger now");
    let unreadable =
        two_hosts().change(|facts| assert!(facts.record_reply::<(), _>(Blocker::Rules, Err("no")).is_none()));
    assert_eq!(unreadable, None);
    let many = two_hosts().change(|facts| facts.mark_changed(100..200));
    assert_eq!(many, None);
}

/// What is to be read after an event: all links, and these.
fn read_after(event: &Event) -> (bool, Vec<u32>) {
    let mut facts = facts();
    facts.apply_link_event(event);
    assert!(facts.dirty.is_stale());
    (facts.dirty.links, facts.dirty.some_links.into_iter().collect())
}

#[test]
fn an_event_of_a_known_link_has_that_link_and_its_bridge_read() {
    let link_event = |link: LinkFacts| read_after(&Event::Link(Box::new(link)));
    let with_bridge = |port: u32| (false, BTreeSet::from([port, BRIDGE]).into_iter().collect());
    assert_eq!(link_event(port(A)), with_bridge(A), "even if the event shows no difference");
    assert_eq!(link_event(LinkFacts { up: false, ..port(B) }), with_bridge(B));
    assert_eq!(link_event(LinkFacts { controller: None, ..port(B) }), with_bridge(B));
    let bridge = facts().links[&BRIDGE].clone();
    assert_eq!(link_event(LinkFacts { up: false, ..bridge }), (false, vec![BRIDGE]));
    for event in [
        Event::Port { ifindex: A, bridge: Some(BRIDGE), attributes: Vec::new() },
        Event::Released { ifindex: A },
        Event::Gone { ifindex: A },
    ] {
        assert_eq!(read_after(&event), with_bridge(A), "{event:?}");
    }
}

#[test]
fn an_event_of_another_link_has_all_read() {
    let all = (true, vec![]);
    let link_event = |link: LinkFacts| read_after(&Event::Link(Box::new(link)));
    assert_eq!(link_event(link(99, "eth0")), all, "a new link");
    assert_eq!(link_event(LinkFacts { name: "other".to_owned(), ..port(A) }), all, "another name");
    assert_eq!(link_event(LinkFacts { ifindex: 99, ..port(A) }), all, "another ifindex");
    for event in [
        Event::Port { ifindex: 99, bridge: Some(BRIDGE), attributes: Vec::new() },
        Event::Released { ifindex: 99 },
        Event::Traffic { ifindex: A },
        Event::Changed,
    ] {
        assert_eq!(read_after(&event), all, "{event:?}");
    }
    let mut facts = facts();
    facts.apply_link_event(&Event::Lost);
    assert!(facts.dirty.overrun && facts.dirty.is_suspect());
}

#[test]
fn an_event_of_an_inner_end_has_its_port_read() {
    let read_after = |event: Event| {
        let mut facts = facts();
        for port in [A, B] {
            facts.links.get_mut(&port).expect("a port").peer = Some(2);
        }
        facts.apply_peer_event(&event);
        (facts.dirty.links, facts.dirty.some_links.into_iter().collect::<Vec<_>>())
    };
    assert_eq!(read_after(Event::Peer { ifindex: 2, port: Some(A) }), (false, vec![A]));
    assert_eq!(read_after(Event::Peer { ifindex: 7, port: Some(A) }), (false, vec![A]), "it was moved");
    assert_eq!(read_after(Event::Peer { ifindex: 2, port: None }), (false, vec![A, B]), "either of them");
    assert_eq!(read_after(Event::Peer { ifindex: 7, port: None }), (false, vec![]));
    assert_eq!(read_after(Event::Peer { ifindex: 2, port: Some(99) }), (false, vec![]), "another's");
    assert_eq!(read_after(Event::Lost), (true, vec![]));
}

#[test]
fn a_trunk_concerns_its_segment_only_if_it_opens_or_closes() {
    let mut followed = Followed::new(chain::layout(), chain::facts());
    let trunk = followed.facts.links[&21].clone();
    let alias = LinkFacts { alias: Some("a trunk".to_owned()), ..trunk.clone() };
    assert_eq!(followed.event(&Event::Link(Box::new(alias))), Some((vec![21], vec![])));
    let down = LinkFacts { up: false, ..trunk.clone() };
    assert_eq!(followed.event(&Event::Link(Box::new(down.clone()))), None);
    let still = LinkFacts { mtu: 1400, ..down };
    assert_eq!(followed.event(&Event::Link(Box::new(still))), Some((vec![21], vec![])), "closed as before");
    assert_eq!(followed.event(&Event::Link(Box::new(trunk))), None);
    let host = LinkFacts { up: false, ..followed.facts.links[&12].clone() };
    assert_eq!(followed.event(&Event::Link(Box::new(host))), Some((vec![12], vec![chain::mac(12)])));
}
