//! Builds the report from the rounds. Pure.

use super::{
    distribution::Distribution,
    endpoints::placement,
    machine::Machine,
    mode::{Mode, PerMode},
    report::{Case, Ended, Report, Results, VERSION, Why},
    schedule::Rounds,
    selection::{Selection, Side},
    tally::Tally,
    warning::{Caveat, Warning},
    workload::Spec,
};
use crate::topology::LabName;

/// Builds the report.
#[must_use]
pub fn report(
    lab: &LabName,
    selection: &Selection,
    rounds: &Rounds,
    machine: Machine,
    mut warnings: Vec<Warning>,
) -> Report {
    let cases: Vec<_> = rounds.tallies.iter().map(case).collect();
    if selection.is_armed() {
        warnings.extend(cases.iter().filter_map(doubt));
    }
    let name = |side: &Side| side.inside.to_string();
    let first = cases.first();
    Report {
        version: VERSION,
        lab: lab.to_string(),
        from: name(&selection.from),
        to: name(&selection.to),
        bridges: selection.bridges,
        rounds: first.map_or(0, |case| case.rounds),
        ended: first.map_or(NEVER, |case| case.ended),
        warnings: caveats(&warnings),
        machine,
        udp_rr: brief(&cases, Spec::UDP),
        tcp_rr: brief(&cases, Spec::TCP),
        overhead_removed: first.and_then(|case| case.overhead_removed),
        cases,
    }
}

/// All warnings. Those about discarded rounds are merged per kind.
fn caveats(warnings: &[Warning]) -> Vec<Caveat> {
    let mut counted: Vec<(Caveat, usize)> = Vec::new();
    for warning in warnings {
        let same =
            counted.iter_mut().find(|(caveat, _)| warning.is_of_a_round() && caveat.kind == warning.kind());
        match same {
            Some((_, more)) => *more += 1,
            None => counted.push((Caveat::from(warning), 0)),
        }
    }
    let say = |(caveat, more): (Caveat, usize)| match more {
        0 => caveat,
        more => Caveat { message: format!("{} (and {more} more for the like)", caveat.message), ..caveat },
    };
    counted.into_iter().map(say).collect()
}

/// For a report without cases.
const NEVER: Ended = Ended { why: Why::Time, width: None, wanted: 0.0 };

fn case(tally: &Tally) -> Case {
    let Spec { work, size, wait, cores } = tally.spec;
    Case {
        work,
        size,
        wait,
        placement: placement(cores),
        unit: work.unit(),
        better: work.better(),
        rounds: tally.rounds,
        ended: tally.ended.unwrap_or(NEVER),
        results: tally.results(),
        fast_to_bridge: tally.ratio(Mode::Fast, Mode::Bridge),
        fast_to_cable: tally.ratio(Mode::Fast, Mode::Cable),
        overhead_removed: tally.overhead_removed(Mode::Fast),
        xdp_to_bridge: tally.ratio(Mode::Xdp, Mode::Bridge),
        xdp_to_cable: tally.ratio(Mode::Xdp, Mode::Cable),
        xdp_overhead_removed: tally.overhead_removed(Mode::Xdp),
    }
}

/// A warning is added if an interval is this many times wider than its target.
const FAR_TOO_WIDE: f64 = 4.0;

/// The warning about an uncertain case, if any. For a rate only the ratio to the bridge matters.
fn doubt(case: &Case) -> Option<Warning> {
    if case.work.is_latency() && case.overhead_removed.is_none() {
        return Some(Warning::NoOverhead(case.spec()));
    }
    let Ended { why, width, wanted } = case.ended;
    let width = width.filter(|&width| why == Why::Time && width > FAR_TOO_WIDE * wanted)?;
    Some(Warning::StillWide { case: case.spec(), width, wanted })
}

fn brief(cases: &[Case], spec: Spec) -> Option<PerMode<Distribution>> {
    match &cases.iter().find(|case| case.spec() == spec)?.results {
        Results::Latency(latency) => Some(latency.map(Distribution::brief)),
        Results::Rate(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_put_aside_are_told_once_for_each_kind() {
        let slow = |slow| Warning::NotFast { fast: 0, slow, pairs: "a is armed".into() };
        let few = |case| Warning::FewRounds { rounds: 1, case };
        let all = [slow(7), Warning::NotPlain { fast: 1 }, slow(8), slow(9), few(Spec::UDP), few(Spec::TCP)];
        let counted = caveats(&all);
        let kinds: Vec<_> = counted.iter().map(|caveat| &caveat.kind[..]).collect();
        assert_eq!(kinds, ["not-fast", "not-plain", "few-rounds", "few-rounds"]);
        assert_eq!(counted[0].message, format!("{} (and 2 more for the like)", slow(7)));
    }
}
