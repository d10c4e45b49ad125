//! `vethpath doctor`: checks the host for what vethpath needs, with hints.

use std::io::{self, Write};

use serde::Serialize;

use super::{Exit, Failure, firewall, neighbours};
use crate::{
    kernel::probe::{Check, Status, checks},
    output::{self, printable},
};

/// Runs the checks and prints the results, as aligned text or as `{"checks": [..]}`. The exit code states whether a lab
/// can be brought up. Only missing features prevent this, and warnings do not.
pub fn run(json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut report = Report { checks: checks() };
    report.checks.extend(neighbours::checks());
    report.checks.extend(firewall::checks());
    let printed = if json { output::json(&report, out) } else { print_text(&report, out) };
    printed.map_err(Failure::output)?;
    let is_missing = report.checks.iter().any(|check| check.status == Status::Missing);
    Ok(if is_missing { Exit::System } else { Exit::Done })
}

#[derive(Serialize)]
struct Report {
    checks: Vec<Check>,
}

/// Prints a line for each check, with its advice below.
fn print_text(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let width = report.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    for check in &report.checks {
        let (name, found) = (printable(&check.name), printable(&check.found));
        writeln!(out, "{:<7}  {name:<width$}  {found}", word(check.status))?;
        if let Some(advice) = &check.advice {
            writeln!(out, "{:9}hint: {}", "", printable(advice))?;
        }
    }
    Ok(())
}

const fn word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Warning => "warning",
        Status::Missing => "missing",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Report {
        let check = |name: &str, status, advice: Option<&str>| Check {
            name: name.into(),
            status,
            found: "something".into(),
            advice: advice.map(Into::into),
        };
        Report {
            checks: vec![check("a", Status::Ok, None), check("long name", Status::Missing, Some("do this"))],
        }
    }

    #[test]
    fn text_is_aligned_and_advises() {
        let mut out = Vec::new();
        print_text(&report(), &mut out).unwrap();
        let expected =
            "ok       a          something\nmissing  long name  something\n         hint: do this\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    /// Others choose the names of chains and devices.
    #[test]
    fn names_of_others_are_shown_escaped() {
        let hostile = || "chain \u{1b}[2J".to_owned();
        let check = Check { name: "a".into(), status: Status::Ok, found: hostile(), advice: Some(hostile()) };
        let mut out = Vec::new();
        print_text(&Report { checks: vec![check] }, &mut out).unwrap();
        let expected = "ok       a  chain \\u{1b}[2J\n         hint: chain \\u{1b}[2J\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn json_has_a_fixed_form() {
        let mut out = Vec::new();
        output::json(&report(), &mut out).unwrap();
        let expected = json!({"checks": [
            {"name": "a", "status": "ok", "found": "something", "advice": null},
            {"name": "long name", "status": "missing", "found": "something", "advice": "do this"},
        ]});
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap(), expected);
    }

    #[test]
    fn this_host_can_be_checked() {
        let mut out = Vec::new();
        let _ = run(false, &mut out).unwrap();
        eprint!("{}", String::from_utf8(out).unwrap());
    }
}
