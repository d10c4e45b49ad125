//! The events that follow from two snapshots of a lab. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{NotArmed, counted_pairs, desired::Desired, numbered_trunks};
use crate::{
    state::events::Kind,
    topology::{Pair, Topology, Trunk},
};

/// A pair or trunk, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Member {
    Pair(u32),
    Trunk(u16),
}

/// A snapshot of the lab's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Why each is not armed; `None` for one that is. Empty before the first resync.
    states: BTreeMap<Member, Option<NotArmed>>,
    /// Bridges that do not exist, by namespace and name.
    missing: BTreeSet<(String, String)>,
    /// Whether there is a station that does not fit into a map.
    full: bool,
}

impl Snapshot {
    /// The snapshot for these maps. A pair without a state has no port: its namespace was released.
    #[must_use]
    pub fn new(topology: &Topology, maps: &Desired, missing: BTreeSet<(String, String)>, fits: bool) -> Self {
        let known = |state: Option<&Option<NotArmed>>| state.cloned().unwrap_or(Some(NotArmed::NoPort));
        let pairs = counted_pairs(topology)
            .map(|(counter, _)| (Member::Pair(counter), known(maps.states.get(&counter))));
        let trunks = numbered_trunks(topology)
            .map(|(number, _)| (Member::Trunk(number), known(maps.trunk_states.get(&number))));
        Self { states: pairs.chain(trunks).collect(), missing, full: !fits }
    }

    /// Undoes changes since `told` that come from programs attached or detached. Returns whether there were any.
    pub fn mask_programs(&mut self, told: &Self) -> bool {
        let off = |state: &Option<NotArmed>| *state == Some(NotArmed::NotAttached);
        let mut any = false;
        for (member, now) in &mut self.states {
            if let Some(before) = told.states.get(member)
                && before != now
                && (off(before) || off(now))
            {
                any = true;
                now.clone_from(before);
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
    match (before.full, now.full) {
        (false, true) => changes.push(Kind::MapFull),
        (true, false) => changes.push(Kind::MapHasRoom),
        _ => {}
    }
    let change = |member| {
        let (was, is) = (before.states.get(&member), now.states.get(&member));
        is.filter(|_| was != is).map(|is| (was.map(state_text), is))
    };
    for (number, trunk) in numbered_trunks(topology) {
        changes.extend(change(Member::Trunk(number)).map(|(before, is)| of_trunk(trunk, before, is)));
    }
    for (counter, pair) in counted_pairs(topology) {
        changes.extend(change(Member::Pair(counter)).map(|(before, is)| of_pair(pair, before, is)));
    }
    changes
}

/// A state as `stats` shows it.
fn state_text(state: &Option<NotArmed>) -> String {
    state.as_ref().map_or("armed".to_owned(), ToString::to_string)
}

fn of_pair(pair: &Pair, before: Option<String>, is: &Option<NotArmed>) -> Kind {
    let (port, pair) = (pair.port.to_string(), pair.name());
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

    fn standing(states: &[(u32, Option<NotArmed>)], missing: &[&str], fits: bool) -> Snapshot {
        let maps = Desired { states: states.iter().cloned().collect(), ..Desired::default() };
        let missing = missing.iter().map(|bridge| ("host".to_owned(), (*bridge).to_owned())).collect();
        Snapshot::new(&topology(), &maps, missing, fits)
    }

    /// Each change as `pair: before -> now`, or its kind.
    fn told(before: &Snapshot, now: &Snapshot) -> Vec<String> {
        let tell = |kind: Kind| match kind {
            Kind::PairArmed { pair, before, .. } => format!("{pair}: {before:?} -> armed"),
            Kind::PairNotArmed { pair, reason, before, .. } => format!("{pair}: {before:?} -> {reason}"),
            other => format!("{other:?}"),
        };
        diff(&topology(), before, now).into_iter().map(tell).collect()
    }

    #[test]
    fn the_first_look_tells_of_every_pair_and_the_next_of_none() {
        let now = standing(&[(1, None), (2, Some(NotArmed::NotAttached))], &[], true);
        let expected = ["ns0:eth0: None -> armed", "ns1:eth0: None -> the program is not attached"];
        assert_eq!(told(&Snapshot::default(), &now), expected);
        assert_eq!(told(&now, &now), [""; 0]);
    }

    #[test]
    fn another_reason_is_a_change_too() {
        let before = standing(&[(1, None), (2, Some(NotArmed::Qdisc("tbf".into())))], &[], true);
        let now = standing(&[(1, None), (2, Some(NotArmed::Qdisc("htb".into())))], &[], true);
        let expected = "ns1:eth0: Some(\"qdisc tbf on the port\") -> qdisc htb on the port";
        assert_eq!(told(&before, &now), [expected]);
        let armed = standing(&[(1, None), (2, None)], &[], true);
        assert_eq!(told(&now, &armed), ["ns1:eth0: Some(\"qdisc htb on the port\") -> armed"]);
    }

    #[test]
    fn a_pair_whose_namespace_was_let_go_has_no_port() {
        let before = standing(&[(1, None), (2, None)], &[], true);
        let now = standing(&[(1, None)], &[], true);
        assert_eq!(told(&before, &now), ["ns1:eth0: Some(\"armed\") -> the port does not exist"]);
    }

    #[test]
    fn a_bridge_goes_before_its_pairs_and_comes_back() {
        let (whole, states) =
            (standing(&[(1, None), (2, None)], &[], true), [(1, None), (2, Some(NotArmed::OffBridge))]);
        let gone = standing(&states, &["br0"], true);
        let told_of = told(&whole, &gone);
        assert_eq!(told_of.len(), 2);
        assert!(told_of[0].starts_with("BridgeGone") && told_of[1].starts_with("ns1:eth0"), "{told_of:?}");
        assert!(told(&gone, &whole)[0].starts_with("BridgeBack"));
    }

    #[test]
    fn programs_that_come_and_go_can_be_left_out() {
        let off = || Some(NotArmed::NotAttached);
        let armed = standing(&[(1, None), (2, None)], &[], true);
        let mut now = standing(&[(1, off()), (2, Some(NotArmed::OffBridge))], &[], true);
        assert!(now.mask_programs(&armed));
        assert_eq!(told(&armed, &now), ["ns1:eth0: Some(\"armed\") -> the port is not on its bridge"]);
        assert!(!now.clone().mask_programs(&now));
        let mut back = armed.clone();
        assert!(back.mask_programs(&standing(&[(1, off()), (2, None)], &[], true)));
        assert!(!armed.clone().mask_programs(&Snapshot::default()), "the first look is told");
    }

    #[test]
    fn a_map_is_full_and_has_room_again() {
        let (room, full) = (standing(&[], &[], true), standing(&[], &[], false));
        assert_eq!(told(&room, &full), ["MapFull"]);
        assert_eq!(told(&full, &room), ["MapHasRoom"]);
    }
}
