//! What `bench` prints.

use std::io::{self, Write};

use super::table::{Column, render};
use crate::bench::{Distribution, Mode, PerMode, Progress, Report};

/// Erases the rest of a terminal's line.
const ERASE: &str = "\x1b[K";

/// Prints a report for people: the answer first, then a table.
///
/// # Errors
/// Those of `out`.
pub fn text(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", answer(report))?;
    writeln!(out)?;
    write!(out, "{}", table(&report.udp_rr))?;
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
        writeln!(err, "warning: {warning}\nhint: {}", warning.advice())?;
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
    let PerMode { cable, bridge, fast } = &report.udp_rr;
    let floor = format!("plain bridge {:.1} us, cable {:.1} us", bridge.p50_us, cable.p50_us);
    let Some(fast) = fast else { return format!("{floor}; no fast path between these two") };
    let removed = match report.overhead_removed {
        Some(i) => format!(
            "{:.0} % of the bridge's overhead removed (95 % interval {:.2} to {:.2})",
            100.0 * i.value,
            i.low,
            i.high
        ),
        None => "no overhead that could be told from noise".to_owned(),
    };
    format!("fast path: {:.1} us, {floor}; {removed}", fast.p50_us)
}

fn table(udp_rr: &PerMode<Distribution>) -> String {
    let PerMode { cable, bridge, fast } = udp_rr;
    let us = |value: f64| format!("{value:.2}");
    let row = |(mode, d): (Mode, &Distribution)| {
        vec![mode.name().to_owned(), us(d.p50_us), us(d.p90_us), us(d.p99_us), us(d.mean_us), d.n.to_string()]
    };
    let fast = fast.as_ref().map(|fast| (Mode::Fast, fast));
    let modes = [(Mode::Cable, cable), (Mode::Bridge, bridge)].into_iter().chain(fast);
    let columns = [Column::Text("PATH")].into_iter();
    let columns = columns.chain(["P50", "P90", "P99", "MEAN", "N"].map(Column::Number));
    render(&columns.collect::<Vec<_>>(), modes.map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Interval, Warning};

    fn distribution(p50_us: f64) -> Distribution {
        Distribution {
            p50_us,
            p90_us: p50_us + 1.0,
            p99_us: p50_us + 9.0,
            mean_us: p50_us + 0.25,
            n: 1234,
            lost: 0,
            round_p50_us: vec![p50_us],
        }
    }

    fn report() -> Report {
        Report {
            lab: "lab".into(),
            from: "ns0".into(),
            to: "ns1".into(),
            rounds: 6,
            warnings: vec![Warning::OneCpu],
            udp_rr: PerMode {
                cable: distribution(10.1),
                bridge: distribution(12.9),
                fast: Some(distribution(10.6)),
            },
            overhead_removed: Some(Interval { value: 0.821, low: 0.78, high: 0.86 }),
        }
    }

    #[test]
    fn the_first_line_is_the_answer() {
        assert_eq!(
            answer(&report()),
            "fast path: 10.6 us, plain bridge 12.9 us, cable 10.1 us; \
             82 % of the bridge's overhead removed (95 % interval 0.78 to 0.86)"
        );
        let unknown = Report { overhead_removed: None, ..report() };
        assert!(answer(&unknown).ends_with("cable 10.1 us; no overhead that could be told from noise"));
        let udp_rr = PerMode { fast: None, ..report().udp_rr };
        let unarmed = Report { udp_rr, overhead_removed: None, ..report() };
        assert_eq!(answer(&unarmed), "plain bridge 12.9 us, cable 10.1 us; no fast path between these two");
    }

    #[test]
    fn the_table_has_a_line_for_each_mode() {
        let mut out = Vec::new();
        text(&report(), &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        let line: Vec<_> =
            out.lines().find(|l| l.contains("plain bridge  ")).unwrap().split_whitespace().collect();
        assert_eq!(line, ["plain", "bridge", "12.90", "13.90", "21.90", "13.15", "1234"], "{out}");
        let mut err = Vec::new();
        warnings(&report(), &mut err).unwrap();
        assert!(String::from_utf8(err).unwrap().contains("hint: measure on a machine"));
    }

    #[test]
    fn json_has_the_promised_fields() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["udp_rr"]["fast"]["p50_us"], 10.6);
        assert_eq!(json["overhead_removed"]["high"], 0.86);
        assert_eq!(json["warnings"][0]["kind"], "one-cpu");
        assert!(json.get("tcp_rr").is_none(), "what is not measured is not there");
    }
}
