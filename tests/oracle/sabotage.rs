//! Rules made wrong on purpose, behind the agent's back: whoever cannot see these sees nothing.

use std::collections::BTreeSet;

use vethpath_common::{Source, SourceKey, Station, StationKey, flags};

use super::{maps::Books, names::Mac, world::World};

/// Something wrong in the accelerated world.
pub(crate) trait Sabotage {
    /// Makes it wrong; the agent has just put everything right.
    fn spoil(&mut self, world: &World);
    /// Puts back what the agent left.
    fn restore(&mut self, world: &World);
}

/// Changes what the agent has written, given what it wrote first of all.
pub(crate) type Rule = fn(&mut Books, &Books);

/// Entries that no agent would write: what one that knew a rule less would have.
pub(crate) struct WrongEntries {
    rule: Rule,
    /// What the agent wrote first of all, when every port was armed.
    first: Option<Books>,
    /// What the agent left, and what was made of it.
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
        // What was kept from earlier would be void.
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

/// Isolated ports talk to each other.
pub(crate) fn isolation_is_ignored(books: &mut Books, _: &Books) {
    books.sources.values_mut().for_each(|source| source.flags &= !flags::ISOLATED);
    books.stations.values_mut().for_each(|station| station.flags &= !flags::ISOLATED);
}

/// Any port may send as any station.
pub(crate) fn sources_are_not_checked(books: &mut Books, first: &Books) {
    let stations: Vec<_> = books.stations.keys().map(mac).collect();
    stations.into_iter().for_each(|mac| everywhere(books, first, mac));
}

/// Who was never seen may send: nobody learns who it is.
pub(crate) fn strangers_are_known(books: &mut Books, first: &Books) {
    (0..5).for_each(|host| everywhere(books, first, [2, 0, 0, 0xbe, host, 1]));
}

/// `mac` may send by every port that is armed.
fn everywhere(books: &mut Books, first: &Books, mac: Mac) {
    let armed = armed(books);
    for (key, source) in first.sources.iter().filter(|(key, _)| armed.contains(&ifindex(key))) {
        let key = SourceKey::new(ifindex(key), mac.into(), domain(key));
        books.sources.entry(key).or_insert(Source { flags: 0, ..*source });
    }
}

/// Whatever becomes of a port, it stays armed.
pub(crate) fn ports_stay_armed(books: &mut Books, first: &Books) {
    for (key, source) in &first.sources {
        books.sources.entry(*key).or_insert(*source);
    }
    for (key, station) in &first.stations {
        books.stations.entry(*key).or_insert(*station);
    }
}

/// What the bridge has forgotten stays known, at ports that are armed.
pub(crate) fn nothing_is_forgotten(books: &mut Books, first: &Books) {
    let armed = armed(books);
    let mut kept = first.clone();
    kept.sources.retain(|key, _| armed.contains(&ifindex(key)));
    kept.stations.retain(|_, station| armed.contains(&station.ifindex));
    ports_stay_armed(books, &kept);
}

/// Every station is thought to be behind the port of the next one.
pub(crate) fn stations_are_elsewhere(books: &mut Books, _: &Books) {
    let stations: Vec<Station> = books.stations.values().copied().collect();
    let next = stations.iter().cycle().skip(1);
    books.stations.values_mut().zip(next).for_each(|(station, next)| *station = *next);
}

/// Everything goes straight into the namespace, also what is for others behind the host.
pub(crate) fn all_is_for_the_host_itself(books: &mut Books, _: &Books) {
    books.stations.values_mut().for_each(|station| station.flags &= !flags::VIA_PORT);
}

/// Frames of any size fit.
pub(crate) fn sizes_are_not_checked(books: &mut Books, _: &Books) {
    books.stations.values_mut().for_each(|station| station.mtu = u32::MAX);
}

/// What br_netfilter would drop is delivered.
pub(crate) fn netfilter_is_ignored(books: &mut Books, _: &Books) {
    books.sources.values_mut().for_each(|source| source.flags &= !flags::VALIDATE);
}

/// What is for the bridge goes to a host.
pub(crate) fn the_bridge_is_a_station(books: &mut Books, _: &Books) {
    let first = books.stations.iter().next().map(|(key, station)| (bridge(key), *station));
    if let Some((bridge, station)) = first {
        books.stations.insert(StationKey::new(bridge, [2, 0, 0, 0, 0, 0xb0].into()), station);
    }
}

/// Frames cross bridges that have not learned where their sender is, and do not learn it so.
pub(crate) fn bridges_need_not_learn(books: &mut Books, _: &Books) {
    books.sources.values_mut().for_each(|source| source.reach = u64::MAX);
}

/// What must not be seen: a detour by the port is slower, and nothing else.
pub(crate) fn all_goes_by_the_port(books: &mut Books, _: &Books) {
    books.stations.values_mut().for_each(|station| station.flags |= flags::VIA_PORT);
}

/// The ports that take part in the fast path.
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
