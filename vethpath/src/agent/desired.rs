//! What the maps should hold, given what is known. Pure.

use std::collections::BTreeMap;

use vethpath_common::{PortKey, PortRecord, Source, SourceKey, Station, StationKey, flags};

use super::{
    NotArmed,
    eligible::{Eligible, eligible},
    facts::{Facts, LabPort},
};
use crate::kernel::XdpMode;

/// The contents of the maps, and the state of each port.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// All ports, for counting.
    pub ports: BTreeMap<PortKey, PortRecord>,
    /// Stations as senders. `generation` and `seen_ns` are filled in when they are written.
    pub sources: BTreeMap<SourceKey, Source>,
    /// Stations as receivers. `generation` is filled in when they are written.
    pub stations: BTreeMap<StationKey, Station>,
    /// Why each port is not armed, by counter; `None` for one that is.
    pub states: BTreeMap<u32, Option<NotArmed>>,
}

impl Desired {
    /// Adds one bridge namespace. `domain` is its number in the map keys.
    pub fn add(&mut self, domain: u16, ports: &[LabPort], facts: &Facts) {
        let mut armed = BTreeMap::new();
        for lab_port in ports {
            let verdict = eligible(lab_port, facts);
            if let Some(link) = facts.link(&lab_port.port) {
                let key = PortKey { ifindex: link.ifindex, domain: domain.into() };
                let flags = if verdict.is_ok() { flags::ARMED } else { 0 };
                self.ports.insert(key, PortRecord { pair: lab_port.counter, flags });
            }
            match verdict {
                Ok(port) => {
                    self.states.insert(lab_port.counter, None);
                    armed.insert(port.port.ifindex, (lab_port, port));
                }
                Err(reason) => {
                    self.states.insert(lab_port.counter, Some(reason));
                }
            }
        }
        for entry in facts.fdb.values().filter(|entry| entry.trusted && entry.vlan == 0) {
            let Some((lab_port, port)) = armed.get(&entry.port) else { continue };
            if port.bridge == entry.bridge && entry.mac[0] & 1 == 0 {
                self.add_station(domain, lab_port, port, entry.mac);
            }
        }
    }

    fn add_station(&mut self, domain: u16, lab_port: &LabPort, port: &Eligible<'_>, mac: [u8; 6]) {
        let LabPort { segment, counter, .. } = *lab_port;
        let ifindex = port.port.ifindex;
        let isolated = if port.isolated { flags::ISOLATED } else { 0 };
        let validate = if port.validated { flags::VALIDATE } else { 0 };
        let source = Source { generation: 0, segment, pair: counter, flags: isolated | validate, seen_ns: 0 };
        self.sources.insert(SourceKey { ifindex, mac, domain }, source);
        let station = Station {
            generation: 0,
            ifindex,
            pair: counter,
            mtu: port.port.mtu.min(port.inner.mtu),
            flags: isolated | if via_port(port, mac) { flags::VIA_PORT } else { 0 },
        };
        self.stations.insert(StationKey { segment, mac, zero: 0 }, station);
    }
}

/// Whether a frame to `mac` must go out of the port rather than straight into the namespace:
/// `bpf_redirect_peer` makes every frame one for this host, goes past a native XDP program, and
/// drops within one namespace (`skb_do_redirect` in net/core/filter.c).
fn via_port(port: &Eligible<'_>, mac: [u8; 6]) -> bool {
    port.via_port
        || port.inner.mac != Some(mac)
        || port.inner.xdp == XdpMode::Native
        || Facts::shares_namespace(port.port)
}

#[cfg(test)]
mod tests;
