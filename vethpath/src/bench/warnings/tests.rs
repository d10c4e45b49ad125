//! Each warning, with and without its cause.

use std::iter;

use super::*;
use crate::bench::{Shape, TemporaryLab, choose::Side, measured::Measured, report::Caveat, tally::Tally};

fn chosen() -> Chosen {
    let pairs = TemporaryLab::of(Shape::Hosts(2)).unwrap().topology.pairs;
    let mut sides = pairs.into_iter().map(|pair| {
        let address = pair.inner.addresses[0].addr();
        Side { pair, counter: 0, address, not_armed: None }
    });
    let [from, to] = [(); 2].map(|()| sides.next().unwrap());
    Chosen { from, to, bridges: 1 }
}

/// A machine without warnings.
fn machine() -> Machine {
    let calls = ["iptables", "ip6tables", "arptables"].map(|name| (name.to_owned(), false));
    let congestion_control = Some(CONGESTION_CONTROL.to_owned());
    Machine { cpus: 2, bridge_nf_call: calls.into(), congestion_control, ..Machine::default() }
}

/// A change to the quiet state, and the kinds of warnings it causes.
type Row = (fn(&mut Chosen, &mut Machine), &'static [&'static str]);

fn turn_on(machine: &mut Machine, name: &str) {
    let _ = machine.bridge_nf_call.insert(name.to_owned(), true);
}

fn kinds(warnings: &[Warning]) -> Vec<&'static str> {
    let of_build = ["debug-build", "ebpf-log"];
    warnings.iter().map(Warning::kind).filter(|kind| !of_build.contains(kind)).collect()
}

#[test]
fn what_distorts_is_told_before_and_nothing_else() {
    let stream = Spec { work: Work::TcpStream, ..Spec::UDP };
    let of = |chosen: &Chosen, machine: &Machine| of_host(chosen, &[Spec::UDP, stream], machine);
    let quiet = of(&chosen(), &machine());
    assert_eq!(kinds(&quiet), [""; 0]);
    assert_eq!(quiet.contains(&Warning::DebugBuild), cfg!(debug_assertions));
    assert_eq!(quiet.contains(&Warning::DebugLog), cfg!(feature = "ebpf-log"));
    let table: [Row; 9] = [
        (|_, machine| machine.cpus = 1, &["one-cpu"]),
        (|_, machine| machine.governor = Some("powersave".into()), &["cpu-frequency"]),
        (|_, machine| machine.governor = Some(STEADY.into()), &[]),
        (|_, machine| turn_on(machine, "iptables"), &["bridge-nf-call"]),
        // The address family is not the pairs'.
        (|_, machine| turn_on(machine, "ip6tables"), &[]),
        (|_, machine| machine.bridge_nf_call.clear(), &[]),
        (|_, machine| machine.congestion_control = Some("bbr".into()), &["congestion-control"]),
        (|chosen, _| chosen.to.not_armed = Some("a filter".into()), &["not-armed"]),
        (|chosen, _| chosen.from.pair.datapath = Datapath::Xdp, &["fast-is-xdp"]),
    ];
    for (number, (change, expected)) in table.into_iter().enumerate() {
        let (mut chosen, mut machine) = (chosen(), machine());
        change(&mut chosen, &mut machine);
        assert_eq!(kinds(&of(&chosen, &machine)), expected, "row {number}");
    }
    let bbr = Machine { congestion_control: Some("bbr".into()), ..machine() };
    assert_eq!(kinds(&of_host(&chosen(), &[Spec::UDP], &bbr)), [""; 0], "it is of streams");
}

/// Rounds with these cable medians, in microseconds.
fn rounds(cable: &[u64]) -> Rounds {
    let mut tally = Tally::new(Spec::UDP);
    for &us in cable {
        let mut measured = Measured::round_trips().unwrap();
        measured.record(std::time::Duration::from_micros(us), true);
        tally.add(iter::once((Mode::Cable, measured)));
    }
    Rounds { tallies: vec![tally], rounds: cable.len(), faults: Vec::new() }
}

#[test]
fn what_came_to_light_is_told_afterwards() {
    let quiet = [50; 8];
    let of = |cable: &[u64], stolen, by_others| {
        kinds(&of_run(&chosen(), &rounds(cable), Use { stolen, by_others }))
    };
    assert_eq!(of(&quiet, 0.9, 14.0), [""; 0]);
    assert_eq!(of(&quiet, 1.0, 0.0), ["steal"]);
    assert_eq!(of(&quiet, 0.0, 15.0), ["neighbour"]);
    assert_eq!(of(&quiet[..4], 0.0, 0.0), ["few-rounds"]);
    assert_eq!(of(&[50, 60, 50, 60, 50, 60, 50, 60], 0.0, 0.0), ["restless"]);
    assert_eq!(of(&[90, 50, 50, 50, 50, 50, 50, 50], 0.0, 0.0), ["slow-first-round"]);
}

#[test]
fn a_warning_says_what_and_advises() {
    let few = Warning::FewRounds { rounds: 2, case: Spec::UDP };
    let json = serde_json::to_value(Caveat::from(&few)).unwrap();
    let expected = serde_json::json!({
        "kind": "few-rounds",
        "message": "too few rounds of UDP round trips of 64 bytes, blocking, on one CPU (2): the interval means little",
        "advice": "measure longer: --seconds 60 or more, or less at once: --work",
    });
    assert_eq!(json, expected);
}

#[test]
fn a_first_round_like_the_others_is_no_news() {
    assert_eq!(slow_first(&[5.0, 5.1, 4.9, 5.0, 5.0]), None);
    let slow = slow_first(&[9.0, 5.1, 4.9, 5.0, 5.0]);
    assert_eq!(slow, Some(Warning::SlowFirst { first: 9.0, usual: 5.0 }));
    assert_eq!(slow_first(&[9.0, 5.0]), None, "of two nobody can tell");
    assert_eq!(slow_first(&[]), None);
}
