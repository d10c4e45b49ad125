//! What the maps should hold, computed from the known state. Pure.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_route::link::BridgePortState;
use vethpath_common::{NO_PAIR, PortKey, PortRecord, Source, SourceKey, Station, StationKey, flags};

use super::{
    NotArmed,
    eligible::Eligible,
    layout::{LabPort, Layout},
    netns_state::NetnsState,
    segments::{Paths, SegmentPath, Segments},
};
use crate::kernel::{LinkFacts, PortAttribute, XdpMode};

/// The contents of the maps, and the state of each port.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// All ports, for counting.
    pub ports: BTreeMap<PortKey, PortRecord>,
    /// Stations as senders. `generation` is filled in when they are written.
    pub sources: BTreeMap<SourceKey, Source>,
    /// Stations as receivers. `generation` is filled in when they are written.
    pub stations: BTreeMap<StationKey, Station>,
    /// Ports that XDP may redirect to, by domain and ifindex.
    pub receivers: BTreeSet<(u16, u32)>,
    /// Why each port is not armed, by counter; `None` for one that is.
    pub states: BTreeMap<u32, Option<NotArmed>>,
    /// The same for trunks, by number.
    pub trunk_states: BTreeMap<u16, Option<NotArmed>>,
    /// Stations that are left out because their path across trunks has no number.
    pub unnumbered: usize,
}

impl Desired {
    /// Adds one bridge namespace. `paths` numbers the paths across trunks.
    pub fn add(&mut self, layout: &Layout, facts: &NetnsState, paths: &mut Paths) {
        let segments = Segments::new(layout, facts);
        for lab_port in &layout.ports {
            self.add_port(layout, &segments, facts.link(&lab_port.port), lab_port.counter);
        }
        for end in layout.trunks.iter().flat_map(|trunk| &trunk.ends) {
            self.add_port(layout, &segments, facts.link(&end.port), NO_PAIR);
        }
        let receivers = segments.armed.iter().filter(|(_, (_, port))| port.xdp);
        self.receivers.extend(receivers.map(|(&ifindex, _)| (layout.domain, ifindex)));
        let largest_mtu = facts.inner.values().map(|inner| inner.mtu).max().unwrap_or_default();
        for entry in facts.fdb.values().filter(|entry| entry.trusted && entry.vlan == 0) {
            let Some(bridge) = segments.bridge(entry.bridge) else { continue };
            if entry.mac[0] & 1 != 0 {
                continue;
            }
            if let Some(path) = segments.path(entry.bridge, entry.mac) {
                match paths.number_of(&path.crossings) {
                    Some(number) => self.add_station(bridge.number, entry.mac, &path, number, largest_mtu),
                    None => self.unnumbered += 1,
                }
            }
            if let Some((lab_port, port)) = segments.armed.get(&entry.port)
                && port.bridge == entry.bridge
            {
                let reach = segments.reach(entry.bridge, entry.mac);
                self.add_source(layout.domain, bridge.number, lab_port, port, entry.mac, reach);
            }
        }
        self.states.extend(segments.states);
        self.trunk_states.extend(segments.trunk_states);
    }

    /// Adds a port, for counting frames that the fast path does not take. Its bridge is the one that it is on, even
    /// if the file has another: that bridge learns from its frames.
    fn add_port(&mut self, layout: &Layout, segments: &Segments<'_>, port: Option<&LinkFacts>, pair: u32) {
        let Some(link) = port else { return };
        let bridge = link.controller.and_then(|controller| segments.bridge(controller));
        let key = PortKey { ifindex: link.ifindex, domain: layout.domain.into() };
        let flags = flag(segments.armed.contains_key(&link.ifindex), flags::ARMED)
            | flag(is_deaf(link), flags::NO_LEARNING);
        self.ports.insert(key, PortRecord { pair, flags, bridge: bridge.map_or(0, |bridge| bridge.number) });
    }

    fn add_source(
        &mut self,
        domain: u16,
        bridge: u32,
        lab_port: &LabPort,
        port: &Eligible<'_>,
        mac: [u8; 6],
        reach: u64,
    ) {
        let flags = flag(port.isolated, flags::ISOLATED) | port.validated | flag(port.xdp, flags::NO_OFFLOAD);
        let source = Source { bridge, pair: lab_port.counter, flags, reach, ..Source::default() };
        self.sources.insert(SourceKey::new(port.port.ifindex, mac.into(), domain), source);
    }

    fn add_station(
        &mut self,
        bridge: u32,
        mac: [u8; 6],
        path: &SegmentPath<'_>,
        number: u32,
        largest_mtu: u32,
    ) {
        let (lab_port, port) = path.to;
        let station = Station {
            generation: 0,
            ifindex: port.port.ifindex,
            pair: lab_port.counter,
            mtu: path.mtu,
            flags: flag(path.isolated, flags::ISOLATED)
                | flag(via_port(port, mac), flags::VIA_PORT)
                | path.validated
                | flag(path.mtu >= largest_mtu, flags::MTU_ANY),
            path: number,
            bridges: path.bridges,
            exit: path.exit,
            zero: 0,
            away_until_ns: 0,
        };
        self.stations.insert(StationKey::new(bridge, mac.into()), station);
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

/// Whether a frame to `mac` must be sent at the port rather than redirected into the namespace: `bpf_redirect_peer`
/// makes every frame one for this host, bypasses a native XDP program, and drops within one namespace
/// (`skb_do_redirect` in net/core/filter.c).
fn via_port(port: &Eligible<'_>, mac: [u8; 6]) -> bool {
    port.via_port
        || port.inner.mac != Some(mac)
        || port.inner.xdp == XdpMode::Native
        || NetnsState::shares_namespace(port.port)
}

#[cfg(test)]
mod tests;
