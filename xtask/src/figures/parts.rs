//! What each part of the port program adds to a round trip, by UDP and by TCP: from what the benchmark `limit`
//! printed.

use std::fmt::Write as _;

use super::{Raw, report::printed};
use crate::error::Error;

/// The runs.
const SOURCES: [&str; 2] = ["limit", "limit-tcp"];

/// Each does what the one before does, and more.
const PARTS: [&str; 7] = [
    "cable",
    "redirect to a constant",
    "the same, after lease and header",
    "and the sender's entry",
    "and the receiver's entry",
    "and all that is decided",
    "fast path: that and counting, to where the entry says",
];

/// What is compared.
const RATIOS: [&str; 5] = [
    "fast over constant",
    "fast over cable",
    "slow path with programs over plain bridge",
    "overhead removed, fast path",
    "overhead removed, constant",
];

/// A table of both.
pub(super) fn table(raw: &Raw) -> Result<String, Error> {
    let mut text = "| way | UDP | adds | TCP | adds |\n|---|---|---|---|---|\n".to_owned();
    let mut before = [None; SOURCES.len()];
    for part in PARTS {
        let _ = write!(text, "| {part} |");
        for (source, before) in SOURCES.iter().zip(&mut before) {
            let time: f64 = said(raw, source, part)?
                .parse()
                .map_err(|_| Error::Figures(format!("{source}: no number for {part}")))?;
            let adds =
                before.replace(time).map_or_else(String::new, |before| format!("{:.3} ", time - before));
            let _ = write!(text, " {time:.3} | {adds}|");
        }
        text.push('\n');
    }
    for ratio in RATIOS {
        let [udp, tcp] = [said(raw, SOURCES[0], ratio)?, said(raw, SOURCES[1], ratio)?];
        let _ = writeln!(text, "| {ratio} | {udp} | | {tcp} | |");
    }
    Ok(text)
}

/// What was printed before a name.
fn said<'r>(raw: &'r Raw, source: &str, name: &str) -> Result<&'r str, Error> {
    let mut lines = printed(raw, source)?.lines().filter_map(|line| line.trim().split_once("  "));
    let said = lines.find(|(_, what)| *what == name).map(|(said, _)| said);
    said.ok_or_else(|| Error::Figures(format!("{source}: nothing of {name}")))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn run(first: f64) -> Value {
        let mut text = "Udp, 66 rounds\n".to_owned();
        for (number, part) in PARTS.iter().enumerate() {
            let _ = writeln!(text, "   {:.3}  {part}", first + number as f64 / 100.0);
        }
        for ratio in RATIOS {
            let _ = writeln!(text, "1.0241 (1.0223 to 1.0259)  {ratio}");
        }
        text.into()
    }

    #[test]
    fn each_part_has_what_it_adds() {
        let raw: Raw = [("limit".to_owned(), run(5.0)), ("limit-tcp".to_owned(), run(6.0))].into();
        let table = table(&raw).expect("a table");
        assert!(table.contains("| cable | 5.000 | | 6.000 | |\n"), "{table}");
        assert!(table.contains("| and the sender's entry | 5.030 | 0.010 | 6.030 | 0.010 |\n"), "{table}");
        let row = "| fast over cable | 1.0241 (1.0223 to 1.0259) | | 1.0241 (1.0223 to 1.0259) | |\n";
        assert!(table.contains(row), "{table}");
    }

    #[test]
    fn what_was_not_printed_is_named() {
        let raw: Raw = [("limit".to_owned(), run(5.0)), ("limit-tcp".to_owned(), "nothing".into())].into();
        let error = table(&raw).expect_err("half of it").to_string();
        assert!(error.contains("limit-tcp: nothing of cable"), "{error}");
    }
}
