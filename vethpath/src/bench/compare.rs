//! Compares two runs: which changes exceed the noise. Pure.

use serde::Serialize;

use vethpath_figures::statistics::{Interval, rounded};

use super::{
    machine::Machine,
    mode::{Mode, PerMode},
    report::{Case, Report},
    temporary_lab,
    workload::{Better, Spec},
};

/// A run compared with a previous one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// When the previous run was measured (RFC 3339).
    pub then: String,
    /// Differences of the environment, which may explain changed figures.
    pub differences: Vec<Difference>,
    /// Each case that both runs have.
    pub cases: Vec<Compared>,
    /// Cases that only the previous run has.
    pub only_then: Vec<Spec>,
    /// Cases that only this run has.
    pub only_now: Vec<Spec>,
}

/// A difference of the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The property.
    pub what: &'static str,
    /// Its value in the previous run.
    pub then: String,
    /// Its value in this run.
    pub now: String,
}

/// One case in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// The case.
    #[serde(flatten)]
    pub spec: Spec,
    /// The figure of each path.
    pub paths: PerMode<Change>,
    /// The ratio of the fast path to the plain bridge.
    pub fast_to_bridge: Option<Change>,
    /// The part of the bridge's overhead that is removed.
    pub overhead_removed: Option<Change>,
}

/// One figure in both runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The previous value.
    pub then: Interval,
    /// The current value.
    pub now: Interval,
    /// Current value divided by the previous one; `None` if the previous one is 0.
    pub ratio: Option<f64>,
    /// The result of the comparison.
    pub verdict: Verdict,
}

/// Result of comparing two intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The intervals overlap: no significant change.
    NoChange,
    /// They do not overlap, and the new one is better.
    Better,
    /// They do not overlap, and the new one is worse.
    Worse,
    /// They do not overlap, but the cable has changed in the same direction: the machine's speed has changed.
    Machine,
}

impl Comparison {
    /// Compares a previous run with the current one.
    #[must_use]
    pub fn of(then: &Report, now: &Report) -> Self {
        let lacks = |one: &Report, other: &Report| {
            let specs = one.cases.iter().map(Case::spec);
            specs.filter(|spec| find_case(other, *spec).is_none()).collect()
        };
        let both = now.cases.iter().filter_map(|now| Some((find_case(then, now.spec())?, now)));
        Self {
            then: then.machine.date.clone(),
            differences: differences(then, now),
            cases: both.map(|(then, now)| Compared::of(then, now)).collect(),
            only_then: lacks(then, now),
            only_now: lacks(now, then),
        }
    }
}

impl Compared {
    fn of(then: &Case, now: &Case) -> Self {
        let better = now.better;
        let pair =
            |then: Option<Interval>, now: Option<Interval>, better| Some(Change::of(then?, now?, better));
        let modes = now.figures();
        let cable = pair(then.interval(Mode::Cable), now.interval(Mode::Cable), better);
        let cable = cable.map_or(Verdict::NoChange, |change| change.verdict);
        let paths = modes.iter().filter_map(|(mode, _)| {
            let change = pair(then.interval(mode), now.interval(mode), better)?;
            let as_the_cable = pair(then.to_cable(mode), now.to_cable(mode), better)
                .is_some_and(|change| change.verdict == Verdict::NoChange);
            // A cable without a significant change explains nothing, however wide its interval is.
            let is_machine = change.verdict != Verdict::NoChange && change.verdict == cable && as_the_cable;
            Some((mode, if is_machine { Change { verdict: Verdict::Machine, ..change } } else { change }))
        });
        Self {
            spec: now.spec(),
            paths: paths.collect(),
            fast_to_bridge: pair(then.fast_to_bridge, now.fast_to_bridge, better),
            overhead_removed: pair(then.overhead_removed, now.overhead_removed, Better::Higher),
        }
    }
}

impl Change {
    fn of(then: Interval, now: Interval, better: Better) -> Self {
        let ratio = now.value / then.value;
        let verdict = if now.low <= then.high && then.low <= now.high {
            Verdict::NoChange
        } else if (now.value > then.value) == (better == Better::Higher) {
            Verdict::Better
        } else {
            Verdict::Worse
        };
        Self { then, now, ratio: ratio.is_finite().then(|| rounded(ratio)), verdict }
    }
}

impl Verdict {
    /// The text for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoChange => "no change distinguishable from noise",
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Machine => "the machine: the cable likewise",
        }
    }
}

fn find_case(report: &Report, spec: Spec) -> Option<&Case> {
    report.cases.iter().find(|case| case.spec() == spec)
}

fn differences(then: &Report, now: &Report) -> Vec<Difference> {
    let facts = |report: &Report| {
        let Machine {
            cpu, cpus, governor, kernel, hook, bridge_nf_call, congestion_control, vethpath, ..
        } = &report.machine;
        let Report { lab, from, to, .. } = report;
        // A generated lab has a new name in each run, and its namespaces have that name as a prefix.
        let own = temporary_lab::is_name(lab);
        let place = |name: &String| if own { name.replacen(lab, "host", 1) } else { name.clone() };
        let text = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "unknown".to_owned());
        let calls = bridge_nf_call.iter().filter(|(_, on)| **on).map(|(name, _)| name.as_str());
        let calls: Vec<_> = calls.collect();
        [
            ("lab", if own { "one of its own".to_owned() } else { lab.clone() }),
            ("from", place(from)),
            ("to", place(to)),
            ("CPU", text(cpu)),
            ("CPUs", cpus.to_string()),
            ("frequency governor", governor.clone().unwrap_or_else(|| "none".to_owned())),
            ("kernel", text(kernel)),
            ("hook", hook.map_or("unknown", |hook| hook.name()).to_owned()),
            ("bridge-nf-call", if calls.is_empty() { "off".to_owned() } else { calls.join(", ") }),
            ("congestion control", text(congestion_control)),
            ("vethpath", vethpath.clone()),
            ("bridges on the way", report.bridges.to_string()),
        ]
    };
    let both = facts(then).into_iter().zip(facts(now));
    let unlike = both.filter(|((_, then), (_, now))| then != now);
    unlike.map(|((what, then), (_, now))| Difference { what, then, now }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Distribution, Results, samples};

    fn at(value: f64) -> Interval {
        Interval { value, low: value - 0.1, high: value + 0.1 }
    }

    #[test]
    fn intervals_that_overlap_say_nothing() {
        let verdict = |then, now, better| Change::of(at(then), at(now), better).verdict;
        assert_eq!(verdict(5.0, 5.15, Better::Lower), Verdict::NoChange);
        assert_eq!(verdict(5.0, 5.3, Better::Lower), Verdict::Worse);
        assert_eq!(verdict(5.0, 5.3, Better::Higher), Verdict::Better);
        assert_eq!(verdict(5.0, 4.7, Better::Lower), Verdict::Better);
        assert_eq!(Change::of(at(5.0), at(6.0), Better::Lower).ratio, Some(1.2));
        assert_eq!(Change::of(at(0.0), at(6.0), Better::Lower).ratio, None);
    }

    #[test]
    fn a_run_beside_itself_has_not_changed() {
        let report = samples::report();
        let comparison = Comparison::of(&report, &report);
        assert_eq!(comparison.cases.len(), 2);
        assert!(comparison.differences.is_empty() && comparison.only_now.is_empty());
        for case in &comparison.cases {
            assert!(case.paths.iter().all(|(_, change)| change.verdict == Verdict::NoChange), "{case:?}");
        }
    }

    #[test]
    fn what_changed_with_the_cable_is_the_machine() {
        let then = samples::report();
        let mut now = samples::report();
        let Results::Latency(latency) = &now.cases[0].results else { panic!("a latency") };
        let slower = |(mode, d): (Mode, &Distribution)| {
            let by = if mode == Mode::Bridge { 2.0 } else { 1.5 };
            let rounds = d.round_p50_us.iter().map(|us| us * by).collect();
            (mode, Distribution { p50_us: d.p50_us * by, round_p50_us: rounds, ..d.clone() })
        };
        now.cases[0].results = Results::Latency(latency.iter().map(slower).collect());
        let paths = &Comparison::of(&then, &now).cases[0].paths;
        let verdict = |mode| paths.get(mode).unwrap().verdict;
        assert_eq!(verdict(Mode::Cable), Verdict::Machine);
        assert_eq!(verdict(Mode::Fast), Verdict::Machine, "it is to the cable what it was");
        assert_eq!(verdict(Mode::Bridge), Verdict::Worse);
    }

    #[test]
    fn a_cable_that_was_as_unsure_before_is_no_excuse() {
        let with = |fast: f64| {
            let mut report = samples::report();
            let Results::Latency(latency) = &report.cases[0].results else { panic!("a latency") };
            let spread = |(mode, d): (Mode, &Distribution)| {
                let rounds = match mode {
                    Mode::Fast => vec![fast; 5],
                    _ => vec![8.0, 9.0, 10.0, 12.0, 14.0],
                };
                (mode, Distribution { round_p50_us: rounds, ..d.clone() })
            };
            report.cases[0].results = Results::Latency(latency.iter().map(spread).collect());
            report
        };
        let (then, now) = (with(10.6), with(11.6));
        let to_cable = |report: &Report| report.cases[0].to_cable(Mode::Fast).unwrap();
        assert!(to_cable(&now).low <= to_cable(&then).high, "it is to the cable what it may have been");
        let paths = &Comparison::of(&then, &now).cases[0].paths;
        assert_eq!(paths.get(Mode::Cable).unwrap().verdict, Verdict::NoChange);
        assert_eq!(paths.get(Mode::Fast).unwrap().verdict, Verdict::Worse);
    }

    #[test]
    fn what_differs_is_named() {
        let then = samples::report();
        let mut now = then.clone();
        now.machine.kernel = Some("6.18.0".to_owned());
        let dropped = now.cases.remove(0);
        let comparison = Comparison::of(&then, &now);
        assert_eq!(comparison.only_then, [dropped.spec()]);
        assert!(comparison.only_now.is_empty());
        let kernel = Difference { what: "kernel", then: "unknown".into(), now: "6.18.0".into() };
        assert_eq!(comparison.differences, [kernel]);
        let differ = |now: &Report| {
            let all = Comparison::of(&then, now).differences.into_iter();
            all.map(|difference| (difference.what, difference.now)).collect::<Vec<_>>()
        };
        let other = |what, name: &str| vec![(what, name.to_owned())];
        let now = |change: fn(&mut Report)| {
            let mut now = then.clone();
            change(&mut now);
            now
        };
        assert_eq!(differ(&now(|now| now.lab = "other".into())), other("lab", "other"));
        assert_eq!(differ(&now(|now| now.from = "ns7".into())), other("from", "ns7"));
        assert_eq!(differ(&now(|now| now.to = "ns7".into())), other("to", "ns7"));
        let bbr = now(|now| now.machine.congestion_control = Some("bbr".into()));
        assert_eq!(differ(&bbr), other("congestion control", "bbr"));
        assert!(comparison.cases[0].paths.get(Mode::Fast).is_some());
    }

    #[test]
    fn labs_of_its_own_are_one_whatever_their_names() {
        let of = |lab: &str, last: usize| {
            let (from, to) = (format!("{lab}-0"), format!("{lab}-{last}"));
            Report { lab: lab.to_owned(), from, to, ..samples::report() }
        };
        let differences = |then: &Report, now: &Report| Comparison::of(then, now).differences;
        let then = of("bench-01234567", 1);
        assert_eq!(differences(&then, &of("bench-89abcdef", 1)), []);
        let more = differences(&then, &of("bench-89abcdef", 9));
        assert_eq!(more, [Difference { what: "to", then: "host-1".into(), now: "host-9".into() }]);
        assert_eq!(differences(&then, &of("bench-mark", 1)).len(), 3, "somebody's own lab");
    }
}
