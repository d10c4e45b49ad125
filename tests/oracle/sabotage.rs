//! Rules that are made wrong on purpose, unknown to the agent. An oracle that misses these finds nothing.

use std::collections::BTreeSet;

use vethpath_common::{Source, SourceKey, Station, StationKey, flags};

use super::{maps::MapEntries, names::Mac, world::World};
use crate::harness::VerdictProgram;

/// A fault in the accelerated world.
pub(crate) trait Sabotage {
    /// Injects the fault. The agent has just corrected everything.
    fn spoil(&mut self, world: &World);
    /// Restores what the agent wrote.
    fn restore(&mut self, world: &World);
}

/// Changes what the agent has written. The second argument is what it wrote first.
pub(crate) type Rule = fn(&mut MapEntries, &MapEntries);

/// Entries as an agent that lacks one rule would write them.
pub(crate) struct WrongEntries {
    rule: Rule,
    /// What the agent wrote first, when every port was armed.
    first: Option<MapEntries>,
    /// What the agent wrote, and the changed copy.
    changed: Option<(MapEntries, MapEntries)>,
}

impl WrongEntries {
    pub(crate) fn by(rule: Rule) -> Self {
        Self { rule, first: None, changed: None }
    }
}

impl Sabotage for WrongEntries {
    fn spoil(&mut self, world: &World) {
        let before = MapEntries::of(world);
        let first = self.first.get_or_insert_with(|| before.clone());
        let mut spoiled = before.clone();
        (self.rule)(&mut spoiled, first);
        // Entries of an earlier generation would be stale.
        spoiled.sources.values_mut().for_each(|source| source.generation = before.generation);
        spoiled.stations.values_mut().for_each(|station| station.generation = before.generation);
        spoiled.replace(&before, world);
        self.changed = Some((before, spoiled));
    }

    fn restore(&mut self, world: &World) {
        if let Some((before, spoiled)) = self.changed.take() {
            MapEntries::restore(&before, &spoiled, world);
        }
    }
}

/// Isolated ports reach each other.
pub(crate) fn isolation_is_ignored(entries: &mut MapEntries, _: &MapEntries) {
    entries.sources.values_mut().for_each(|source| source.flags &= !flags::ISOLATED);
    entries.stations.values_mut().for_each(|station| station.flags &= !flags::ISOLATED);
}

/// Any port may send as any station.
pub(crate) fn sources_are_not_checked(entries: &mut MapEntries, first: &MapEntries) {
    let stations: Vec<_> = entries.stations.keys().map(mac).collect();
    stations.into_iter().for_each(|mac| everywhere(entries, first, mac));
}

/// Unknown sources may send by the fast path, so no bridge learns them.
pub(crate) fn strangers_are_known(entries: &mut MapEntries, first: &MapEntries) {
    (0..5).for_each(|host| everywhere(entries, first, [2, 0, 0, 0xbe, host, 1]));
}

/// `mac` may send by every armed port.
fn everywhere(entries: &mut MapEntries, first: &MapEntries, mac: Mac) {
    let armed = armed(entries);
    for (key, source) in first.sources.iter().filter(|(key, _)| armed.contains(&ifindex(key))) {
        let key = SourceKey::new(ifindex(key), mac.into(), domain(key));
        entries.sources.entry(key).or_insert(Source { flags: 0, ..*source });
    }
}

/// A port stays armed whatever happens to it.
pub(crate) fn ports_stay_armed(entries: &mut MapEntries, first: &MapEntries) {
    for (key, source) in &first.sources {
        entries.sources.entry(*key).or_insert(*source);
    }
    for (key, station) in &first.stations {
        entries.stations.entry(*key).or_insert(*station);
    }
}

/// Entries that the bridge has removed stay, at armed ports.
pub(crate) fn nothing_is_forgotten(entries: &mut MapEntries, first: &MapEntries) {
    let armed = armed(entries);
    let mut kept = first.clone();
    kept.sources.retain(|key, _| armed.contains(&ifindex(key)));
    kept.stations.retain(|_, station| armed.contains(&station.ifindex));
    ports_stay_armed(entries, &kept);
}

/// Every station's entry leads to the port of the next one.
pub(crate) fn stations_are_elsewhere(entries: &mut MapEntries, _: &MapEntries) {
    let stations: Vec<Station> = entries.stations.values().copied().collect();
    let next = stations.iter().cycle().skip(1);
    entries.stations.values_mut().zip(next).for_each(|(station, next)| *station = *next);
}

/// All frames are redirected to the peer, including those for stations behind the host.
pub(crate) fn all_is_for_the_host_itself(entries: &mut MapEntries, _: &MapEntries) {
    entries.stations.values_mut().for_each(|station| station.flags &= !flags::VIA_PORT);
}

/// Frames of any size fit.
pub(crate) fn sizes_are_not_checked(entries: &mut MapEntries, _: &MapEntries) {
    entries.stations.values_mut().for_each(|station| station.mtu = u32::MAX);
}

/// Frames that br_netfilter would drop are delivered.
pub(crate) fn netfilter_is_ignored(entries: &mut MapEntries, _: &MapEntries) {
    entries.sources.values_mut().for_each(|source| source.flags &= !flags::VALIDATE);
}

/// Frames for the bridge go to a host.
pub(crate) fn the_bridge_is_a_station(entries: &mut MapEntries, _: &MapEntries) {
    let first = entries.stations.iter().next().map(|(key, station)| (bridge(key), *station));
    if let Some((bridge, station)) = first {
        entries.stations.insert(StationKey::new(bridge, [2, 0, 0, 0, 0, 0xb0].into()), station);
    }
}

/// Frames skip bridges that have not learned their source, which then never learn it.
pub(crate) fn bridges_need_not_learn(entries: &mut MapEntries, _: &MapEntries) {
    entries.sources.values_mut().for_each(|source| source.reach = u64::MAX);
}

/// Must not be found: delivery by the port is only slower.
pub(crate) fn all_goes_by_the_port(entries: &mut MapEntries, _: &MapEntries) {
    entries.stations.values_mut().for_each(|station| station.flags |= flags::VIA_PORT);
}

/// The armed ports.
fn armed(entries: &MapEntries) -> BTreeSet<u32> {
    let armed = entries.ports.iter().filter(|(_, record)| record.flags & flags::ARMED != 0);
    armed.map(|(key, _)| key.ifindex).collect()
}

fn ifindex(key: &SourceKey) -> u32 {
    let [ifindex, ..] = bytemuck::cast::<_, [u32; 3]>(*key);
    ifindex
}

fn domain(key: &SourceKey) -> u16 {
    let [.., domain] = bytemuck::cast::<_, [u16; 6]>(*key);
    domain
}

fn bridge(key: &StationKey) -> u32 {
    let [bridge, ..] = bytemuck::cast::<_, [u32; 3]>(*key);
    bridge
}

fn mac(key: &StationKey) -> Mac {
    let [_, _, _, _, mac @ .., _, _] = bytemuck::cast::<_, [u8; 12]>(*key);
    mac
}

/// A program that is attached before all others at a port, and redirects all frames to another port.
pub(crate) struct WrongProgram {
    ports: [String; 2],
    attached: Option<VerdictProgram>,
}

impl WrongProgram {
    /// A program for port `from` that redirects to port `to`.
    pub(crate) fn between(from: &str, to: &str) -> Self {
        Self { ports: [from.to_owned(), to.to_owned()], attached: None }
    }
}

impl Sabotage for WrongProgram {
    fn spoil(&mut self, world: &World) {
        let [from, to] = &self.ports;
        self.attached = Some(VerdictProgram::redirect(world.here(), from, to));
    }

    fn restore(&mut self, _: &World) {
        self.attached = None;
    }
}
