//! Checks of the host and of the rounds for what makes the figures less reliable.

use vethpath_figures::statistics::{median, quartiles};

use super::{
    cpus::Use,
    load::CONGESTION_CONTROL,
    machine::Machine,
    mode::Mode,
    schedule::Rounds,
    selection::Selection,
    warning::Warning,
    workload::{Spec, Workload},
};
use crate::topology::Datapath;

/// Intervals of fewer rounds are unreliable.
const FEW: usize = 5;

/// Threshold for stolen time, in percent.
const MUCH_STOLEN: f64 = 1.0;

/// Threshold for the distance of the quartiles of the cable's medians, as a fraction of the lower one.
const RESTLESS: f64 = 0.1;

/// Threshold for the time of the measured CPUs that other processes used, in percent. The agent uses some: it resyncs
/// each time programs are attached or detached.
const MUCH_BY_OTHERS: f64 = 15.0;

/// Threshold for the first round, as a multiple of the median.
const SLOW: f64 = 1.5;

/// The governor that keeps the frequency fixed.
const STEADY: &str = "performance";

/// Warnings that are known before measuring.
#[must_use]
pub fn of_host(selection: &Selection, cases: &[Spec], machine: &Machine) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if cfg!(debug_assertions) {
        warnings.push(Warning::DebugBuild);
    }
    if cfg!(feature = "ebpf-log") {
        warnings.push(Warning::DebugLog);
    }
    if machine.cpus == 1 {
        warnings.push(Warning::OneCpu);
    }
    let governor = machine.governor.clone().filter(|governor| governor != STEADY);
    warnings.extend(governor.map(Warning::Governor));
    warnings.extend(bridge_nf(selection, machine));
    if cases.iter().any(|case| case.work == Workload::TcpStream) {
        let other = machine.congestion_control.clone().filter(|name| name != CONGESTION_CONTROL);
        warnings.extend(other.map(Warning::CongestionControl));
    }
    for side in selection.sides() {
        if let Some(reason) = side.not_armed.clone() {
            warnings.push(Warning::NotArmed { pair: side.name.clone(), reason });
        } else if side.datapath == Datapath::Xdp {
            warnings.push(Warning::FastIsXdp(side.name.clone()));
        }
    }
    warnings
}

/// Warnings about the measured rounds.
#[must_use]
pub fn of_run(selection: &Selection, rounds: &Rounds, used: Use) -> Vec<Warning> {
    let mut warnings = rounds.faults.clone();
    if selection.is_armed() {
        let few = rounds.tallies.iter().filter(|tally| tally.rounds < FEW);
        warnings.extend(few.map(|tally| Warning::FewRounds { rounds: tally.rounds, case: tally.spec }));
    }
    let steady = rounds.tallies.iter().find(|tally| tally.spec.work.is_latency());
    if let Some(figures) = steady.map(|tally| tally.figures(Mode::Cable)) {
        warnings.extend(slow_first(figures));
        if let Some((low, high)) = quartiles(figures.to_vec())
            && high - low > RESTLESS * low
        {
            warnings.push(Warning::Restless { low, high });
        }
    }
    if used.stolen >= MUCH_STOLEN {
        warnings.push(Warning::Steal(used.stolen));
    }
    if used.by_others >= MUCH_BY_OTHERS {
        warnings.push(Warning::Neighbour(used.by_others));
    }
    warnings
}

fn slow_first(figures: &[f64]) -> Option<Warning> {
    let (&first, usual) = (figures.first()?, median(figures.to_vec())?);
    let is_slow = figures.len() >= FEW && first > usual * SLOW;
    is_slow.then_some(Warning::SlowFirst { first, usual })
}

fn bridge_nf(selection: &Selection, machine: &Machine) -> Option<Warning> {
    let name = if selection.from.address.is_ipv4() { "iptables" } else { "ip6tables" };
    // An unreadable sysctl gives no warning.
    let is_on = machine.bridge_nf_call.get(name).copied().unwrap_or_default();
    is_on.then(|| Warning::BridgeNf(name, selection.from.bridge.to_string()))
}

/// Each warning, with and without its cause.
#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;
    use crate::bench::{
        Shape, TemporaryLab, measurement::Measurement, selection::Side, tally::Tally, warning::Caveat,
    };

    fn selection() -> Selection {
        let pairs = TemporaryLab::of(Shape::Hosts(2)).unwrap().topology.pairs;
        let mut sides = pairs.iter().map(Side::of);
        let [from, to] = [(); 2].map(|()| sides.next().unwrap());
        Selection { from, to, bridges: 1 }
    }

    /// A machine without warnings.
    fn machine() -> Machine {
        let calls = ["iptables", "ip6tables", "arptables"].map(|name| (name.to_owned(), false));
        let congestion_control = Some(CONGESTION_CONTROL.to_owned());
        Machine { cpus: 2, bridge_nf_call: calls.into(), congestion_control, ..Machine::default() }
    }

    /// A change to the quiet state, and the kinds of warnings it causes.
    type Row = (fn(&mut Selection, &mut Machine), &'static [&'static str]);

    fn turn_on(machine: &mut Machine, name: &str) {
        let _ = machine.bridge_nf_call.insert(name.to_owned(), true);
    }

    fn kinds(warnings: &[Warning]) -> Vec<&'static str> {
        let of_build = ["debug-build", "ebpf-log"];
        warnings.iter().map(Warning::kind).filter(|kind| !of_build.contains(kind)).collect()
    }

    #[test]
    fn what_distorts_is_told_before_and_nothing_else() {
        let stream = Spec { work: Workload::TcpStream, ..Spec::UDP };
        let of = |selection: &Selection, machine: &Machine| of_host(selection, &[Spec::UDP, stream], machine);
        let quiet = of(&selection(), &machine());
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
            (|selection, _| selection.to.not_armed = Some("a filter".into()), &["not-armed"]),
            (|selection, _| selection.from.datapath = Datapath::Xdp, &["fast-is-xdp"]),
        ];
        for (number, (change, expected)) in table.into_iter().enumerate() {
            let (mut selection, mut machine) = (selection(), machine());
            change(&mut selection, &mut machine);
            assert_eq!(kinds(&of(&selection, &machine)), expected, "row {number}");
        }
        let bbr = Machine { congestion_control: Some("bbr".into()), ..machine() };
        assert_eq!(kinds(&of_host(&selection(), &[Spec::UDP], &bbr)), [""; 0], "it is of streams");
    }

    /// Rounds with these cable medians, in microseconds.
    fn rounds(cable: &[u64]) -> Rounds {
        let mut tally = Tally::new(Spec::UDP);
        for &us in cable {
            let mut measured = Measurement::round_trips().unwrap();
            measured.record(std::time::Duration::from_micros(us), true);
            tally.add(iter::once((Mode::Cable, measured)));
        }
        Rounds { tallies: vec![tally], rounds: cable.len(), faults: Vec::new() }
    }

    #[test]
    fn what_came_to_light_is_told_afterwards() {
        let quiet = [50; 8];
        let of = |cable: &[u64], stolen, by_others| {
            kinds(&of_run(&selection(), &rounds(cable), Use { stolen, by_others }))
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
}
