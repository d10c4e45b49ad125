//! What the agent answers.

use super::{Agent, LEASE};
use crate::{
    agent::{
        NotArmed, layout, privileges,
        status::{Ends, Status},
    },
    topology::Pair,
};

impl Agent {
    /// How the lab stands, as far as the agent knows.
    pub(super) fn status(&self) -> Status {
        let current = self.sync.current();
        let state = |counter: u32| current.states.get(&counter).cloned().unwrap_or(Some(NotArmed::NoPort));
        let trunk_state =
            |number: u16| current.trunk_states.get(&number).cloned().unwrap_or(Some(NotArmed::NoPort));
        let pairs = || layout::counted_pairs(&self.topology);
        // What the file leaves down stays down, and spanning tree takes half a minute.
        let comes_up = |pair: &Pair| {
            let bridge = self.topology.bridge(&pair.place, &pair.bridge);
            pair.inner.up && bridge.is_some_and(|bridge| !bridge.stp)
        };
        Status {
            pid: std::process::id(),
            lease_ms: u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX),
            capabilities: privileges::in_effect(),
            generation: self.sync.generation(),
            stations: current.stations.len(),
            settled: self.settled,
            looks: self.looks,
            steady: !self.sync.has_announced()
                && !pairs().any(|(counter, pair)| {
                    comes_up(pair) && state(counter).is_some_and(|reason| reason.is_passing())
                }),
            ports: pairs()
                .map(|(counter, pair)| (pair.name(), state(counter).map(|r| r.to_string())))
                .collect(),
            ends: pairs().filter_map(|(_, pair)| Some((pair.name(), self.ends(pair)?))).collect(),
            trunks: layout::numbered_trunks(&self.topology)
                .map(|(number, trunk)| (trunk.name(), trunk_state(number).map(|r| r.to_string())))
                .collect(),
        }
    }

    fn ends(&self, pair: &Pair) -> Option<Ends> {
        let number = self.topology.bridge(&pair.place, &pair.bridge)?.domain;
        let (_, facts) = self.domains.iter().find(|domain| domain.is(number, &pair.place))?.known();
        let port = facts.link(&pair.port)?;
        Some(Ends {
            place: pair.place.clone(),
            port: port.ifindex,
            inner: port.peer?,
            netns: port.peer_netns,
        })
    }
}
