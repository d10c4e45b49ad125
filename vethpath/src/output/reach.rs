//! Which hosts reach which, and whether expectations hold: text for people, and JUnit's XML.

use std::{
    fmt::Write as _,
    io::{self, Write},
    time::Duration,
};

use super::{
    format::{Column, grouped, render},
    printable,
    round_trips::milliseconds,
};
use crate::{
    reach::{Cell, Matrix, Outcome, Verdict},
    topology::{Family, NsName},
};

/// The most hosts whose matrix is printed. Of more, only the pairs that failed are.
const MOST_COLUMNS: usize = 10;

/// The most pairs that are listed.
const MOST_LISTED: usize = 50;

/// Prints which hosts reach which: a matrix of round-trip times, or a list of failures, and a line for each family.
///
/// # Errors
/// Those of `out`.
pub fn reachability(matrix: &Matrix, out: &mut dyn Write) -> io::Result<()> {
    let mut text = String::new();
    for family in Family::ALL {
        let cells: Vec<&Cell> = matrix.pairs.iter().filter(|cell| cell.family == family).collect();
        if cells.is_empty() {
            continue;
        }
        let fit = matrix.hosts.len() <= MOST_COLUMNS;
        let body = if fit { grid(matrix, &cells) } else { failures(&cells) };
        let _ = writeln!(text, "{}{}", summary(family, &cells), if body.is_empty() { "" } else { ":" });
        text += &body;
    }
    if text.is_empty() {
        text = "no two hosts of the lab have addresses of one family\n".to_owned();
    }
    out.write_all(text.as_bytes())
}

/// `IPv4: 5 of 6 pairs reached, round trips of 0.081 ms, at most 0.213 ms`.
fn summary(family: Family, cells: &[&Cell]) -> String {
    let mut times: Vec<Duration> = cells.iter().filter_map(|cell| time(cell)).collect();
    times.sort_unstable();
    let count = |number: usize| grouped(u64::try_from(number).unwrap_or(u64::MAX));
    let mut text = format!("{family}: {} of {} pairs reached", count(times.len()), count(cells.len()));
    if let (Some(median), Some(worst)) = (times.get(times.len().saturating_sub(1) / 2), times.last()) {
        let _ = write!(text, ", round trips of {} ms, at most {} ms", in_ms(*median), in_ms(*worst));
    }
    text
}

fn time(cell: &Cell) -> Option<Duration> {
    match cell.outcome {
        Outcome::Reached(time) => Some(time),
        Outcome::Unreached(_) => None,
    }
}

fn in_ms(time: Duration) -> String {
    milliseconds(u32::try_from(time.as_micros()).unwrap_or(u32::MAX))
}

/// A row for each host that asks, a column for each that answers: milliseconds, or why there is no reply.
fn grid(matrix: &Matrix, cells: &[&Cell]) -> String {
    let mut text: Vec<Vec<String>> = vec![[vec!["FROM".to_owned()], names(matrix)].concat()];
    for from in &matrix.hosts {
        let cell = |to: &NsName| {
            let found = cells.iter().find(|cell| cell.from == *from && cell.to == *to);
            found.map_or("-".to_owned(), |cell| match cell.outcome {
                Outcome::Reached(time) => in_ms(time),
                Outcome::Unreached(reason) => reason.to_owned(),
            })
        };
        let row: Vec<String> = matrix.hosts.iter().map(cell).collect();
        if row.iter().any(|cell| cell != "-") {
            text.push([vec![from.to_string()], row].concat());
        }
    }
    aligned(&text)
}

fn names(matrix: &Matrix) -> Vec<String> {
    matrix.hosts.iter().map(ToString::to_string).collect()
}

/// Rows of cells below each other: the first column to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width =
        |n: usize| rows.iter().filter_map(|row| row.get(n)).map(String::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (n, cell) in row.iter().enumerate() {
            let width = widths.get(n).copied().unwrap_or_default();
            let _ = if n == 0 { write!(text, "{cell:<width$}") } else { write!(text, "  {cell:>width$}") };
        }
        text.push('\n');
    }
    text
}

/// A line for each pair that failed.
fn failures(cells: &[&Cell]) -> String {
    let failed: Vec<_> = cells.iter().filter(|cell| !cell.outcome.is_reached()).collect();
    if failed.is_empty() {
        return String::new();
    }
    let row = |cell: &&&Cell| {
        let reason = match cell.outcome {
            Outcome::Reached(_) => String::new(),
            Outcome::Unreached(reason) => reason.to_owned(),
        };
        vec![cell.from.to_string(), cell.to.to_string(), cell.address.to_string(), reason]
    };
    let columns = [Column::Text("FROM"), Column::Text("TO"), Column::Text("ADDRESS"), Column::Text("RESULT")];
    let mut text = render(&columns, failed.iter().take(MOST_LISTED).map(row).collect());
    if let Some(more @ 1..) = failed.len().checked_sub(MOST_LISTED) {
        let _ = writeln!(text, "... and {} more; `--json` has all", grouped(more as u64));
    }
    text
}

/// Prints a line for each expectation, and how many hold.
///
/// # Errors
/// Those of `out`.
pub fn verdicts(verdicts: &[Verdict], out: &mut dyn Write) -> io::Result<()> {
    let mut text = String::new();
    for verdict in verdicts {
        let result = if verdict.holds { "ok  " } else { "FAIL" };
        let _ = write!(text, "{result}  {}  ({} ms)", verdict.name, grouped(verdict.took_ms));
        let _ = match &verdict.reason {
            Some(reason) => writeln!(text, ": {}", printable(reason)),
            None => writeln!(text),
        };
    }
    let held = verdicts.iter().filter(|verdict| verdict.holds).count();
    let _ = writeln!(text, "{held} of {} expectations hold", verdicts.len());
    out.write_all(text.as_bytes())
}

/// The verdicts as JUnit's XML, which CI systems read: a test suite with the lab's name.
#[must_use]
pub fn junit(lab: &str, verdicts: &[Verdict]) -> String {
    let seconds = |ms: u64| format!("{}.{:03}", ms / 1000, ms % 1000);
    let failures = verdicts.iter().filter(|verdict| !verdict.holds).count();
    // They are tried at the same time, and CI systems expect the sum.
    let total: u64 = verdicts.iter().map(|verdict| verdict.took_ms).sum();
    let counts = format!("tests=\"{}\" failures=\"{failures}\" time=\"{}\"", verdicts.len(), seconds(total));
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ =
        writeln!(xml, "<testsuites {counts}>\n  <testsuite name=\"{}\" {counts} errors=\"0\">", escaped(lab));
    for verdict in verdicts {
        let (name, time) = (escaped(&verdict.name), seconds(verdict.took_ms));
        let _ = write!(xml, "    <testcase classname=\"{}\" name=\"{name}\" time=\"{time}\"", escaped(lab));
        let _ = match &verdict.reason {
            None => writeln!(xml, "/>"),
            Some(reason) => {
                let reason = escaped(reason);
                writeln!(
                    xml,
                    ">\n      <failure message=\"{reason}\">{name}: {reason}</failure>\n    </testcase>"
                )
            }
        };
    }
    xml + "  </testsuite>\n</testsuites>\n"
}

/// Text in XML. Characters that XML has no way to write are replaced.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            _ if character.is_control() => safe.push('\u{fffd}'),
            _ => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Expectation, Target};

    fn cell(from: &str, to: &str, outcome: Outcome) -> Cell {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        Cell { from, to, family: Family::Ipv4, address: "10.0.0.1".parse().unwrap(), outcome }
    }

    fn printed(hosts: &[&str], pairs: Vec<Cell>) -> String {
        let hosts = hosts.iter().map(|name| name.parse().unwrap()).collect();
        let reached = pairs.iter().filter(|cell| cell.outcome.is_reached()).count();
        let matrix = Matrix { lab: "lab".parse().unwrap(), hosts, tried: pairs.len(), reached, pairs };
        let mut out = Vec::new();
        reachability(&matrix, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_small_lab_has_a_matrix_of_round_trip_times() {
        let reached = |us| Outcome::Reached(Duration::from_micros(us));
        let pairs = vec![
            cell("ns0", "ns1", reached(81)),
            cell("ns0", "ns2", Outcome::Unreached("no route")),
            cell("ns1", "ns0", reached(1_213)),
        ];
        let expected = "\
IPv4: 2 of 3 pairs reached, round trips of 0.081 ms, at most 1.213 ms:
FROM    ns0    ns1       ns2
ns0       -  0.081  no route
ns1   1.213      -         -
";
        assert_eq!(printed(&["ns0", "ns1", "ns2", "idle"][..3], pairs), expected);
        assert_eq!(printed(&["ns0"], vec![]), "no two hosts of the lab have addresses of one family\n");
    }

    #[test]
    fn of_a_large_lab_what_failed_is_listed() {
        let hosts: Vec<String> = (0..11).map(|n| format!("h{n}")).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let reached = || Outcome::Reached(Duration::from_micros(81));
        let all = "IPv4: 1 of 1 pairs reached, round trips of 0.081 ms, at most 0.081 ms\n";
        assert_eq!(printed(&hosts, vec![cell("h0", "h1", reached())]), all);
        let silent = || cell("h0", "h10", Outcome::Unreached("no reply"));
        let expected = "\
IPv4: 1 of 2 pairs reached, round trips of 0.081 ms, at most 0.081 ms:
FROM  TO   ADDRESS   RESULT
h0    h10  10.0.0.1  no reply
";
        assert_eq!(printed(&hosts, vec![cell("h0", "h1", reached()), silent()]), expected);
        let many = printed(&hosts, (0..1060).map(|_| silent()).collect());
        assert!(many.ends_with("\n... and 1,010 more; `--json` has all\n"), "{many}");
        assert_eq!(many.lines().count(), 53);
    }

    fn verdict(reason: Option<&str>) -> Verdict {
        let expectation = Expectation {
            from: "ns0".parse().unwrap(),
            to: Target::Namespace("ns1".parse().unwrap()),
            reaches: true,
            port: Some(80),
            path: None,
            within_ms: 5000,
        };
        Verdict {
            name: expectation.to_string(),
            expectation,
            holds: reason.is_none(),
            took_ms: 1_234,
            reason: reason.map(str::to_owned),
        }
    }

    #[test]
    fn each_expectation_has_a_line_with_its_result() {
        let mut out = Vec::new();
        verdicts(&[verdict(None), verdict(Some("connection refused from 10.0.0.2"))], &mut out).unwrap();
        let expected = "\
ok    ns0 reaches ns1 at port 80  (1,234 ms)
FAIL  ns0 reaches ns1 at port 80  (1,234 ms): connection refused from 10.0.0.2
1 of 2 expectations hold
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn junit_is_xml_whatever_a_reason_has_in_it() {
        let xml = junit("lab", &[verdict(None), verdict(Some("a <b> & \"c\" \u{1b}\u{ffff}"))]);
        let document = roxmltree::Document::parse(&xml).unwrap_or_else(|error| panic!("{error}\n{xml}"));
        let suite = document.descendants().find(|node| node.has_tag_name("testsuite")).unwrap();
        assert_eq!((suite.attribute("tests"), suite.attribute("failures")), (Some("2"), Some("1")));
        assert_eq!((suite.attribute("name"), suite.attribute("time")), (Some("lab"), Some("2.468")));
        let cases: Vec<_> = suite.children().filter(|node| node.has_tag_name("testcase")).collect();
        assert_eq!(cases[0].attribute("name"), Some("ns0 reaches ns1 at port 80"));
        assert_eq!(cases[0].first_element_child(), None);
        let failure = cases[1].first_element_child().unwrap();
        assert_eq!(failure.attribute("message"), Some("a <b> & \"c\" \u{fffd}\u{fffd}"));
    }
}
