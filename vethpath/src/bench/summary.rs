//! From rounds to a report. Pure.

use hdrhistogram::Histogram;

use super::{
    choose::{Chosen, Side},
    distribution::{Distribution, median_us},
    machine::Machine,
    modes::Mode,
    report::{Case, Caveat, Ended, PerMode, Placement, Report, Results, VERSION, Why},
    schedule::Rounds,
    statistics::{overhead_removed, ratio},
    warnings::Warning,
    work::Spec,
};
use crate::topology::LabName;

/// Sums up.
#[must_use]
pub fn report(
    lab: &LabName,
    chosen: &Chosen,
    rounds: &Rounds,
    machine: Machine,
    cpu: usize,
    mut warnings: Vec<Warning>,
) -> Report {
    let case = case(rounds, cpu);
    if chosen.is_armed() && case.overhead_removed.is_none() {
        warnings.push(Warning::NoOverhead);
    }
    let name = |side: &Side| side.pair.namespace.to_string();
    let Results::Latency(latency) = &case.results else { unreachable!("round trips are latencies") };
    Report {
        version: VERSION,
        lab: lab.to_string(),
        from: name(&chosen.from),
        to: name(&chosen.to),
        bridges: 1,
        rounds: case.rounds,
        ended: case.ended,
        warnings: warnings.iter().map(Caveat::from).collect(),
        machine,
        udp_rr: Some(latency.map(Distribution::brief)),
        tcp_rr: None,
        overhead_removed: case.overhead_removed,
        cases: vec![case],
    }
}

fn case(rounds: &Rounds, cpu: usize) -> Case {
    let Spec { work, size, wait, cores } = Spec::UDP;
    let of = |mode| {
        let slices: Vec<_> = rounds.good.iter().filter_map(|round| round.get(&mode)).collect();
        let mut all = Histogram::new_from(&slices.first()?.histogram);
        for slice in &slices {
            // They are made alike, so nothing can be out of range.
            let _ = all.add(&slice.histogram);
        }
        let medians = slices.iter().map(|slice| median_us(&slice.histogram)).collect();
        let lost = slices.iter().map(|slice| slice.lost).sum();
        Some((mode, Distribution::of(&all, medians, lost)))
    };
    let latency: PerMode<_> = [Mode::Cable, Mode::Bridge, Mode::Fast].into_iter().filter_map(of).collect();
    let medians = |mode| latency.get(mode).map(|d: &Distribution| &d.round_p50_us[..]).unwrap_or_default();
    let [cable, bridge, fast] = [Mode::Cable, Mode::Bridge, Mode::Fast].map(medians);
    let removed = overhead_removed(cable, bridge, fast);
    let ended = Ended { why: Why::Time, width: removed.map(|i| i.high - i.low), wanted: 0.0 };
    Case {
        work,
        size,
        wait,
        placement: Placement { cores, from_cpu: cpu, to_cpu: cpu },
        unit: work.unit(),
        better: work.better(),
        rounds: rounds.good.len(),
        ended,
        fast_to_bridge: ratio(fast, bridge),
        fast_to_cable: ratio(fast, cable),
        overhead_removed: removed,
        results: Results::Latency(latency),
    }
}
