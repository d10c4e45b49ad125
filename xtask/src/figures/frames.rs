//! The table of datapaths, from what `cargo bench --bench frames` printed.

use std::fmt::Write as _;

use super::{Raw, report::printed};
use crate::error::Error;

/// What is measured of each datapath, in the order of the columns.
const DATAPATHS: [&str; 3] = ["bridge", "tc", "xdp"];

/// One figure of each datapath: the median, and how many times the bridge's it is.
#[derive(Debug, Default)]
struct Row {
    /// The lab, with what netfilter is told.
    lab: String,
    what: String,
    figures: Vec<(String, String)>,
}

/// A line for each figure and lab.
pub(super) fn table(raw: &Raw) -> Result<String, Error> {
    let mut text =
        "| | plain bridge | `\"tc\"` | times | `\"xdp\"` | times |\n|---|---|---|---|---|---|\n".to_owned();
    let rows = rows(printed(raw, "frames")?);
    if rows.is_empty() || rows.iter().any(|row| row.figures.len() != DATAPATHS.len()) {
        return Err(Error::Figures("frames: it did not print what it used to".to_owned()));
    }
    for Row { lab, what, figures } in rows {
        let [(bridge, _), (tc, by_tc), (xdp, by_xdp)] = &figures[..] else { continue };
        let _ = writeln!(text, "| {what}; {lab} | {bridge} | {tc} | {by_tc} | {xdp} | {by_xdp} |");
    }
    Ok(text)
}

fn rows(text: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut lab = String::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match &words[..] {
            [] => {}
            [datapath, median, .., times, "times", "the", "bridge"] if DATAPATHS.contains(datapath) => {
                if let Some(row) = rows.last_mut() {
                    row.figures.push(((*median).to_owned(), (*times).to_owned()));
                }
            }
            _ if line.contains("bridge-nf-call") => {
                lab = line.replace("bridge-nf-call-iptables = ", "netfilter ");
            }
            _ => rows.push(Row { lab: lab.clone(), what: line.to_owned(), figures: Vec::new() }),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const TEXT: &str = "
one bridge, bridge-nf-call-iptables = 0
live frames, Mpps
  bridge     2.98  (2.97 to 3.00)   1.00 times the bridge
  tc         3.59  (3.57 to 3.60)   1.20 times the bridge
  xdp        9.22  (9.20 to 9.30)   3.09 times the bridge
";

    #[test]
    fn each_figure_is_a_line() {
        let raw: Raw = [("frames".to_owned(), Value::from(TEXT))].into();
        let line = "| live frames, Mpps; one bridge, netfilter 0 | 2.98 | 3.59 | 1.20 | 9.22 | 3.09 |\n";
        assert!(table(&raw).expect("a table").ends_with(line), "{:?}", table(&raw));
    }

    #[test]
    fn what_lacks_a_datapath_is_refused() {
        let text = TEXT.lines().take(5).collect::<Vec<_>>().join("\n");
        let raw: Raw = [("frames".to_owned(), Value::from(text))].into();
        assert!(table(&raw).is_err());
    }
}
