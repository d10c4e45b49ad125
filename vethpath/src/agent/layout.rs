//! The parts of a lab in one bridge namespace, as the file declares them. Plain data: no I/O.

use vethpath_common::NO_PAIR;

use super::NotArmed;
use crate::{
    kernel::LinkFacts,
    topology::{Datapath, IfName, NsName, Pair, Place, Topology, Trunk, TrunkEnd},
};

/// What the lab has in one place.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The place.
    pub place: Place,
    /// Its number in the map keys.
    pub domain: u16,
    /// Its ports with inner ends: those of the file, and then those of guests.
    pub ports: Vec<LabPort>,
    /// Its bridges.
    pub bridges: Vec<LabBridge>,
    /// Its trunks with at least one end here.
    pub trunks: Vec<Trunk>,
}

/// A port with an inner end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabPort {
    /// Index of the pair in the counter map.
    pub counter: u32,
    /// Its device name.
    pub port: IfName,
    /// The bridge it should be on.
    pub bridge: IfName,
    /// Why it is never armed; `None` if it may be.
    pub barred: Option<NotArmed>,
    /// The namespace of its inner end, where the file wants an XDP program too.
    pub xdp: Option<NsName>,
    /// The ifindex of a port that another program made; `None` for one of the file.
    pub guest: Option<u32>,
}

/// A bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabBridge {
    /// Its number in the map keys: unique in the lab, and not 0.
    pub number: u32,
    /// Its device name.
    pub name: IfName,
    /// The same number for all bridges that trunks join, eligible or not.
    pub segment: usize,
    /// The bridge's number in its segment: less than `MOST_BRIDGES`, as no file has more bridges.
    pub bit: usize,
    /// Whether ports that other programs make may be armed.
    pub guests: bool,
    /// Whether its ports have programs, apart from those that the file says.
    pub wants_programs: bool,
}

/// The pairs of a topology with the counter that each has. Counter 0 belongs to no pair.
pub fn counted_pairs(topology: &Topology) -> impl Iterator<Item = (u32, &Pair)> {
    topology.pairs.iter().map(|pair| (pair.number, pair))
}

/// The trunks of a topology with the number that each has.
pub fn numbered_trunks(topology: &Topology) -> impl Iterator<Item = (u16, &Trunk)> {
    topology.trunks.iter().map(|trunk| (trunk.number, trunk))
}

impl Layout {
    /// Whether a port wants XDP.
    #[must_use]
    pub fn has_xdp(&self) -> bool {
        self.ports.iter().any(|port| port.xdp.is_some())
    }

    /// What the lab has in the place that is `domain` in the map keys.
    #[must_use]
    pub fn of(topology: &Topology, domain: u16, place: &Place) -> Self {
        let segments = topology.segments();
        let mut bridges: Vec<LabBridge> = Vec::new();
        for (bridge, &segment) in topology.bridges.iter().zip(&segments) {
            if &bridge.place == place {
                let number = topology.bridge_number(place, &bridge.name);
                let bit = bridges.iter().filter(|other| other.segment == segment).count();
                bridges.push(LabBridge {
                    number,
                    name: bridge.name.clone(),
                    segment,
                    bit,
                    guests: bridge.guests,
                    wants_programs: bridge.datapath != Datapath::Bridge,
                });
            }
        }
        for (at, bridge) in topology.adopted.iter().enumerate().filter(|(_, bridge)| &bridge.place == place) {
            bridges.push(LabBridge {
                number: bridge.number,
                name: bridge.name.clone(),
                // No trunk leads there.
                segment: topology.bridges.len() + at,
                bit: 0,
                guests: true,
                wants_programs: bridge.datapath != Datapath::Bridge,
            });
        }
        let ports = counted_pairs(topology).filter(|(_, pair)| &pair.place == place);
        let ports = ports.map(|(counter, pair)| LabPort {
            counter,
            port: pair.port.clone(),
            bridge: pair.bridge.clone(),
            barred: (pair.datapath == Datapath::Bridge).then_some(NotArmed::NotWanted),
            xdp: (pair.datapath == Datapath::Xdp).then(|| pair.namespace.clone()),
            guest: None,
        });
        let is_here = |trunk: &&Trunk| [&trunk.a, &trunk.b].iter().any(|end| &end.place == place);
        let trunks = topology.trunks.iter().filter(is_here).cloned().collect();
        Self { place: place.clone(), domain, ports: ports.collect(), trunks, bridges }
    }

    /// Whether ports of a bridge have programs.
    #[must_use]
    pub fn wants_programs(&self, bridge: &IfName) -> bool {
        self.bridges.iter().any(|known| &known.name == bridge && known.wants_programs)
    }

    /// The number of the pair whose port a link is, or [`NO_PAIR`] of a trunk's end; `None` if it is none of the lab's.
    #[must_use]
    pub fn pair_of(&self, link: &LinkFacts) -> Option<u32> {
        let is_port = |port: &&LabPort| match port.guest {
            Some(ifindex) => ifindex == link.ifindex,
            None => port.port.as_str() == link.name,
        };
        let is_end = |end: &TrunkEnd| end.port.as_str() == link.name;
        let pair = self.ports.iter().find(is_port).map(|port| port.counter);
        pair.or_else(|| self.trunk_ends().any(is_end).then_some(NO_PAIR))
    }

    /// The ends of trunks here.
    pub fn trunk_ends(&self) -> impl Iterator<Item = &TrunkEnd> {
        self.trunks.iter().flat_map(|trunk| [&trunk.a, &trunk.b]).filter(|end| end.place == self.place)
    }

    /// Every port that the lab has here, with the bridge it should be on, and those of guests.
    pub fn all_ports(&self) -> impl Iterator<Item = (&IfName, &IfName)> {
        self.own_ports().chain(self.guests().map(|port| (&port.port, &port.bridge)))
    }

    /// The ports of the file, with their bridges.
    pub fn own_ports(&self) -> impl Iterator<Item = (&IfName, &IfName)> {
        let trunks = self.trunk_ends().map(|end| (&end.port, &end.bridge));
        let pairs = self.ports.iter().filter(|port| port.guest.is_none());
        pairs.map(|port| (&port.port, &port.bridge)).chain(trunks)
    }

    /// The ports of guests.
    pub fn guests(&self) -> impl Iterator<Item = &LabPort> {
        self.ports.iter().filter(|port| port.guest.is_some())
    }

    /// Replaces the ports of guests. Returns whether that is a change.
    pub fn set_guests(&mut self, guests: Vec<LabPort>) -> bool {
        if self.guests().eq(&guests) {
            return false;
        }
        self.ports.retain(|port| port.guest.is_none());
        self.ports.extend(guests);
        true
    }
}

/// How many bridges the largest segment of a lab has.
#[must_use]
pub fn largest_segment(topology: &Topology) -> usize {
    let segments = topology.segments();
    let size = |segment| segments.iter().filter(|other| *other == segment).count();
    segments.iter().map(size).max().unwrap_or(topology.adopted.len().min(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent::{eligible::eligible_trunk, netns_state::NetnsState},
        topology::{Source, read},
    };

    fn layout(bridges: &str) -> Layout {
        let text = format!("[namespace.fabric]\n{bridges}");
        let source = Source { path: "lab.toml", text: &text };
        let topology = read(source, Some("lab")).unwrap_or_else(|faults| panic!("{faults:?}"));
        Layout::of(&topology, 0, &Place::Host)
    }

    /// Why each trunk is not crossed while nothing is known.
    fn refused(layout: &Layout) -> Vec<Option<NotArmed>> {
        let reason = |trunk| eligible_trunk(trunk, layout, &NetnsState::default()).err();
        layout.trunks.iter().map(reason).collect()
    }

    fn segments(layout: &Layout) -> Vec<(usize, usize)> {
        layout.bridges.iter().map(|bridge| (bridge.segment, bridge.bit)).collect()
    }

    #[test]
    fn bridges_without_trunks_are_apart() {
        let layout = layout("[bridge.br0]\n[bridge.br1]\n");
        assert_eq!(segments(&layout), [(0, 0), (1, 0)]);
        assert_eq!(layout.bridges.iter().map(|bridge| bridge.number).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn trunks_join_bridges_however_they_are_declared() {
        let layout = layout(
            "[bridge.br0]\n[bridge.br1]\ntrunks = [\"br3\"]\n[bridge.br2]\n[bridge.br3]\ntrunks = [\"br0\"]\n",
        );
        assert_eq!(segments(&layout), [(0, 0), (0, 1), (2, 0), (0, 2)]);
        assert_eq!(layout.all_ports().count(), 4);
        let refused = refused(&layout);
        assert!(refused.iter().all(|reason| *reason == Some(NotArmed::NoPort)), "{refused:?}");
    }

    #[test]
    fn a_trunk_to_another_namespace_joins_nothing() {
        let layout = layout("[bridge.br0]\ntrunks = [\"br1\"]\n[bridge.br1]\nnamespace = \"fabric\"\n");
        assert_eq!(segments(&layout), [(0, 0)]);
        assert_eq!(refused(&layout), [Some(NotArmed::TwoNamespaces)]);
        assert_eq!(layout.trunk_ends().count(), 1);
    }

    #[test]
    fn a_plain_bridge_is_crossed_by_the_bridge_alone() {
        let layout = layout("[bridge.br0]\ntrunks = [\"br1\"]\n[bridge.br1]\ndatapath = \"bridge\"\n");
        assert_eq!(refused(&layout), [Some(NotArmed::NotWanted)]);
    }
}
