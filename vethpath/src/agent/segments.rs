//! Which ports are armed, and which bridges are joined by eligible trunks: a segment. Follows from the links of a bridge
//! namespace, without its FDBs. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    NotArmed,
    eligible::{Eligible, eligible, eligible_trunk},
    layout::{LabBridge, LabPort, Layout},
    netns_state::NetnsState,
};

/// If more links have changed, reading all of them and evaluating every port is faster.
pub const MOST_CHANGED: usize = 64;

/// What is armed in one bridge namespace, and which bridges are joined there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segments {
    /// Armed ports with inner ends, by ifindex.
    pub armed: BTreeMap<u32, Eligible>,
    /// The ends of trunks that frames may cross, by ifindex. The trunks of a segment form a tree.
    pub trunk_ends: BTreeMap<u32, Eligible>,
    /// Why each port is not armed, by counter; `None` for one that is.
    pub states: BTreeMap<u32, Option<NotArmed>>,
    /// The same for trunks, by number.
    pub trunk_states: BTreeMap<u16, Option<NotArmed>>,
    /// The same for guest ports, by ifindex.
    pub guests: BTreeMap<u32, Option<NotArmed>>,
    /// The largest MTU of an inner end.
    pub largest_mtu: u32,
    /// The lab's bridges that exist, by ifindex.
    pub bridges: BTreeMap<u32, LabBridge>,
}

impl Segments {
    /// Evaluates every port and trunk.
    #[must_use]
    pub fn new(layout: &Layout, facts: &NetnsState) -> Self {
        let bridge = |bridge: &LabBridge| Some((facts.link(&bridge.name)?.ifindex, bridge.clone()));
        let mut segments = Self {
            bridges: layout.bridges.iter().filter_map(bridge).collect(),
            largest_mtu: facts.largest_mtu(),
            ..Self::default()
        };
        for port in &layout.ports {
            let armed = segments.evaluate(port, facts);
            segments.armed.extend(armed.map(|armed| (armed.port, armed)));
        }
        for trunk in &layout.trunks {
            let ends = eligible_trunk(trunk, layout, facts);
            segments.trunk_states.insert(trunk.number, ends.as_ref().err().cloned());
            segments.trunk_ends.extend(ends.into_iter().flatten().map(|end| (end.port, end)));
        }
        segments.bar_loops();
        segments
    }

    /// Evaluates the ports among the links that have [changed](super::netns_state::Dirty::changed). Returns those, by
    /// ifindex, whose stations may have changed; `None` if any may have, and everything is to be evaluated.
    #[must_use]
    pub fn update(&mut self, layout: &Layout, facts: &NetnsState) -> Option<BTreeSet<u32>> {
        let changed = &facts.dirty.changed;
        let names: BTreeSet<&str> = changed.iter().map(|(_, name)| name.as_str()).collect();
        let has_changed = |name: &str| names.contains(name);
        let is_shared = |bridge: &LabBridge| has_changed(bridge.name.as_str());
        if changed.len() > MOST_CHANGED
            || layout.bridges.iter().any(is_shared)
            || self.largest_mtu != facts.largest_mtu()
        {
            return None;
        }
        for trunk in &layout.trunks {
            if has_changed(trunk.a.port.as_str()) || has_changed(trunk.b.port.as_str()) {
                let ends = eligible_trunk(trunk, layout, facts);
                let is_known = |end: &Eligible| self.trunk_ends.get(&end.port) == Some(end);
                let stays = match &ends {
                    Ok(ends) => ends.iter().all(is_known),
                    Err(reason) => self.trunk_states.get(&trunk.number) == Some(&Some(reason.clone())),
                };
                if !stays {
                    return None;
                }
            }
        }
        let ifindexes: BTreeSet<u32> = changed.iter().map(|(ifindex, _)| *ifindex).collect();
        let is_it = |port: &&LabPort| match port.guest {
            Some(ifindex) => ifindexes.contains(&ifindex),
            None => has_changed(port.port.as_str()),
        };
        let mut affected = BTreeSet::new();
        for port in layout.ports.iter().filter(is_it) {
            let before = self.armed.values().find(|known| known.counter == port.counter).copied();
            let now = self.evaluate(port, facts);
            if before != now {
                affected.extend(before.iter().chain(&now).map(|port| port.port));
                self.armed.retain(|_, known| Some(*known) != before);
                self.armed.extend(now.map(|now| (now.port, now)));
            }
        }
        Some(affected)
    }

    /// Evaluates a port, and records its state. Returns what is armed.
    fn evaluate(&mut self, port: &LabPort, facts: &NetnsState) -> Option<Eligible> {
        let result = eligible(port, facts);
        let (now, reason) = (result.as_ref().ok().copied(), result.err());
        let _ = match port.guest {
            Some(ifindex) => self.guests.insert(ifindex, reason),
            None => self.states.insert(port.counter, reason),
        };
        now
    }

    /// Bars trunks where eligible ones form a loop that spanning tree is about to open. The path of a frame cannot be
    /// determined there, so no trunk of that segment may be crossed.
    fn bar_loops(&mut self) {
        let mut first: BTreeMap<u32, u32> = self.bridges.keys().map(|&bridge| (bridge, bridge)).collect();
        let mut looped = Vec::new();
        let trunks: Vec<(u16, u32, u32)> =
            self.trunk_ends.values().filter_map(|end| self.trunk(end)).collect();
        for (_, from, to) in trunks.iter().filter(|(crossing, ..)| crossing.is_multiple_of(2)) {
            let (Some(&a), Some(&b)) = (first.get(from), first.get(to)) else { continue };
            if a == b {
                looped.push(*from);
            }
            first.values_mut().filter(|one| **one == a).for_each(|one| *one = b);
        }
        let looped: Vec<_> = looped.iter().filter_map(|bridge| first.get(bridge)).collect();
        let is_looped = |bridge: &u32| first.get(bridge).is_some_and(|one| looped.contains(&one));
        for (crossing, ..) in trunks.iter().filter(|(_, from, _)| is_looped(from)) {
            self.trunk_states.insert(crossing / 2, Some(NotArmed::Loop));
        }
        self.trunk_ends.retain(|_, end| !is_looped(&end.bridge));
    }

    /// The crossing of a trunk from one of its ends, and the bridges that it leads from and to.
    fn trunk(&self, end: &Eligible) -> Option<(u16, u32, u32)> {
        let (crossing, other) = end.across?;
        Some((crossing, end.bridge, self.trunk_ends.get(&other)?.bridge))
    }

    /// The ports, by ifindex, that XDP may redirect to.
    #[must_use]
    pub fn receivers(&self) -> BTreeSet<u32> {
        self.armed.values().filter(|port| port.xdp).map(|port| port.port).collect()
    }
}
