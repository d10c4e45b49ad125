//! The text output of `bench`.

use std::io::{self, Write};

use super::super::format::{Column, count, render, short};
use crate::bench::{
    Case, Distribution, Ended, Interval, Mode, PerMode, Progress, Rate, Report, Results, Unit, Why,
};

/// Erases the rest of the terminal's line.
const ERASE: &str = "\x1b[K";

/// Prints a report as text: the headline first, then a table for each case.
///
/// # Errors
/// Those of `out`.
pub fn text(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", headline(report))?;
    let Report { from, to, bridges, .. } = report;
    writeln!(out, "\nfrom {from} to {to}, through {}", count(*bridges, "bridge"))?;
    for case in &report.cases {
        writeln!(out, "\n{}", case.spec().name())?;
        match &case.results {
            Results::Latency(latency) => write!(out, "{}", latencies(latency))?,
            Results::Rate(rate) => write!(out, "{}", rates(case.unit, rate))?,
        }
        writeln!(out, "{}", comparison(case))?;
    }
    Ok(())
}

/// Prints the warnings, each with its advice.
///
/// # Errors
/// Those of `err`.
pub fn warnings(report: &Report, err: &mut dyn Write) -> io::Result<()> {
    for warning in &report.warnings {
        writeln!(err, "warning: {}\nhint: {}", warning.message, warning.advice)?;
    }
    Ok(())
}

/// Overwrites the terminal's line with the progress.
///
/// # Errors
/// Those of `err`.
pub fn progress(progress: Progress, err: &mut dyn Write) -> io::Result<()> {
    let Progress { round, left, mode, case } = progress;
    let left = left.as_secs();
    write!(err, "\rround {round}, at most {left} s left: {}, {}{ERASE}", mode.name(), case.name())?;
    err.flush()
}

/// Prints the progress as a line of its own, if there is no terminal.
///
/// # Errors
/// Those of `err`.
pub fn progress_line(progress: Progress, err: &mut dyn Write) -> io::Result<()> {
    let Progress { round, left, mode, case } = progress;
    let left = left.as_secs();
    writeln!(err, "measuring, round {round}, at most {left} s left: {}, {}", mode.name(), case.name())
}

/// Clears the terminal's line.
///
/// # Errors
/// Those of `err`.
pub fn no_progress(err: &mut dyn Write) -> io::Result<()> {
    write!(err, "\r{ERASE}")?;
    err.flush()
}

/// The headline: the result in one line.
pub(super) fn headline(report: &Report) -> String {
    let Some(case) = report.cases.first() else { return "nothing was measured".to_owned() };
    let figures = case.figures();
    let named = |mode: Mode| {
        let name = if mode == Mode::Cable { "cable" } else { mode.name() };
        figures.get(mode).map(|&value| format!("{name} {}", figure(case.unit, value)))
    };
    let floor: Vec<_> = [Mode::Bridge, Mode::Cable, Mode::Xdp].into_iter().filter_map(named).collect();
    let floor = floor.join(", ");
    match figures.get(Mode::Fast) {
        None => format!("{floor}; no fast path between these two"),
        Some(&fast) => {
            let fast = figure(case.unit, fast);
            format!("fast path: {fast}, {floor}; {}", removed(report.overhead_removed))
        }
    }
}

pub(super) fn figure(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Microseconds if value < 10.0 => format!("{value:.2} us"),
        Unit::Microseconds => format!("{value:.1} us"),
        Unit::PerSecond => format!("{}/s", short(value)),
        Unit::BitsPerSecond => format!("{}bit/s", short(value)),
    }
}

/// The comparison of a case's modes, the number of rounds, and why the measurement ended.
pub(super) fn comparison(case: &Case) -> String {
    let mut parts = Vec::new();
    for (names, to_bridge, to_cable, removed) in [
        (
            ["fast/bridge", "fast/cable", "overhead removed"],
            case.fast_to_bridge,
            case.fast_to_cable,
            case.overhead_removed,
        ),
        (
            ["XDP/bridge", "XDP/cable", "overhead removed by XDP"],
            case.xdp_to_bridge,
            case.xdp_to_cable,
            case.xdp_overhead_removed,
        ),
    ] {
        for (name, interval, digits) in
            [(names[0], to_bridge, 3), (names[1], to_cable, 3), (names[2], removed, 2)]
        {
            parts.extend(interval.map(|Interval { value, low, high }| {
                format!("{name} {value:.digits$} ({low:.digits$} to {high:.digits$})")
            }));
        }
    }
    let Ended { why, width, wanted } = case.ended;
    let rounds = count(case.rounds, "round");
    parts.push(match (why, width) {
        (Why::Narrow, _) => format!("{rounds}, interval narrow enough"),
        (Why::Time, Some(width)) => {
            format!("{rounds}, until the time was over: interval {width:.2} wide, {wanted:.2} wanted")
        }
        (Why::Time, None) => format!("{rounds}, until the time was over"),
    });
    parts.join("; ")
}

fn removed(overhead: Option<Interval>) -> String {
    match overhead {
        Some(Interval { value, low, high }) => {
            // Rounded as in the table, so that 0.815 is not 0.81 there and 82 % here.
            let value = format!("{value:.2}").parse().unwrap_or(value);
            let percent = 100.0 * value;
            format!("{percent:.0} % of the bridge's overhead removed, 95 % interval {low:.2} to {high:.2}")
        }
        None => "no overhead distinguishable from noise".to_owned(),
    }
}

fn latencies(latency: &PerMode<Distribution>) -> String {
    let us = |value: f64| format!("{value:.2}");
    let row = |(mode, d): (Mode, &Distribution)| {
        let times = [d.p50_us, d.p90_us, d.p99_us, d.p99_9_us, d.mean_us].map(us);
        [mode.name().to_owned()].into_iter().chain(times).chain([d.n.to_string()]).collect()
    };
    let columns = ["P50 us", "P90", "P99", "P99.9", "MEAN", "N"].map(Column::Number);
    let columns: Vec<_> = [Column::Text("PATH")].into_iter().chain(columns).collect();
    render(&columns, latency.iter().map(row).collect())
}

fn rates(unit: Unit, rates: &PerMode<Rate>) -> String {
    let row = |(mode, rate): (Mode, &Rate)| {
        let bound =
            |worst: fn(f64, f64) -> f64| rate.rounds.iter().copied().reduce(worst).unwrap_or(rate.median);
        let say = |value: f64| figure(unit, value);
        let loss = format!("{:.2} %", 100.0 * rate.loss);
        vec![mode.name().to_owned(), say(rate.median), say(bound(f64::min)), say(bound(f64::max)), loss]
    };
    let columns = ["MEDIAN", "LEAST", "MOST", "LOST"].map(Column::Number);
    let columns: Vec<_> = [Column::Text("PATH")].into_iter().chain(columns).collect();
    render(&columns, rates.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Results, samples};

    #[test]
    fn differences_of_some_percent_can_be_seen() {
        assert_eq!(figure(Unit::Microseconds, 5.236), "5.24 us");
        assert_eq!(figure(Unit::Microseconds, 10.54), "10.5 us");
    }

    #[test]
    fn the_first_line_is_the_answer() {
        let report = samples::report();
        assert_eq!(
            headline(&report),
            "fast path: 10.7 us, plain bridge 13.0 us, cable 10.2 us; \
             82 % of the bridge's overhead removed, 95 % interval 0.78 to 0.86"
        );
        let unknown = Report { overhead_removed: None, ..report.clone() };
        assert!(headline(&unknown).ends_with("cable 10.2 us; no overhead distinguishable from noise"));
        let mut unarmed = Report { overhead_removed: None, ..report };
        let Results::Latency(latency) = &unarmed.cases[0].results else { panic!("a latency") };
        let others = latency.iter().filter(|(mode, _)| *mode != Mode::Fast);
        unarmed.cases[0].results = Results::Latency(others.map(|(mode, d)| (mode, d.clone())).collect());
        assert_eq!(headline(&unarmed), "plain bridge 13.0 us, cable 10.2 us; no fast path between these two");
        assert_eq!(
            headline(&samples::with_xdp()),
            "fast path: 10.7 us, plain bridge 13.0 us, cable 10.2 us, XDP 12.6 us; \
             82 % of the bridge's overhead removed, 95 % interval 0.78 to 0.86"
        );
        let mut rate = samples::report();
        rate.cases.remove(0);
        assert!(headline(&rate).starts_with("fast path: 550k/s, plain bridge 400k/s, cable 600k/s; 82 %"));
    }

    #[test]
    fn the_table_has_a_line_for_each_mode() {
        let mut out = Vec::new();
        text(&samples::report(), &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        let line: Vec<_> =
            out.lines().find(|l| l.contains("plain bridge  ")).unwrap().split_whitespace().collect();
        assert_eq!(line, ["plain", "bridge", "12.90", "13.90", "21.90", "32.90", "13.15", "2000"], "{out}");
        assert!(out.contains("UDP datagrams one way of 64 bytes, blocking, across CPUs"), "{out}");
        assert!(
            out.contains("fast/cable 1.050 (1.040 to 1.060); overhead removed 0.82 (0.78 to 0.86)"),
            "{out}"
        );
        assert!(out.contains("2 rounds, interval narrow enough"), "{out}");
        let mut err = Vec::new();
        warnings(&samples::report(), &mut err).unwrap();
        assert!(String::from_utf8(err).unwrap().contains("hint: measure on a machine"));
    }

    #[test]
    fn json_has_the_promised_fields_and_can_be_read_again() {
        let report = samples::report();
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["version"], 3);
        assert_eq!(json["udp_rr"]["fast"]["p50_us"], 10.6);
        assert_eq!(json["overhead_removed"]["high"], 0.86);
        assert_eq!(json["warnings"][0]["kind"], "one-cpu");
        assert_eq!(json["ended"]["why"], "narrow");
        let case = &json["cases"][0];
        assert_eq!(
            (&case["work"], &case["unit"], &case["better"]),
            (&"udp_rr".into(), &"us".into(), &"lower".into())
        );
        assert_eq!(case["latency"]["cable"]["histogram"][0][1], 1000);
        assert_eq!(json["cases"][1]["rate"]["fast"]["loss"], 0.0);
        assert!(json.get("tcp_rr").is_none() && case.get("xdp_to_bridge").is_none(), "not measured");
        let with_xdp = serde_json::to_value(samples::with_xdp()).unwrap();
        assert_eq!(with_xdp["cases"][0]["latency"]["xdp"]["p50_us"], 12.5);
        assert_eq!(with_xdp["cases"][0]["xdp_to_bridge"]["value"], 0.969);
        assert!(matches!(report.cases[1].results, Results::Rate(_)));
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
    }
}
