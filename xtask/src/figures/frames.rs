//! Compares the datapaths, from the rows of `cargo bench --bench frames`.

use std::fmt::Write as _;

use super::results::{Raw, printed};
use crate::error::Error;

/// A printed row: one figure of a datapath in one lab.
#[derive(Debug)]
struct Row<'a> {
    bridges: &'a str,
    /// `bridge-nf-call-iptables`.
    netfilter: &'a str,
    what: &'a str,
    datapath: &'a str,
    median: f64,
    /// Quartiles.
    low: f64,
    high: f64,
    /// The median divided by the plain bridge's.
    times: f64,
    /// The lowest ratio of any round.
    least: f64,
    /// Discarded rounds.
    aside: u64,
}

const LIVE: &str = "live frames, Mpps";
const TCP: &str = "TCP, Gbit/s";

/// The figures of the table, in order: the benchmark's name and the document's.
const FIGURES: [(&str, &str); 4] = [
    (LIVE, "frames without sockets, Mpps"),
    ("AF_XDP, Mpps", "AF_XDP, Mpps"),
    ("UDP round trip, us", "UDP round trip, us"),
    (TCP, TCP),
];

/// A line for each figure and number of bridges. The value without netfilter is in parentheses.
pub(super) fn table(raw: &Raw) -> Result<String, Error> {
    let rows = rows(raw)?;
    let mut text = "| | plain bridge | `\"tc\"` | `\"xdp\"` |\n|---|---|---|---|\n".to_owned();
    for (what, name) in FIGURES {
        for (bridges, across) in [("1", "one bridge"), ("8", "eight bridges")] {
            let mut line = format!("| {name}, {across} |");
            for datapath in ["bridge", "tc", "xdp"] {
                let cell = cell(find(&rows, bridges, "1", what, datapath)?);
                let without = find(&rows, bridges, "0", what, datapath).ok();
                let without = without.map_or_else(String::new, |row| format!(" ({})", self::cell(row)));
                let _ = write!(line, " {cell}{without} |");
            }
            let _ = writeln!(text, "{line}");
        }
    }
    Ok(text)
}

/// The summary of XDP, with the spread of the rounds.
pub(super) fn summary(raw: &Raw) -> Result<String, Error> {
    let rows = rows(raw)?;
    let live = |bridges, netfilter, datapath| find(&rows, bridges, netfilter, LIVE, datapath);
    let [one, eight] = [live("1", "1", "xdp")?, live("8", "1", "xdp")?];
    let [one_without, eight_without] = [live("1", "0", "xdp")?, live("8", "0", "xdp")?];
    let faster =
        |bridges| Ok::<_, Error>(live(bridges, "0", "bridge")?.median / live(bridges, "1", "bridge")?.median);
    let spread = |of_tcp: bool| {
        let all = rows.iter().filter(|row| (row.what == TCP) == of_tcp);
        let widths = all.map(|row| (row.high - row.median).max(row.median - row.low) / row.median);
        (widths.fold(0.0, f64::max) * 100.0).ceil()
    };
    // All datapaths of a figure share their rounds.
    let aside: u64 = rows.iter().filter(|row| row.datapath == "bridge").map(|row| row.aside).sum();
    Ok(format!(
        "With `bridge-nf-call-iptables` at 1, this kernel's default, XDP carries {} times the frames of the plain \
         bridge through one bridge (in each round at least {:.1} times) and {} times through eight (at least {:.0}). \
         At 0 the plain bridge itself carries {:.1} times ({:.1} through eight) what it does at 1, and XDP {} times \
         ({} through eight) as much as that. The middle half of the rounds lies within {:.0} % of each figure, of TCP \
         within {:.0} %. Rounds put aside: {aside}.",
        multiple(one.times),
        one.least,
        multiple(eight.times),
        eight.least,
        faster("1")?,
        faster("8")?,
        multiple(one_without.times),
        multiple(eight_without.times),
        spread(false),
        spread(true),
    ))
}

fn cell(row: &Row<'_>) -> String {
    let median = if row.median < 20.0 { format!("{:.2}", row.median) } else { format!("{:.0}", row.median) };
    if row.datapath == "bridge" { median } else { format!("{median}, {} times", multiple(row.times)) }
}

fn multiple(times: f64) -> String {
    match times {
        ..2.0 => format!("{times:.2}"),
        ..10.0 => format!("{times:.1}"),
        _ => format!("{times:.0}"),
    }
}

fn find<'r, 'a>(
    rows: &'r [Row<'a>],
    bridges: &str,
    netfilter: &str,
    what: &str,
    datapath: &str,
) -> Result<&'r Row<'a>, Error> {
    let sought = [bridges, netfilter, what, datapath];
    let found = rows.iter().find(|row| [row.bridges, row.netfilter, row.what, row.datapath] == sought);
    found.ok_or_else(|| Error::Figures(format!("frames: no row | {} |", sought.join(" | "))))
}

fn rows(raw: &Raw) -> Result<Vec<Row<'_>>, Error> {
    // After the table's heading.
    printed(raw, "frames")?.lines().skip(2).map(row).collect()
}

fn row(line: &str) -> Result<Row<'_>, Error> {
    let faulty = || Error::Figures(format!("frames: not a row: {line}"));
    let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
    let &[bridges, netfilter, what, datapath, median, low, high, times, least, _rounds, aside] = &cells[..]
    else {
        return Err(faulty());
    };
    let number = |text: &str| text.parse().map_err(|_| faulty());
    Ok(Row {
        bridges,
        netfilter,
        what,
        datapath,
        median: number(median)?,
        low: number(low)?,
        high: number(high)?,
        times: number(times)?,
        least: number(least)?,
        aside: aside.parse().map_err(|_| faulty())?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Sample output: figures of 2, 4 and 40. Netfilter halves the plain bridge's.
    fn text() -> String {
        let mut text = "| bridges | ... |\n|---|---|\n".to_owned();
        for bridges in ["1", "8"] {
            for (netfilter, what) in [("0", LIVE), ("1", LIVE)]
                .into_iter()
                .chain(FIGURES[1..].iter().map(|(what, _)| ("1", *what)))
            {
                let plain = if netfilter == "0" { 2.0 } else { 1.0 };
                for (datapath, median) in [("bridge", plain), ("tc", 4.0), ("xdp", 40.0)] {
                    let (low, high, times) = (median * 0.99, median * 1.014, median / plain);
                    let least = times * 0.9;
                    let _ = writeln!(
                        text,
                        "| {bridges} | {netfilter} | {what} | {datapath} | {median:.3} | {low:.3} | {high:.3} | {times:.3} | {least:.3} | 11 | 1 |"
                    );
                }
            }
        }
        text
    }

    fn raw(text: String) -> Raw {
        [("frames".to_owned(), Value::from(text))].into()
    }

    #[test]
    fn each_figure_is_a_line() {
        let table = table(&raw(text())).expect("a table");
        let live = "\n| frames without sockets, Mpps, one bridge | 1.00 (2.00) | 4.00, 4.0 times (4.00, 2.0 times) | 40, 40 times (40, 20 times) |\n";
        assert!(table.contains(live), "{table}");
        assert!(
            table.ends_with("\n| TCP, Gbit/s, eight bridges | 1.00 | 4.00, 4.0 times | 40, 40 times |\n"),
            "{table}"
        );
        assert_eq!(table.lines().count(), 10, "{table}");
    }

    #[test]
    fn the_words_have_their_figures_from_the_rows() {
        let summary = summary(&raw(text())).expect("words");
        for part in [
            "carries 40 times the frames",
            "at least 36.0 times) and 40 times through eight (at least 36)",
            "itself carries 2.0 times (2.0 through eight) what it does at 1, and XDP 20 times (20 through eight)",
            "within 2 % of each figure",
            "Rounds put aside: 10.",
        ] {
            assert!(summary.contains(part), "{part}: {summary}");
        }
    }

    #[test]
    fn what_lacks_a_row_or_a_cell_is_refused() {
        let text = text();
        let lines = text.lines().count();
        let without = |text: String| table(&raw(text)).expect_err("it lacks something").to_string();
        let rows: Vec<_> = text.lines().take(lines - 1).collect();
        assert!(without(rows.join("\n")).contains("| 8 | 1 | TCP, Gbit/s | xdp |"));
        assert!(without(text.replace(" | 11 | 1 |", " |")).contains("not a row"));
    }
}
