//! What the maps should hold, computed from the known state. Pure.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_route::link::BridgePortState;
use vethpath_common::{NO_PAIR, PortKey, PortRecord, Source, SourceKey, Station, StationKey, flags};

use super::{
    NotArmed,
    eligible::Eligible,
    fdb::Fdb,
    layout::Layout,
    netns_state::NetnsState,
    segments::{Paths, SegmentPath, Segments},
};
use crate::kernel::{LinkFacts, PortAttribute};

/// A bridge namespace, by its number in the map keys, and an address there.
pub type Address = (u16, [u8; 6]);

/// What the maps should hold, or the part of it that may have changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// The ports. Without them, `stations` is a part: other addresses have not changed.
    pub ports: Option<Ports>,
    /// What the maps hold of each address.
    pub stations: BTreeMap<Address, Entries>,
}

/// The ports in the maps, and the state of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ports {
    /// All ports, for counting.
    pub records: BTreeMap<PortKey, PortRecord>,
    /// Ports that XDP may redirect to, by domain and ifindex.
    pub receivers: BTreeSet<(u16, u32)>,
    /// Why each port is not armed, by counter; `None` for one that is.
    pub states: BTreeMap<u32, Option<NotArmed>>,
    /// The same for trunks, by number.
    pub trunk_states: BTreeMap<u16, Option<NotArmed>>,
    /// The same for guest ports, by domain and ifindex.
    pub guests: BTreeMap<(u16, u32), Option<NotArmed>>,
}

/// The entries of one address in the maps. `generation` is filled in when they are written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entries {
    /// As a sender, on each port behind which a bridge knows it.
    pub sources: Vec<(SourceKey, Source)>,
    /// As a receiver, for frames that enter by each bridge.
    pub stations: Vec<(StationKey, Station)>,
    /// Whether it is the MAC of an armed port's inner end.
    pub is_own: bool,
    /// Whether something is left out because its path across trunks has no number.
    pub is_unnumbered: bool,
}

impl Entries {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sources.len() + self.stations.len()
    }
}

impl Ports {
    /// Adds those of one bridge namespace.
    pub fn add(&mut self, layout: &Layout, segments: &Segments, facts: &NetnsState) {
        for lab_port in &layout.ports {
            self.add_port(layout, segments, facts.link_of(lab_port), lab_port.counter);
        }
        for end in layout.trunks.iter().flat_map(|trunk| &trunk.ends) {
            self.add_port(layout, segments, facts.link(&end.port), NO_PAIR);
        }
        let receivers = segments.armed.values().filter(|port| port.xdp);
        self.receivers.extend(receivers.map(|port| (layout.domain, port.on.port)));
        self.states.extend(segments.states.clone());
        let guests =
            segments.guests.iter().map(|(ifindex, state)| ((layout.domain, *ifindex), state.clone()));
        self.guests.extend(guests);
        self.trunk_states.extend(segments.trunk_states.clone());
    }

    /// Adds a port, for counting frames that the fast path does not take. Its bridge is the one that it is on, even
    /// if the file has another: that bridge learns from its frames.
    fn add_port(&mut self, layout: &Layout, segments: &Segments, port: Option<&LinkFacts>, pair: u32) {
        let Some(link) = port else { return };
        let bridge = link.controller.and_then(|controller| segments.bridge(controller));
        let key = PortKey { ifindex: link.ifindex, domain: layout.domain.into() };
        let flags = flag(segments.armed.contains_key(&link.ifindex), flags::ARMED)
            | flag(is_deaf(link), flags::NO_LEARNING);
        self.records
            .insert(key, PortRecord { pair, flags, bridge: bridge.map_or(0, |bridge| bridge.number) });
    }
}

/// The entries of an address in the bridge namespace `domain`. `paths` numbers the paths across trunks.
#[must_use]
pub fn entries(segments: &Segments, fdb: &Fdb, (domain, mac): Address, paths: &mut Paths) -> Entries {
    let mut entries = Entries::default();
    if mac[0] & 1 != 0 {
        return entries;
    }
    for entry in fdb.of(mac).iter().filter(|entry| entry.trusted && entry.vlan == 0) {
        let Some(bridge) = segments.bridge(entry.bridge) else { continue };
        if let Some(path) = segments.path(fdb, entry.bridge, mac) {
            match paths.number_of(&path.crossings) {
                Some(number) => {
                    let key = StationKey::new(bridge.number, mac.into());
                    entries.stations.push((key, station(mac, &path, number, segments.largest_mtu)));
                }
                None => entries.is_unnumbered = true,
            }
        }
        if let Some(port) = segments.armed.get(&entry.port)
            && port.on.bridge == entry.bridge
        {
            let reach = segments.reach(fdb, entry.bridge, mac);
            let key = SourceKey::new(port.on.port, mac.into(), domain);
            entries.sources.push((key, source(bridge.number, port, reach)));
            entries.is_own |= port.mac == Some(mac);
        }
    }
    entries.sources.sort_unstable_by_key(|(key, _)| *key);
    entries.stations.sort_unstable_by_key(|(key, _)| *key);
    entries
}

fn source(bridge: u32, port: &Eligible, reach: u64) -> Source {
    let flags =
        flag(port.on.isolated, flags::ISOLATED) | port.on.validated | flag(port.xdp, flags::NO_OFFLOAD);
    Source { bridge, pair: port.counter, flags, reach, ..Source::default() }
}

fn station(mac: [u8; 6], path: &SegmentPath<'_>, number: u32, largest_mtu: u32) -> Station {
    let port = path.to;
    // `bpf_redirect_peer` makes every frame one for the host in the namespace.
    let via_port = port.via_port || port.mac != Some(mac);
    Station {
        generation: 0,
        ifindex: port.on.port,
        pair: port.counter,
        mtu: path.mtu,
        flags: flag(path.isolated, flags::ISOLATED)
            | flag(via_port, flags::VIA_PORT)
            | path.validated
            | flag(path.mtu >= largest_mtu, flags::MTU_ANY),
        path: number,
        bridges: path.bridges,
        exit: path.exit,
        zero: 0,
        away_until_ns: 0,
    }
}

/// Whether a bridge does not learn from frames of a port (`br_handle_frame_finish` in net/bridge/br_input.c). If that
/// is unknown, it may learn.
fn is_deaf(port: &LinkFacts) -> bool {
    use BridgePortState as State;
    port.port.iter().flatten().any(|attribute| {
        matches!(
            attribute,
            PortAttribute::State(State::Disabled | State::Blocking | State::Listening)
                | PortAttribute::Learning(false)
        )
    })
}

fn flag(is_set: bool, flag: u32) -> u32 {
    if is_set { flag } else { 0 }
}

#[cfg(test)]
mod tests;
