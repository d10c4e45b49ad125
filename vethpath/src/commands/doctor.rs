//! `vethpath doctor`: checks the host for what vethpath needs, with hints.

use std::io::{self, Write};

use serde::Serialize;

use super::{Exit, Failure, neighbours};
use crate::kernel::probe::{Check, Status, checks};

/// Runs the checks and prints the results, as aligned text or as `{"checks": [..]}`. Returns whether a lab can be
/// brought up. Only missing features prevent this, and warnings do not.
///
/// # Errors
/// Those of `out`.
pub fn run(json: bool, out: &mut dyn Write) -> io::Result<bool> {
    let mut report = Report { checks: checks() };
    report.checks.extend(neighbours::checks());
    if json {
        print_json(&report, out)?
    } else {
        print_text(&report, out)?
    }
    Ok(report.checks.iter().all(|check| check.status != Status::Missing))
}

/// The exit code of the result.
pub fn verdict(fine: bool) -> Result<Exit, Failure> {
    Ok(if fine { Exit::Done } else { Exit::System })
}

#[derive(Serialize)]
struct Report {
    checks: Vec<Check>,
}

fn print_json(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}

/// Prints a line for each check, with its advice below.
fn print_text(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let width = report.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    for check in &report.checks {
        writeln!(out, "{:<7}  {:<width$}  {}", word(check.status), check.name, check.found)?;
        if let Some(advice) = &check.advice {
            writeln!(out, "{:9}hint: {advice}", "")?;
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

    #[test]
    fn json_has_a_fixed_form() {
        let mut out = Vec::new();
        print_json(&report(), &mut out).unwrap();
        let expected = json!({"checks": [
            {"name": "a", "status": "ok", "found": "something", "advice": null},
            {"name": "long name", "status": "missing", "found": "something", "advice": "do this"},
        ]});
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap(), expected);
    }

    #[test]
    fn this_host_can_be_looked_at() {
        let mut out = Vec::new();
        run(false, &mut out).unwrap();
        eprint!("{}", String::from_utf8(out).unwrap());
    }
}
