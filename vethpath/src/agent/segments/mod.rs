//! Segments: the bridges that eligible trunks join, and the paths of frames across them. Pure.
//!
//! A path follows the bridges' FDBs: on each bridge, it leaves by the port behind which the destination is known. The
//! eligible trunks of a segment form a tree. So there is at most one path from a bridge to another, and its bridges
//! identify it. Paths have numbers, by which programs count: see [`Paths`].

use std::collections::BTreeMap;

use vethpath_common::{MOST_BRIDGES, Path};

use super::{
    NotArmed,
    eligible::{Eligible, eligible, eligible_trunk},
    fdb::Fdb,
    layout::{LabBridge, LabTrunk, Layout},
    netns_state::NetnsState,
};
use crate::kernel::FdbEntry;

/// What is armed in one bridge namespace, and which bridges are joined there. Follows from its links, without its FDBs.
#[derive(Clone, Debug, Default)]
pub struct Segments {
    /// Armed ports with inner ends, by ifindex.
    pub armed: BTreeMap<u32, Eligible>,
    /// Why each port is not armed, by counter; `None` for one that is.
    pub states: BTreeMap<u32, Option<NotArmed>>,
    /// The same for trunks, by number.
    pub trunk_states: BTreeMap<u16, Option<NotArmed>>,
    /// The same for guest ports, by ifindex.
    pub guests: BTreeMap<u32, Option<NotArmed>>,
    /// Hops across trunks, by the ifindex of the port at which a frame leaves a bridge.
    hops: BTreeMap<u32, Hop>,
    /// The lab's bridges that exist, by ifindex.
    bridges: BTreeMap<u32, LabBridge>,
    /// The largest MTU of an inner end.
    pub largest_mtu: u32,
}

/// The hop across a trunk from one of its ends.
#[derive(Clone, Copy, Debug)]
struct Hop {
    /// As in `Path::crossings`.
    crossing: u16,
    /// The bridge that it leaves.
    bridge: u32,
    /// Whether the port at which it leaves is isolated.
    leaves_isolated: bool,
    /// The port at which it enters the next bridge.
    far_port: u32,
    /// The next bridge.
    far_bridge: u32,
    /// Whether that port is isolated.
    enters_isolated: bool,
    /// For which packets the next bridge calls netfilter, as flags.
    validated: u32,
    /// The lesser MTU of the trunk's ends.
    mtu: u32,
}

/// The path from a bridge to a station.
#[derive(Clone, Debug)]
pub struct SegmentPath<'a> {
    /// The port behind which the station is.
    pub to: &'a Eligible,
    /// The trunks on the path, as in `Path::crossings`.
    pub crossings: Vec<u16>,
    /// The bridges on the path, one bit each.
    pub bridges: u64,
    /// Least MTU on the path, the receiver's inner end included.
    pub mtu: u32,
    /// The port at which the path leaves its first bridge.
    pub exit: u32,
    /// Whether that port is isolated.
    pub isolated: bool,
    /// For which packets a bridge after the first calls netfilter, as flags.
    pub validated: u32,
}

impl Segments {
    /// Evaluates every port and trunk.
    #[must_use]
    pub fn new(layout: &Layout, facts: &NetnsState) -> Self {
        let bridge = |bridge: &LabBridge| Some((facts.link(&bridge.name)?.ifindex, bridge.clone()));
        let mut segments = Self {
            bridges: layout.bridges.iter().filter_map(bridge).collect(),
            largest_mtu: facts.inner.values().map(|inner| inner.mtu).max().unwrap_or_default(),
            ..Self::default()
        };
        for lab_port in &layout.ports {
            let state = match eligible(lab_port, facts) {
                Ok(port) => {
                    segments.armed.insert(port.on.port, port);
                    None
                }
                Err(reason) => Some(reason),
            };
            match lab_port.guest {
                Some(ifindex) => segments.guests.insert(ifindex, state),
                None => segments.states.insert(lab_port.counter, state),
            };
        }
        layout.trunks.iter().for_each(|trunk| segments.add_trunk(trunk, facts));
        segments.bar_loops();
        segments
    }

    fn add_trunk(&mut self, trunk: &LabTrunk, facts: &NetnsState) {
        let ends = match eligible_trunk(trunk, facts) {
            Ok(ends) => ends,
            Err(reason) => {
                self.trunk_states.insert(trunk.number, Some(reason));
                return;
            }
        };
        self.trunk_states.insert(trunk.number, None);
        let mtu = ends[0].mtu.min(ends[1].mtu);
        for (from, to, direction) in [(&ends[0], &ends[1], 0), (&ends[1], &ends[0], 1)] {
            let hop = Hop {
                crossing: trunk.number * 2 + direction,
                bridge: from.bridge,
                leaves_isolated: from.isolated,
                far_port: to.port,
                far_bridge: to.bridge,
                enters_isolated: to.isolated,
                validated: to.validated,
                mtu,
            };
            self.hops.insert(from.port, hop);
        }
    }

    /// Bars trunks where eligible ones form a loop that spanning tree is about to open. The path of a frame cannot be
    /// determined there, so no trunk of that segment may be crossed.
    fn bar_loops(&mut self) {
        let mut first: BTreeMap<u32, u32> = self.bridges.keys().map(|&bridge| (bridge, bridge)).collect();
        let mut looped = Vec::new();
        for hop in self.hops.values().filter(|hop| hop.crossing.is_multiple_of(2)) {
            let (Some(&a), Some(&b)) = (first.get(&hop.bridge), first.get(&hop.far_bridge)) else { continue };
            if a == b {
                looped.push(hop.bridge);
            }
            first.values_mut().filter(|one| **one == a).for_each(|one| *one = b);
        }
        let looped: Vec<_> = looped.iter().filter_map(|bridge| first.get(bridge)).collect();
        let is_looped = |hop: &Hop| first.get(&hop.bridge).is_some_and(|one| looped.contains(&one));
        for hop in self.hops.values().filter(|hop| is_looped(hop)) {
            self.trunk_states.insert(hop.crossing / 2, Some(NotArmed::Loop));
        }
        self.hops.retain(|_, hop| !is_looped(hop));
    }

    /// The lab's bridge with this ifindex.
    #[must_use]
    pub fn bridge(&self, ifindex: u32) -> Option<&LabBridge> {
        self.bridges.get(&ifindex)
    }

    fn bit(&self, bridge: u32) -> Option<u64> {
        self.bridges.get(&bridge).map(|bridge| 1 << bridge.bit)
    }

    /// The path of a frame from `bridge` to `mac`, if one redirect may take it there.
    #[must_use]
    pub fn path(&self, fdb: &Fdb, bridge: u32, mac: [u8; 6]) -> Option<SegmentPath<'_>> {
        let (mut at, mut bridges) = (bridge, self.bit(bridge)?);
        let (mut crossings, mut mtu) = (Vec::new(), u32::MAX);
        let (mut first, mut validated) = (None, 0);
        let mut entered_isolated = false;
        loop {
            let port = trusted(fdb, at, mac)?.port;
            let hop = self.hops.get(&port).filter(|hop| hop.bridge == at);
            let to = self.armed.get(&port).filter(|to| to.on.bridge == at);
            let leaves_isolated = hop.map(|hop| hop.leaves_isolated).or(to.map(|to| to.on.isolated))?;
            // `should_deliver` of each bridge after the first. For the first, the program checks isolation.
            if entered_isolated && leaves_isolated {
                return None;
            }
            let (exit, isolated) = *first.get_or_insert((port, leaves_isolated));
            if let Some(to) = to {
                mtu = mtu.min(to.on.mtu);
                return Some(SegmentPath { to, crossings, bridges, mtu, exit, isolated, validated });
            }
            let hop = hop?;
            let bit = self.bit(hop.far_bridge)?;
            if bridges & bit != 0 {
                return None;
            }
            crossings.push(hop.crossing);
            (at, bridges, mtu) = (hop.far_bridge, bridges | bit, mtu.min(hop.mtu));
            validated |= hop.validated;
            entered_isolated = hop.enters_isolated;
        }
    }

    /// The bridges, from `bridge` on, that know `mac` behind the right port, one bit each. A frame from `mac` changes
    /// nothing in their FDBs.
    #[must_use]
    pub fn reach(&self, fdb: &Fdb, bridge: u32, mac: [u8; 6]) -> u64 {
        let mut reach = self.bit(bridge).unwrap_or_default();
        let mut next = vec![bridge];
        while let Some(at) = next.pop() {
            for hop in self.hops.values().filter(|hop| hop.bridge == at) {
                let Some(bit) = self.bit(hop.far_bridge) else { continue };
                let knows = trusted(fdb, hop.far_bridge, mac).is_some_and(|entry| entry.port == hop.far_port);
                if knows && reach & bit == 0 {
                    reach |= bit;
                    next.push(hop.far_bridge);
                }
            }
        }
        reach
    }
}

/// The entry of an address on a bridge, if the fast path may follow it.
fn trusted(fdb: &Fdb, bridge: u32, mac: [u8; 6]) -> Option<&FdbEntry> {
    fdb.get(bridge, mac, 0).filter(|entry| entry.trusted)
}

/// Numbers for paths across trunks. A number stands for the same trunks as long as the lab is up: counts under it stay
/// true when spanning tree chooses other paths.
#[derive(Clone, Debug)]
pub struct Paths {
    numbers: BTreeMap<Vec<u16>, u32>,
    /// The greatest number; 0 if there is none.
    greatest: u32,
    /// One more than the greatest number that there is room for.
    end: u32,
}

impl Paths {
    /// Paths that an earlier agent numbered, in a map of `room` entries. That agent may have been killed before it
    /// had written all of them.
    #[must_use]
    pub fn known(paths: impl IntoIterator<Item = (u32, Path)>, room: u32) -> Self {
        let crossings = |path: Path| path.crossings.into_iter().take_while(|&one| one != Path::END).collect();
        let numbers: BTreeMap<Vec<u16>, u32> =
            paths.into_iter().map(|(number, path)| (crossings(path), number)).collect();
        Self { greatest: numbers.values().copied().max().unwrap_or_default(), numbers, end: room }
    }

    /// The number of a path; 0 if it crosses no trunk. `None` if there is no room for another.
    pub fn number_of(&mut self, crossings: &[u16]) -> Option<u32> {
        if crossings.is_empty() {
            return Some(0);
        }
        if let Some(&number) = self.numbers.get(crossings) {
            return Some(number);
        }
        let next = self.greatest + 1;
        if next >= self.end || crossings.len() > MOST_BRIDGES {
            return None;
        }
        self.numbers.insert(crossings.to_vec(), next);
        self.greatest = next;
        Some(next)
    }

    /// Paths with numbers above `written`, in the format of the map.
    pub fn beyond(&self, written: u32) -> impl Iterator<Item = (u32, Path)> {
        self.numbers.iter().filter(move |(_, number)| **number > written).map(|(crossings, &number)| {
            let mut path = Path { crossings: [Path::END; MOST_BRIDGES] };
            path.crossings[..crossings.len()].copy_from_slice(crossings);
            (number, path)
        })
    }

    /// The greatest number that was assigned.
    #[must_use]
    pub fn greatest(&self) -> u32 {
        self.greatest
    }
}

#[cfg(test)]
mod tests;
