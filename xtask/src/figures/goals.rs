//! The performance goals, and the measured values.

use std::fmt::Write as _;

use super::{
    parts,
    results::{Case, Interval, Raw, first, report},
};
use crate::error::Error;

/// The goal of a figure.
#[derive(Clone, Copy)]
enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

use Goal::{AtLeast, AtMost};

/// A table of goals and measured values. It also shows what a program reaches that only redirects.
pub(super) fn table(raw: &Raw) -> Result<String, Error> {
    let limit = |name| parts::interval(raw, "limit", name);
    let with_netfilter = |name| parts::interval(raw, "limit-netfilter", name);
    let removed = |source| of(first(raw, source)?.overhead_removed, source);
    let to_cable = |source| of(first(raw, source)?.fast_to_cable, source);
    let constant = "overhead removed, constant";
    let rows = [
        ("overhead removed, one bridge", AtLeast(0.75), removed("one-bridge")?, Some(limit(constant)?)),
        (
            "the same where bridges call netfilter",
            AtLeast(0.87),
            removed("one-bridge-netfilter")?,
            Some(with_netfilter(constant)?),
        ),
        ("fast over a redirect to a constant", AtMost(1.01), limit("fast over constant")?, None),
        (
            "fast over cable, one bridge",
            AtMost(1.04),
            to_cable("one-bridge")?,
            Some(limit("constant over cable")?),
        ),
        ("fast over cable, eight bridges", AtMost(1.04), to_cable("eight-bridges")?, None),
        (
            "slow path with programs over plain bridge",
            AtMost(1.02),
            limit("slow path with programs over plain bridge")?,
            Some(limit("a program that only passes over plain bridge")?),
        ),
        (
            "`udp-rate`, fast over cable",
            AtLeast(0.93),
            of(work(raw, "udp_rate")?.fast_to_cable, "work")?,
            None,
        ),
        (
            "`tcp-stream`, fast over bridge",
            AtLeast(1.0),
            of(work(raw, "tcp_stream")?.fast_to_bridge, "work")?,
            None,
        ),
        (
            "10,000 stations over few, in slots",
            AtMost(1.01),
            limit("fast with 10,000 stations over with few")?,
            None,
        ),
        (
            "10,000 stations over few, in hash maps",
            AtMost(1.01),
            limit("fast with 10,000 stations, in hash maps, over with few")?,
            None,
        ),
    ];
    let mut text = "| figure | goal | reached | 95 % interval | | a program that does nothing else |\n\
                    |---|---|---|---|---|---|\n"
        .to_owned();
    for (what, goal, reached, bare) in rows {
        let Interval { value, low, high } = reached;
        let bare = bare.map_or_else(String::new, |bare| format!("{:.3} ", bare.value));
        let target = match goal {
            AtLeast(least) => format!("at least {least}"),
            AtMost(most) => format!("at most {most}"),
        };
        let met = goal.met(reached);
        let _ = writeln!(text, "| {what} | {target} | {value:.3} | {low:.3} to {high:.3} | {met} | {bare}|");
    }
    Ok(text)
}

impl Goal {
    fn met(self, Interval { low, high, .. }: Interval) -> &'static str {
        let is_met = |figure| match self {
            AtLeast(least) => figure >= least,
            AtMost(most) => figure <= most,
        };
        match (is_met(low), is_met(high)) {
            (true, true) => "yes",
            (false, false) => "no",
            _ => "within the interval",
        }
    }
}

fn work(raw: &Raw, name: &str) -> Result<Case, Error> {
    let case = report(raw, "work")?.cases.into_iter().find(|case| case.work == name);
    case.ok_or_else(|| Error::Figures(format!("work: no {name}")))
}

fn of(interval: Option<Interval>, source: &str) -> Result<Interval, Error> {
    interval.ok_or_else(|| Error::Figures(format!("{source}: the figure of a goal is missing")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_or_not_or_noise_hides_it() {
        let reached = |value, low, high| Interval { value, low, high };
        assert_eq!(AtLeast(0.75).met(reached(0.77, 0.75, 0.8)), "yes");
        assert_eq!(AtLeast(0.75).met(reached(0.72, 0.7, 0.76)), "within the interval");
        assert_eq!(AtLeast(0.75).met(reached(0.72, 0.7, 0.74)), "no");
        assert_eq!(AtMost(1.01).met(reached(1.0, 0.9, 1.01)), "yes");
        assert_eq!(AtMost(1.01).met(reached(1.02, 1.0, 1.1)), "within the interval");
        assert_eq!(AtMost(1.01).met(reached(1.02, 1.015, 1.1)), "no");
    }
}
