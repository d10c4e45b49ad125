//! Rules that are made wrong on purpose, unknown to the agent. An oracle that misses these finds nothing.

use std::collections::BTreeSet;

use vethpath_common::{Source, SourceKey, Station, StationKey, flags};

use super::{maps::Books, names::Mac, world::World};

/// A fault in the accelerated world.
pub(crate) trait Sabotage {
    /// Injects the fault. The agent has just corrected everything.
    fn spoil(&mut self, world: &World);
    /// Restores what the agent wrote.
    fn restore(&mut self, world: &World);
}

/// Changes what the agent has written. The second argument is what it wrote first.
pub(crate) type Rule = fn(&mut Books, &Books);

/// Entries as an agent that lacks one rule would write them.
pub(crate) struct WrongEntries {
    rule: Rule,
    /// What the agent wrote first, when every port was armed.
    first: Option<Books>,
    /// What the agent wrote, and the changed copy.
    changed: Option<(Books, Books)>,
}

impl WrongEntries {
    pub(crate) fn by(rule: Rule) -> Self {
        Self { rule, first: None, changed: None }
    }
}

impl Sabotage for WrongEntries {
    fn spoil(&mut self, world: &World) {
        let before = Books::of(world);
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
            Books::put_back(&before, &spoiled, world);
        }
    }
}

/// Isolated ports reach each other.
pub(crate) fn isolation_is_ignored(books: &mut Books, _: &Books) {
    books.sources.values_mut().for_each(|source| source.flags &= !flags::ISOLATED);
    books.stations.values_mut().for_each(|station| station.flags &= !flags::ISOLATED);
}

/// Any port may send as any station.
pub(crate) fn sources_are_not_checked(books: &mut Books, first: &Books) {
    let stations: Vec<_> = books.stations.keys().map(mac).collect();
    stations.into_iter().for_each(|mac| everywhere(books, first, mac));
}

/// Unknown sources may send by the fast path, so no bridge learns them.
pub(crate) fn strangers_are_known(books: &mut Books, first: &Books) {
    (0..5).for_each(|host| everywhere(books, first, [2, 0, 0, 0xbe, host, 1]));
}

/// `mac` may send by every armed port.
fn everywhere(books: &mut Books, first: &Books, mac: Mac) {
    let armed = armed(books);
    for (key, source) in first.sources.iter().filter(|(key, _)| armed.contains(&ifindex(key))) {
        let key = SourceKey::new(ifindex(key), mac.into(), domain(key));
        books.sources.entry(key).or_insert(Source { flags: 0, ..*source });
    }
}

/// A port stays armed whatever happens to it.
pub(crate) fn ports_stay_armed(books: &mut Books, first: &Books) {
    for (key, source) in &first.sources {
        books.sources.entry(*key).or_insert(*source);
    }
    for (key, station) in &first.stations {
        books.stations.entry(*key).or_insert(*station);
    }
}

/// Entries that the bridge has removed stay, at armed ports.
pub(crate) fn nothing_is_forgotten(books: &mut Books, first: &Books) {
    let armed = armed(books);
    let mut kept = first.clone();
    kept.sources.retain(|key, _| armed.contains(&ifindex(key)));
    kept.stations.retain(|_, station| armed.contains(&station.ifindex));
    ports_stay_armed(books, &kept);
}

/// Every station's entry leads to the port of the next one.
pub(crate) fn stations_are_elsewhere(books: &mut Books, _: &Books) {
    let stations: Vec<Station> = books.stations.values().copied().collect();
    let next = stations.iter().cycle().skip(1);
    books.stations.values_mut().zip(next).for_each(|(station, next)| *station = *next);
}

/// All frames are redirected to the peer, including those for stations behind the host.
pub(crate) fn all_is_for_the_host_itself(books: &mut Books, _: &Books) {
    books.stations.values_mut().for_each(|station| station.flags &= !flags::VIA_PORT);
}

/// Frames of any size fit.
pub(crate) fn sizes_are_not_checked(books: &mut Books, _: &Books) {
    books.stations.values_mut().for_each(|station| station.mtu = u32::MAX);
}

/// Frames that br_netfilter would drop are delivered.
pub(crate) fn netfilter_is_ignored(books: &mut Books, _: &Books) {
    books.sources.values_mut().for_each(|source| source.flags &= !flags::VALIDATE);
}

/// Frames for the bridge go to a host.
pub(crate) fn the_bridge_is_a_station(books: &mut Books, _: &Books) {
    let first = books.stations.iter().next().map(|(key, station)| (bridge(key), *station));
    if let Some((bridge, station)) = first {
        books.stations.insert(StationKey::new(bridge, [2, 0, 0, 0, 0, 0xb0].into()), station);
    }
}

/// Frames skip bridges that have not learned their source, which then never learn it.
pub(crate) fn bridges_need_not_learn(books: &mut Books, _: &Books) {
    books.sources.values_mut().for_each(|source| source.reach = u64::MAX);
}

/// Must not be found: delivery by the port is only slower.
pub(crate) fn all_goes_by_the_port(books: &mut Books, _: &Books) {
    books.stations.values_mut().for_each(|station| station.flags |= flags::VIA_PORT);
}

/// The armed ports.
fn armed(books: &Books) -> BTreeSet<u32> {
    let armed = books.ports.iter().filter(|(_, record)| record.flags & flags::ARMED != 0);
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
