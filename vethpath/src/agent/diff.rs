//! The events that follow from two snapshots of a lab. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{NotArmed, counted_pairs, numbered_trunks, segments::Segments};
use crate::{
    state::events::Kind,
    topology::{Topology, Trunk},
};

/// A snapshot of the lab's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Why each pair is not armed, by its number; `None` for one that is. Empty before the first resync.
    pub pairs: BTreeMap<u32, Option<NotArmed>>,
    /// The same for trunks.
    pub trunks: BTreeMap<u16, Option<NotArmed>>,
    /// The state of each guest port, by its name, with its device name.
    pub guests: BTreeMap<String, (String, Option<NotArmed>)>,
    /// Bridges that do not exist, by namespace and name.
    pub missing: BTreeSet<(String, String)>,
    /// The packets that rules certainly drop, each with a sentence that says so.
    pub drops: BTreeMap<String, String>,
    /// Whether there is a station that does not fit into a map.
    pub full: bool,
}

impl Snapshot {
    /// The states of the lab's pairs and trunks in its bridge namespaces. One without a state has no port: its namespace was
    /// released.
    #[must_use]
    pub fn of(topology: &Topology, namespaces: &[&Segments]) -> Self {
        let known = |state: Option<&Option<NotArmed>>| state.cloned().unwrap_or(Some(NotArmed::NoPort));
        let pair = |number| namespaces.iter().find_map(|segments| segments.states.get(&number));
        let trunk = |number| namespaces.iter().find_map(|segments| segments.trunk_states.get(&number));
        Self {
            pairs: counted_pairs(topology).map(|(number, _)| (number, known(pair(number)))).collect(),
            trunks: numbered_trunks(topology).map(|(number, _)| (number, known(trunk(number)))).collect(),
            ..Self::default()
        }
    }

    /// Undoes changes since `before` that come from programs attached or detached. Returns whether there were any.
    pub fn mask_programs(&mut self, before: &Self) -> bool {
        let is_off = |state: &Option<NotArmed>| *state == Some(NotArmed::NotAttached);
        let pairs = self.pairs.iter_mut().map(|(number, now)| (before.pairs.get(number), now));
        let trunks = self.trunks.iter_mut().map(|(number, now)| (before.trunks.get(number), now));
        let mut any = false;
        for (former, now) in pairs.chain(trunks) {
            if let Some(former) = former
                && former != now
                && (is_off(former) || is_off(now))
            {
                any = true;
                now.clone_from(former);
            }
        }
        any
    }
}

/// The events between two snapshots, causes before their effects on pairs.
#[must_use]
pub fn diff(topology: &Topology, before: &Snapshot, now: &Snapshot) -> Vec<Kind> {
    let gone = now.missing.difference(&before.missing).cloned();
    let back = before.missing.difference(&now.missing).cloned();
    let mut changes: Vec<Kind> =
        gone.map(|(namespace, bridge)| Kind::BridgeGone { bridge, namespace }).collect();
    changes.extend(back.map(|(namespace, bridge)| Kind::BridgeBack { bridge, namespace }));
    let dropped = now.drops.iter().filter(|(packets, _)| !before.drops.contains_key(*packets));
    let not_dropped = before.drops.keys().filter(|packets| !now.drops.contains_key(*packets));
    changes.extend(dropped.map(|(_, sentence)| Kind::PacketsDropped { what: sentence.clone() }));
    changes.extend(not_dropped.map(|packets| Kind::PacketsNotDropped { packets: packets.clone() }));
    match (before.full, now.full) {
        (false, true) => changes.push(Kind::MapFull),
        (true, false) => changes.push(Kind::MapHasRoom),
        _ => {}
    }
    for (number, trunk) in numbered_trunks(topology) {
        let change = change(before.trunks.get(&number), now.trunks.get(&number));
        changes.extend(change.map(|(before, is)| of_trunk(trunk, before, is)));
    }
    for (counter, pair) in counted_pairs(topology) {
        let change = change(before.pairs.get(&counter), now.pairs.get(&counter));
        changes.extend(change.map(|(before, is)| of_port(pair.name(), pair.port.as_str(), before, is)));
    }
    let left = before.guests.iter().filter(|(name, _)| !now.guests.contains_key(*name));
    changes.extend(left.map(|(name, (port, _))| Kind::GuestLeft { pair: name.clone(), port: port.clone() }));
    for (name, (port, is)) in &now.guests {
        let was = before.guests.get(name).map(|(_, was)| was);
        if was != Some(is) {
            changes.push(of_port(name.clone(), port, was.map(state_text), is));
        }
    }
    changes
}

/// The former state as text, and the present one, if they differ.
fn change<'a>(
    was: Option<&Option<NotArmed>>,
    is: Option<&'a Option<NotArmed>>,
) -> Option<(Option<String>, &'a Option<NotArmed>)> {
    is.filter(|_| was != is).map(|is| (was.map(state_text), is))
}

/// A state as `stats` shows it.
fn state_text(state: &Option<NotArmed>) -> String {
    state.as_ref().map_or("armed".to_owned(), ToString::to_string)
}

fn of_port(pair: String, port: &str, before: Option<String>, is: &Option<NotArmed>) -> Kind {
    let port = port.to_owned();
    match is {
        None => Kind::PairArmed { pair, port, before },
        Some(reason) => Kind::PairNotArmed { pair, port, reason: reason.to_string(), before },
    }
}

fn of_trunk(trunk: &Trunk, before: Option<String>, is: &Option<NotArmed>) -> Kind {
    let trunk = trunk.name();
    match is {
        None => Kind::TrunkArmed { trunk, before },
        Some(reason) => Kind::TrunkNotArmed { trunk, reason: reason.to_string(), before },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Source, read};

    fn topology() -> Topology {
        let text = "[bridge.br0]\n[namespace.ns0.interface.eth0]\nlink = \"br0\"\n\
            [namespace.ns1.interface.eth0]\nlink = \"br0\"\n";
        read(Source { path: "lab.toml", text }, Some("lab")).unwrap()
    }

    fn snapshot(states: &[(u32, Option<NotArmed>)], missing: &[&str], fits: bool) -> Snapshot {
        let missing = missing.iter().map(|bridge| ("host".to_owned(), (*bridge).to_owned())).collect();
        let segments = Segments { states: states.iter().cloned().collect(), ..Segments::default() };
        Snapshot { missing, full: !fits, ..Snapshot::of(&topology(), &[&segments]) }
    }

    /// Each change as `pair: before -> now`, or its kind.
    fn changes(before: &Snapshot, now: &Snapshot) -> Vec<String> {
        let describe = |kind: Kind| match kind {
            Kind::PairArmed { pair, before, .. } => format!("{pair}: {before:?} -> armed"),
            Kind::PairNotArmed { pair, reason, before, .. } => format!("{pair}: {before:?} -> {reason}"),
            other => format!("{other:?}"),
        };
        diff(&topology(), before, now).into_iter().map(describe).collect()
    }

    #[test]
    fn the_first_snapshot_logs_every_pair_and_the_next_none() {
        let now = snapshot(&[(1, None), (2, Some(NotArmed::NotAttached))], &[], true);
        let expected = ["ns0:eth0: None -> armed", "ns1:eth0: None -> the program is not attached"];
        assert_eq!(changes(&Snapshot::default(), &now), expected);
        assert_eq!(changes(&now, &now), [""; 0]);
    }

    #[test]
    fn another_reason_is_a_change_too() {
        let before = snapshot(&[(1, None), (2, Some(NotArmed::Qdisc("tbf".into())))], &[], true);
        let now = snapshot(&[(1, None), (2, Some(NotArmed::Qdisc("htb".into())))], &[], true);
        let expected = "ns1:eth0: Some(\"qdisc tbf on the port\") -> qdisc htb on the port";
        assert_eq!(changes(&before, &now), [expected]);
        let armed = snapshot(&[(1, None), (2, None)], &[], true);
        assert_eq!(changes(&now, &armed), ["ns1:eth0: Some(\"qdisc htb on the port\") -> armed"]);
    }

    #[test]
    fn a_pair_whose_namespace_was_let_go_has_no_port() {
        let before = snapshot(&[(1, None), (2, None)], &[], true);
        let now = snapshot(&[(1, None)], &[], true);
        assert_eq!(changes(&before, &now), ["ns1:eth0: Some(\"armed\") -> the port does not exist"]);
    }

    #[test]
    fn a_bridge_goes_before_its_pairs_and_comes_back() {
        let (present, states) =
            (snapshot(&[(1, None), (2, None)], &[], true), [(1, None), (2, Some(NotArmed::OffBridge))]);
        let gone = snapshot(&states, &["br0"], true);
        let of_gone = changes(&present, &gone);
        assert_eq!(of_gone.len(), 2);
        assert!(of_gone[0].starts_with("BridgeGone") && of_gone[1].starts_with("ns1:eth0"), "{of_gone:?}");
        assert!(changes(&gone, &present)[0].starts_with("BridgeBack"));
    }

    #[test]
    fn programs_that_come_and_go_can_be_left_out() {
        let off = || Some(NotArmed::NotAttached);
        let armed = snapshot(&[(1, None), (2, None)], &[], true);
        let mut now = snapshot(&[(1, off()), (2, Some(NotArmed::OffBridge))], &[], true);
        assert!(now.mask_programs(&armed));
        assert_eq!(changes(&armed, &now), ["ns1:eth0: Some(\"armed\") -> the port is not on its bridge"]);
        assert!(!now.clone().mask_programs(&now));
        let mut back = armed.clone();
        assert!(back.mask_programs(&snapshot(&[(1, off()), (2, None)], &[], true)));
        assert!(!armed.clone().mask_programs(&Snapshot::default()), "the first snapshot is logged");
    }

    #[test]
    fn guest_ports_come_and_go() {
        let with = |guests: &[(&str, Option<NotArmed>)]| {
            let guest = |(port, state): &(&str, _)| {
                (format!("br0/{port}"), ((*port).to_owned(), Option::clone(state)))
            };
            Snapshot { guests: guests.iter().map(guest).collect(), ..Snapshot::default() }
        };
        let (armed, down) = (with(&[("v0", None)]), with(&[("v0", Some(NotArmed::Down("the port")))]));
        assert_eq!(changes(&with(&[]), &armed), ["br0/v0: None -> armed"]);
        assert_eq!(changes(&armed, &down), ["br0/v0: Some(\"armed\") -> the port is down"]);
        assert_eq!(changes(&down, &with(&[])), ["GuestLeft { pair: \"br0/v0\", port: \"v0\" }"]);
        assert_eq!(changes(&armed, &armed), [""; 0]);
    }

    #[test]
    fn rules_begin_and_cease_to_drop() {
        let with = |packets: &str, chain| {
            let sentence = format!("{packets} are dropped by {chain}");
            Snapshot { drops: BTreeMap::from([(packets.to_owned(), sentence)]), ..Snapshot::default() }
        };
        let expected =
            ["PacketsDropped { what: \"b are dropped by x\" }", "PacketsNotDropped { packets: \"a\" }"];
        assert_eq!(changes(&with("a", "x"), &with("b", "x")), expected);
        assert_eq!(changes(&with("a", "x"), &with("a", "y")), [""; 0], "dropped all the time");
    }

    #[test]
    fn a_map_is_full_and_has_room_again() {
        let (room, full) = (snapshot(&[], &[], true), snapshot(&[], &[], false));
        assert_eq!(changes(&room, &full), ["MapFull"]);
        assert_eq!(changes(&full, &room), ["MapHasRoom"]);
    }
}
