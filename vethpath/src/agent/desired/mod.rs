//! What the maps should hold, computed from the known state. Pure.
//!
//! A path follows the bridges' FDBs: on each bridge, it leaves by the port behind which the destination is known. The
//! trunks of a segment form a tree. So there is at most one path from a bridge to another, and its bridges identify it.

use std::collections::BTreeMap;

use netlink_packet_route::link::BridgePortState;
use vethpath_common::{NO_PAIR, PortKey, PortRecord, Source, SourceKey, Station, StationKey, flags};

use super::{
    eligible::Eligible,
    fdb::Fdb,
    layout::Layout,
    netns_state::{Dirty, NetnsState},
    paths::Paths,
    segments::Segments,
};
use crate::kernel::{FdbEntry, LinkFacts, PortAttribute};

/// A bridge namespace, by its number in the map keys, and an address there.
pub type Address = (u16, [u8; 6]);

/// What the maps should hold, or the part of it that may have changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// Whether this is everything. Otherwise, what is not here has not changed.
    pub is_whole: bool,
    /// The record of each port, for counting frames that the fast path does not take; `None` for one that is gone.
    pub ports: BTreeMap<PortKey, Option<PortRecord>>,
    /// What the maps hold of each address.
    pub stations: BTreeMap<Address, Entries>,
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

impl Desired {
    /// Adds everything of a bridge namespace, or what follows from its changed links and stations, which are clean then.
    /// `paths` numbers the paths across trunks.
    pub fn add(&mut self, layout: &Layout, segments: &Segments, facts: &mut NetnsState, paths: &mut Paths) {
        let Dirty { changed, stations, .. } = &mut facts.dirty;
        let (changed, stations) = (std::mem::take(changed), std::mem::take(stations));
        let key = |ifindex| PortKey { ifindex, domain: layout.domain.into() };
        let add = |mac| {
            let address = (layout.domain, mac);
            let _ = self.stations.insert(address, entries(segments, &facts.fdb, address, paths));
        };
        if !self.is_whole {
            stations.into_iter().for_each(add);
            self.ports.extend(changed.into_iter().map(|(ifindex, _)| {
                let link = facts.links.get(&ifindex);
                let record = link.and_then(|link| Some(record(segments, link, layout.pair_of(link)?)));
                (key(ifindex), record)
            }));
            return;
        }
        facts.fdb.macs().for_each(add);
        let pairs = layout.ports.iter().filter_map(|port| Some((facts.link_of(port)?, port.counter)));
        let trunks = layout.trunk_ends().filter_map(|end| Some((facts.link(&end.port)?, NO_PAIR)));
        let records =
            pairs.chain(trunks).map(|(link, pair)| (key(link.ifindex), record(segments, link, pair)));
        self.ports.extend(records.map(|(key, record)| (key, Some(record))));
    }
}

/// The record of a port. Its bridge is the one that it is on, even if the file has another: that bridge learns from its
/// frames.
fn record(segments: &Segments, link: &LinkFacts, pair: u32) -> PortRecord {
    let bridge = link.controller.and_then(|controller| segments.bridges.get(&controller));
    let flags = flag(segments.armed.contains_key(&link.ifindex), flags::ARMED)
        | flag(is_deaf(link), flags::NO_LEARNING);
    PortRecord { pair, flags, bridge: bridge.map_or(0, |bridge| bridge.number) }
}

/// The entries of an address in the bridge namespace `domain`.
fn entries(segments: &Segments, fdb: &Fdb, (domain, mac): Address, paths: &mut Paths) -> Entries {
    let mut entries = Entries::default();
    if mac[0] & 1 != 0 {
        return entries;
    }
    for entry in fdb.of(mac).iter().filter(|entry| entry.trusted && entry.vlan == 0) {
        let Some(bridge) = segments.bridges.get(&entry.bridge) else { continue };
        if let Some((station, crossings)) = station(segments, fdb, entry.bridge, mac) {
            match paths.number_of(&crossings) {
                Some(path) => {
                    let key = StationKey::new(bridge.number, mac.into());
                    entries.stations.push((key, Station { path, ..station }));
                }
                None => entries.is_unnumbered = true,
            }
        }
        if let Some(port) = segments.armed.get(&entry.port)
            && port.bridge == entry.bridge
        {
            let reach = reach(segments, fdb, entry.bridge, mac);
            let key = SourceKey::new(port.port, mac.into(), domain);
            entries.sources.push((key, source(bridge.number, port, reach)));
            entries.is_own |= port.mac == Some(mac);
        }
    }
    entries.sources.sort_unstable_by_key(|(key, _)| *key);
    entries.stations.sort_unstable_by_key(|(key, _)| *key);
    entries
}

fn source(bridge: u32, port: &Eligible, reach: u64) -> Source {
    let flags = flag(port.isolated, flags::ISOLATED) | port.validated | flag(port.xdp, flags::NO_OFFLOAD);
    Source { bridge, pair: port.counter, flags, reach, ..Source::default() }
}

/// An address as a receiver of frames that enter by `bridge`, if one redirect may take them there; and the trunks on the
/// path, as in `Path::crossings`.
fn station(segments: &Segments, fdb: &Fdb, bridge: u32, mac: [u8; 6]) -> Option<(Station, Vec<u16>)> {
    let (mut at, mut bridges) = (bridge, bit(segments, bridge)?);
    let (mut crossings, mut mtu) = (Vec::new(), u32::MAX);
    let (mut first, mut validated) = (None, 0);
    let mut entered_isolated = false;
    loop {
        let port = trusted(fdb, at, mac)?.port;
        let port = segments.armed.get(&port).or_else(|| segments.trunk_ends.get(&port));
        let port = port.filter(|port| port.bridge == at)?;
        // `should_deliver` of each bridge after the first. For the first, the program checks isolation.
        if entered_isolated && port.isolated {
            return None;
        }
        let exit: &Eligible = first.get_or_insert(port);
        mtu = mtu.min(port.mtu);
        let Some((crossing, other)) = port.across else {
            // `bpf_redirect_peer` makes every frame one for the host in the namespace.
            let via_port = port.via_port || port.mac != Some(mac);
            let flags = flag(exit.isolated, flags::ISOLATED)
                | flag(via_port, flags::VIA_PORT)
                | flag(mtu >= segments.largest_mtu, flags::MTU_ANY)
                | validated;
            let (ifindex, pair, exit) = (port.port, port.counter, exit.port);
            return Some((
                Station { ifindex, pair, mtu, flags, bridges, exit, ..Station::default() },
                crossings,
            ));
        };
        let far = segments.trunk_ends.get(&other)?;
        let bit = bit(segments, far.bridge)?;
        if bridges & bit != 0 {
            return None;
        }
        crossings.push(crossing);
        (at, bridges, entered_isolated) = (far.bridge, bridges | bit, far.isolated);
        // Of each bridge after the first: the sender's entry has those of the first.
        validated |= far.validated;
    }
}

/// The bridges, from `bridge` on, that know `mac` behind the right port, one bit each. A frame from `mac` changes
/// nothing in their FDBs.
fn reach(segments: &Segments, fdb: &Fdb, bridge: u32, mac: [u8; 6]) -> u64 {
    let mut reach = bit(segments, bridge).unwrap_or_default();
    let mut next = vec![bridge];
    while let Some(at) = next.pop() {
        let ends = segments.trunk_ends.values().filter(|end| end.bridge == at);
        for far in ends.filter_map(|end| segments.trunk_ends.get(&end.across?.1)) {
            let Some(bit) = bit(segments, far.bridge) else { continue };
            let knows = trusted(fdb, far.bridge, mac).is_some_and(|entry| entry.port == far.port);
            if knows && reach & bit == 0 {
                reach |= bit;
                next.push(far.bridge);
            }
        }
    }
    reach
}

/// The bit of a bridge in its segment.
fn bit(segments: &Segments, bridge: u32) -> Option<u64> {
    segments.bridges.get(&bridge).map(|bridge| 1 << bridge.bit)
}

/// The entry of an address on a bridge, if the fast path may follow it.
fn trusted(fdb: &Fdb, bridge: u32, mac: [u8; 6]) -> Option<&FdbEntry> {
    fdb.get(bridge, mac, 0).filter(|entry| entry.trusted)
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
