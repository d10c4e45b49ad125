//! What `bench` prints.

use std::io::{self, Write};

use super::table::{Column, render};
use crate::bench::{Distribution, Interval, Mode, PerMode, Progress, Report};

/// Erases the rest of a terminal's line.
const ERASE: &str = "\x1b[K";

/// Prints a report for people: the answer first, then a table.
///
/// # Errors
/// Those of `out`.
pub fn text(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", answer(report))?;
    writeln!(out)?;
    if let Some(udp_rr) = &report.udp_rr {
        write!(out, "{}", table(udp_rr))?;
    }
    let Report { from, to, rounds, .. } = report;
    writeln!(out)?;
    writeln!(
        out,
        "UDP round trips of 64 bytes from {from} to {to} in microseconds, both on one CPU, {rounds} rounds"
    )
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

/// Overwrites the line on a terminal with what is going on.
///
/// # Errors
/// Those of `err`.
pub fn progress(progress: Progress, err: &mut dyn Write) -> io::Result<()> {
    let Progress { round, rounds, mode } = progress;
    write!(err, "\rround {round} of {rounds}: {}{ERASE}", mode.name())?;
    err.flush()
}

/// Clears the line on a terminal.
///
/// # Errors
/// Those of `err`.
pub fn no_progress(err: &mut dyn Write) -> io::Result<()> {
    write!(err, "\r{ERASE}")?;
    err.flush()
}

/// The one line that is the answer.
fn answer(report: &Report) -> String {
    let Some(udp_rr) = &report.udp_rr else { return String::new() };
    let median = |mode| udp_rr.get(mode).map(|of: &Distribution| of.p50_us);
    let (Some(cable), Some(bridge)) = (median(Mode::Cable), median(Mode::Bridge)) else {
        return "nothing was measured".to_owned();
    };
    let floor = format!("plain bridge {bridge:.1} us, cable {cable:.1} us");
    match median(Mode::Fast) {
        None => format!("{floor}; no fast path between these two"),
        Some(fast) => format!("fast path: {fast:.1} us, {floor}; {}", removed(report.overhead_removed)),
    }
}

fn removed(overhead: Option<Interval>) -> String {
    match overhead {
        Some(i) => format!(
            "{:.0} % of the bridge's overhead removed, 95 % interval {:.2} to {:.2}",
            100.0 * i.value,
            i.low,
            i.high
        ),
        None => "no overhead that could be told from noise".to_owned(),
    }
}

fn table(udp_rr: &PerMode<Distribution>) -> String {
    let us = |value: f64| format!("{value:.2}");
    let row = |(mode, d): (Mode, &Distribution)| {
        vec![mode.name().to_owned(), us(d.p50_us), us(d.p90_us), us(d.p99_us), us(d.mean_us), d.n.to_string()]
    };
    let columns = [Column::Text("PATH")].into_iter();
    let columns = columns.chain(["P50", "P90", "P99", "MEAN", "N"].map(Column::Number));
    render(&columns.collect::<Vec<_>>(), udp_rr.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Results, samples};

    #[test]
    fn the_first_line_is_the_answer() {
        let report = samples::report();
        assert_eq!(
            answer(&report),
            "fast path: 10.6 us, plain bridge 12.9 us, cable 10.1 us; \
             82 % of the bridge's overhead removed, 95 % interval 0.78 to 0.86"
        );
        let unknown = Report { overhead_removed: None, ..report.clone() };
        assert!(answer(&unknown).ends_with("cable 10.1 us; no overhead that could be told from noise"));
        let udp_rr = report.udp_rr.iter().flat_map(PerMode::iter).filter(|(mode, _)| *mode != Mode::Fast);
        let udp_rr = Some(udp_rr.map(|(mode, d)| (mode, d.clone())).collect());
        let unarmed = Report { udp_rr, overhead_removed: None, ..report.clone() };
        assert_eq!(answer(&unarmed), "plain bridge 12.9 us, cable 10.1 us; no fast path between these two");
    }

    #[test]
    fn the_table_has_a_line_for_each_mode() {
        let mut out = Vec::new();
        text(&samples::report(), &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        let line: Vec<_> =
            out.lines().find(|l| l.contains("plain bridge  ")).unwrap().split_whitespace().collect();
        assert_eq!(line, ["plain", "bridge", "12.90", "13.90", "21.90", "13.15", "2000"], "{out}");
        let mut err = Vec::new();
        warnings(&samples::report(), &mut err).unwrap();
        assert!(String::from_utf8(err).unwrap().contains("hint: measure on a machine"));
    }

    #[test]
    fn json_has_the_promised_fields_and_can_be_read_again() {
        let report = samples::report();
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["version"], 1);
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
        assert!(json.get("tcp_rr").is_none(), "what is not measured is not there");
        assert!(matches!(report.cases[1].results, Results::Rate(_)));
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
    }
}
