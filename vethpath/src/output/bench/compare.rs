//! The comparison with a former run, as text.

use std::io::{self, Write};

use super::{
    super::format::{Column, render},
    text::figure,
};
use crate::bench::{Change, Compared, Comparison, Interval, Mode, Spec};

/// Prints the comparison.
///
/// # Errors
/// Those of `out`.
pub fn compare(comparison: &Comparison, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\ncompared with the run of {}", super::super::printable(&comparison.then))?;
    for difference in &comparison.differences {
        writeln!(out, "not the same: {}: {} then, {} now", difference.what, difference.then, difference.now)?;
    }
    for case in &comparison.cases {
        writeln!(out, "\n{}", case.spec.name())?;
        let columns = ["FIGURE", "THEN", "NOW", "NOW/THEN", "CHANGE"].map(Column::Text);
        write!(out, "{}", render(&columns, rows(case).into_iter().map(Into::into).collect()))?;
    }
    let lacking = [(&comparison.only_then, "now"), (&comparison.only_now, "then")];
    for (spec, when) in lacking.iter().flat_map(|(specs, when)| specs.iter().map(move |spec| (spec, when))) {
        writeln!(out, "not measured {when}: {}", spec.name())?;
    }
    writeln!(out, "\n{CAUTION}")
}

/// A note for readers of the comparison.
pub(super) const CAUTION: &str = "Figures of a path are of two runs, between which the machine may have \
     changed; ratios and overhead removed are each of one run.";

/// A row for each figure: name, then, now, ratio, verdict.
pub(super) fn rows(case: &Compared) -> Vec<[String; 5]> {
    let path =
        |(mode, change): (Mode, &Change)| row(mode.name(), change, |value| format_value(&case.spec, value));
    let mut rows: Vec<_> = case.paths.iter().map(path).collect();
    let ratios = [("fast/bridge", &case.fast_to_bridge), ("overhead removed", &case.overhead_removed)];
    for (name, change) in ratios {
        rows.extend(change.as_ref().map(|change| row(name, change, |value| format!("{value:.3}"))));
    }
    rows
}

fn row(name: &str, change: &Change, say: impl Fn(f64) -> String) -> [String; 5] {
    let interval = |i: Interval| format!("{} ({} to {})", say(i.value), say(i.low), say(i.high));
    let ratio = change.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
    [name.to_owned(), interval(change.then), interval(change.now), ratio, change.verdict.name().to_owned()]
}

/// A figure with enough digits to show differences between runs.
fn format_value(spec: &Spec, value: f64) -> String {
    if spec.work.is_latency() { format!("{value:.2}") } else { figure(spec.work.unit(), value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::samples;

    #[test]
    fn then_and_now_stand_beside_each_other() {
        let then = samples::report();
        let mut now = then.clone();
        now.cases[1].fast_to_bridge = Some(Interval { value: 0.9, low: 0.88, high: 0.95 });
        let mut out = Vec::new();
        compare(&Comparison::of(&then, &now), &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        let line = |start: &str| {
            let line = out.lines().filter(|line| line.starts_with(start));
            line.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        let same = "1.000 no change distinguishable from noise";
        assert_eq!(
            line("fast/bridge"),
            [
                format!("fast/bridge 0.822 (0.810 to 0.830) 0.822 (0.810 to 0.830) {same}"),
                "fast/bridge 0.822 (0.810 to 0.830) 0.900 (0.880 to 0.950) 1.095 better".to_owned(),
            ],
            "{out}"
        );
        assert!(line("fast path")[0].starts_with("fast path 10.70 (10.70 to 10.70)"), "{out}");
        assert!(out.ends_with("are each of one run.\n"), "{out}");
    }
}
