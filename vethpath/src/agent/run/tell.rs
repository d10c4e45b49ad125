//! What the agent answers.

use super::{Agent, LEASE};
use crate::{
    agent::{
        NotArmed, layout,
        netns_state::NetnsState,
        privileges,
        status::{Ends, Status},
    },
    topology::{IfName, Pair, Place},
};

impl Agent {
    /// How the lab stands, as far as the agent knows.
    pub(super) fn status(&self) -> Status {
        let current = self.maps.current();
        let failed = |state| self.failure.clone().map_or(state, |error| Some(NotArmed::Unreadable(error)));
        let state =
            |counter: u32| failed(current.states.get(&counter).cloned().unwrap_or(Some(NotArmed::NoPort)));
        let trunk_state = |number: u16| {
            failed(current.trunk_states.get(&number).cloned().unwrap_or(Some(NotArmed::NoPort)))
        };
        let pairs = || layout::counted_pairs(&self.topology);
        // What the file leaves down stays down.
        let quick = || pairs().filter(|(_, pair)| pair.inner.up && self.is_quick(&pair.place, &pair.bridge));
        Status {
            pid: std::process::id(),
            lease_ms: u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX),
            capabilities: privileges::in_effect(),
            generation: self.maps.generation(),
            stations: current.stations.len(),
            settled: self.settled,
            looks: self.looks,
            steady: !self.maps.has_announced()
                && !quick().any(|(counter, _)| state(counter).is_some_and(|reason| reason.is_passing())),
            coming_up: self.is_coming_up(quick().map(|(_, pair)| (&pair.place, &pair.bridge, &pair.port))),
            ports: pairs()
                .map(|(counter, pair)| (pair.name(), state(counter).map(|r| r.to_string())))
                .collect(),
            ends: pairs().filter_map(|(_, pair)| Some((pair.name(), self.ends(pair)?))).collect(),
            trunks: layout::numbered_trunks(&self.topology)
                .map(|(number, trunk)| (trunk.name(), trunk_state(number).map(|r| r.to_string())))
                .collect(),
        }
    }

    /// Whether ports of a bridge forward as soon as they are up. Spanning tree takes half a minute, and may never have
    /// one forward.
    fn is_quick(&self, place: &Place, bridge: &IfName) -> bool {
        self.topology.bridge(place, bridge).is_some_and(|bridge| !bridge.stp)
    }

    /// Whether one of these ports of pairs, or one of the trunks' on quick bridges, is about to forward. Its state
    /// tells that only where the fast path wants it.
    fn is_coming_up<'a>(&'a self, pairs: impl Iterator<Item = (&'a Place, &'a IfName, &'a IfName)>) -> bool {
        let ends = self.topology.trunks.iter().flat_map(|trunk| [&trunk.a, &trunk.b]);
        let trunks = ends
            .map(|end| (&end.place, &end.bridge, &end.port))
            .filter(|(place, bridge, _)| self.is_quick(place, bridge));
        pairs.chain(trunks).any(|(place, bridge, port)| {
            self.facts(place, bridge).is_some_and(|facts| facts.is_coming_up(port, bridge))
        })
    }

    /// What is known of the namespace of a bridge.
    fn facts(&self, place: &Place, bridge: &IfName) -> Option<&NetnsState> {
        let number = self.topology.bridge(place, bridge)?.domain;
        self.namespaces.iter().find(|domain| domain.is(number, place)).map(|domain| domain.known().1)
    }

    fn ends(&self, pair: &Pair) -> Option<Ends> {
        let facts = self.facts(&pair.place, &pair.bridge)?;
        let port = facts.link(&pair.port)?;
        Some(Ends {
            place: pair.place.clone(),
            port: port.ifindex,
            inner: port.peer?,
            netns: port.peer_netns,
        })
    }
}
