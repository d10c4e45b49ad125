//! What the agent reports: its status, and the snapshot of the lab that events follow from.

use crate::{
    agent::{
        LEASE, NotArmed,
        bridge_netns::BridgeNetns,
        counted_pairs,
        diff::Snapshot,
        drops::MachineDrops,
        guests::guest_name,
        layout::LabPort,
        netns_state::NetnsState,
        numbered_trunks, privileges,
        segments::Segments,
        status::{Ends, GuestStatus, Status},
    },
    kernel::{LinkFacts, process},
    topology::{IfName, Pair, Place},
};

use super::Agent;

impl Agent {
    /// The packets of the lab that rules certainly drop, each with a sentence that says so.
    fn drops(&self) -> impl Iterator<Item = (&String, &String)> {
        let on_machine = self.machine_drops.iter().flat_map(MachineDrops::found);
        self.namespaces.iter().flat_map(BridgeNetns::drops).chain(on_machine)
    }

    /// The states of pairs and trunks.
    fn states(&self) -> Snapshot {
        let namespaces: Vec<&Segments> = self.namespaces.iter().map(BridgeNetns::segments).collect();
        Snapshot::of(&self.topology, &namespaces)
    }

    /// Logs what has changed of the lab.
    pub(super) fn log_snapshot(&mut self) {
        let own = self.topology.bridges.iter().map(|bridge| (&bridge.place, &bridge.name));
        let adopted = self.topology.adopted.iter().map(|bridge| (&bridge.place, &bridge.name));
        let is_gone =
            |(place, name): &(&Place, &IfName)| !self.namespaces.iter().any(|domain| domain.has(place, name));
        let gone = own.chain(adopted).filter(is_gone);
        let snapshot = Snapshot {
            guests: self.namespaces.iter().flat_map(BridgeNetns::guest_states).collect(),
            missing: gone.map(|(place, name)| (place.to_string(), name.to_string())).collect(),
            drops: self.drops().map(|(packets, sentence)| (packets.clone(), sentence.clone())).collect(),
            full: !self.maps.fits(),
            ..self.states()
        };
        self.event_log.record_snapshot(&self.topology, snapshot);
    }

    /// The lab's status. While the agent retries, nothing is armed.
    pub(super) fn status(&self) -> Status {
        let Snapshot { pairs: states, trunks, .. } = self.states();
        let state = |number: u32| self.unless_failed(states.get(&number).and_then(Option::as_ref));
        let pairs: Vec<(&Pair, Option<NotArmed>)> =
            counted_pairs(&self.topology).map(|(number, pair)| (pair, state(number))).collect();
        let trunk_state = |number: u16| self.unless_failed(trunks.get(&number).and_then(Option::as_ref));
        let text = |state: Option<NotArmed>| state.map(|reason| reason.to_string());
        let word = |state: &Option<NotArmed>| state.as_ref().map(|reason| reason.word().to_owned());
        // An interface that the file sets down stays down.
        let quick =
            || pairs.iter().filter(|(pair, _)| pair.inner.up && self.is_quick(&pair.place, &pair.bridge));
        let guests: Vec<_> = self.namespaces.iter().flat_map(|domain| self.guests(domain)).collect();
        let missed = pairs.iter().filter(|(_, state)| *state == Some(NotArmed::XdpMissed));
        Status {
            pid: std::process::id(),
            memory_kib: process::resident_kib(),
            since: Some(self.since),
            lease_ms: u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX),
            capabilities: privileges::in_effect(),
            generation: self.maps.generation(),
            stations: self.maps.station_count(),
            settled: self.settled,
            polls: self.polls,
            announced: self.maps.last_announcement(),
            confirmed: self.maps.confirmed(),
            steady: self.maps.confirmed() == self.maps.last_announcement()
                && !self.namespaces.iter().any(BridgeNetns::is_being_dumped)
                && !quick().any(|(_, state)| state.as_ref().is_some_and(NotArmed::is_passing))
                && !self.namespaces.iter().any(|domain| domain.is_adding_guests(self.maps.ports())),
            failure: self.failure.clone(),
            coming_up: self.is_coming_up(quick().map(|(pair, _)| (&pair.place, &pair.bridge, &pair.port))),
            xdp_missed: Some(missed.map(|(pair, _)| pair.name()).collect()),
            ends: pairs.iter().filter_map(|(pair, _)| Some((pair.name(), self.ends(pair)?))).collect(),
            trunks: numbered_trunks(&self.topology)
                .map(|(number, trunk)| (trunk.name(), text(trunk_state(number))))
                .collect(),
            drops: self.drops().map(|(_, sentence)| sentence.clone()).collect(),
            words: pairs
                .iter()
                .filter_map(|(pair, state)| Some((pair.name(), word(state)?)))
                .chain(
                    numbered_trunks(&self.topology)
                        .filter_map(|(number, trunk)| Some((trunk.name(), word(&trunk_state(number))?))),
                )
                .chain(guests.iter().filter_map(|(guest, state)| Some((guest.name.clone(), word(state)?))))
                .collect(),
            ports: pairs.into_iter().map(|(pair, state)| (pair.name(), text(state))).collect(),
            guests: guests.into_iter().map(|(guest, _)| guest).collect(),
        }
    }

    /// The status of each guest port of a namespace, and why it is not armed.
    fn guests(&self, domain: &BridgeNetns) -> Vec<(GuestStatus, Option<NotArmed>)> {
        let (layout, facts) = domain.known();
        let status = |guest: &LabPort| {
            let port = facts.link_of(guest)?;
            let state =
                domain.segments().guests.get(&port.ifindex).cloned().unwrap_or(Some(NotArmed::NoPort));
            let state = self.unless_failed(state.as_ref());
            let status = GuestStatus {
                name: guest_name(domain.place(), &guest.bridge, &guest.port),
                port: guest.port.clone(),
                bridge: guest.bridge.clone(),
                number: guest.counter,
                ends: ends(domain.place(), port)?,
                reason: state.as_ref().map(ToString::to_string),
            };
            Some((status, state))
        };
        layout.guests().filter_map(status).collect()
    }

    /// Why something is not armed: for this reason, or because the agent retries.
    fn unless_failed(&self, reason: Option<&NotArmed>) -> Option<NotArmed> {
        match &self.failure {
            Some(error) => Some(NotArmed::Unreadable(error.clone())),
            None => reason.cloned(),
        }
    }

    /// Whether ports of a bridge forward as soon as they are up. Spanning tree takes half a minute, and may keep a
    /// port from forwarding.
    fn is_quick(&self, place: &Place, bridge: &IfName) -> bool {
        self.topology.bridge(place, bridge).is_some_and(|bridge| !bridge.stp)
    }

    /// Whether one of these ports, or a trunk's port on a bridge without spanning tree, is about to forward. The
    /// armed state shows that only for ports that the file wants on the fast path.
    fn is_coming_up<'a>(&'a self, pairs: impl Iterator<Item = (&'a Place, &'a IfName, &'a IfName)>) -> bool {
        let ends = self.topology.trunks.iter().flat_map(|trunk| [&trunk.a, &trunk.b]);
        let trunks = ends
            .map(|end| (&end.place, &end.bridge, &end.port))
            .filter(|(place, bridge, _)| self.is_quick(place, bridge));
        pairs.chain(trunks).any(|(place, bridge, port)| {
            self.facts(place, bridge).is_some_and(|facts| facts.is_coming_up(port, bridge))
        })
    }

    /// The known state of a bridge's namespace.
    fn facts(&self, place: &Place, bridge: &IfName) -> Option<&NetnsState> {
        let number = self.topology.bridge(place, bridge)?.domain;
        self.namespaces.iter().find(|domain| domain.is(number, place)).map(|domain| domain.known().1)
    }

    fn ends(&self, pair: &Pair) -> Option<Ends> {
        let facts = self.facts(&pair.place, &pair.bridge)?;
        ends(&pair.place, facts.link(&pair.port)?)
    }
}

/// The ends of a pair whose port is this link; `None` without an inner end.
fn ends(place: &Place, port: &LinkFacts) -> Option<Ends> {
    Some(Ends { place: place.clone(), port: port.ifindex, inner: port.peer?, netns: port.peer_netns })
}
