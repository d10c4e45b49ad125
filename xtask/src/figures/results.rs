//! The results: a report of `vethpath bench --json` or the text of a benchmark, by source. Of reports, what the documents
//! show.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use serde_json::Value;
pub(super) use vethpath_figures::statistics::Interval;
use vethpath_figures::statistics::median;

use crate::{documents, error::Error};

/// The results by source: a report, or the text that a benchmark printed. The key `measured` holds when and of which
/// commit each was measured.
pub(super) type Raw = BTreeMap<String, Value>;

/// The paths: the report's name and the document's.
pub(super) const PATHS: [(&str, &str); 3] =
    [("cable", "cable"), ("bridge", "plain bridge"), ("fast", "fast path")];

/// A report.
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) cases: Vec<Case>,
}

/// The measured machine.
#[derive(Debug, Deserialize)]
pub(super) struct Machine {
    pub(super) cpu: Option<String>,
    pub(super) cpus: usize,
    pub(super) kernel: Option<String>,
}

/// A case.
#[derive(Debug, Deserialize)]
pub(super) struct Case {
    pub(super) work: String,
    pub(super) unit: String,
    pub(super) rounds: usize,
    latency: Option<Value>,
    rate: Option<Value>,
    pub(super) fast_to_bridge: Option<Interval>,
    pub(super) fast_to_cable: Option<Interval>,
    pub(super) overhead_removed: Option<Interval>,
}

impl Case {
    /// The median of the rounds of a path, like the first line of `bench`. Ratios are computed per round too.
    pub(super) fn figure(&self, path: &str) -> Option<f64> {
        median(self.by_round(path))
            .or_else(|| self.rate.as_ref().and_then(|rate| rate[path]["median"].as_f64()))
    }

    /// The median of each round, on a path.
    pub(super) fn by_round(&self, path: &str) -> Vec<f64> {
        let rounds = self.latency.as_ref().map(|latency| latency[path]["round_p50_us"].clone());
        rounds.and_then(|rounds| serde_json::from_value(rounds).ok()).unwrap_or_default()
    }

    /// The round-trip times of a path, as (microseconds, count).
    pub(super) fn histogram(&self, path: &str) -> Vec<(f64, u64)> {
        let histogram = self.latency.as_ref().map(|latency| latency[path]["histogram"].clone());
        histogram.and_then(|histogram| serde_json::from_value(histogram).ok()).unwrap_or_default()
    }
}

/// The report of a source.
pub(super) fn report(raw: &Raw, source: &str) -> Result<Report, Error> {
    let faulty = |why: String| Error::Figures(format!("{source}: {why}"));
    let value = raw.get(source).ok_or_else(|| faulty("it was not measured".to_owned()))?;
    serde_json::from_value(value.clone()).map_err(|error| faulty(error.to_string()))
}

/// The first case of a source.
pub(super) fn first(raw: &Raw, source: &str) -> Result<Case, Error> {
    let first = report(raw, source)?.cases.into_iter().next();
    first.ok_or_else(|| Error::Figures(format!("{source}: it has no case")))
}

/// What a benchmark printed.
pub(super) fn printed<'a>(raw: &'a Raw, source: &str) -> Result<&'a str, Error> {
    let text = raw.get(source).and_then(Value::as_str);
    text.ok_or_else(|| Error::Figures(format!("{source}: it was not measured")))
}

/// Reads the file of the results.
pub(super) fn read(file: &Path) -> Result<Raw, Error> {
    serde_json::from_str(&documents::read(file)?)
        .map_err(|error| Error::Figures(format!("{}: {error}", file.display())))
}

/// Writes the file of the results, one source per line.
pub(super) fn write(file: &Path, raw: &Raw) -> Result<(), Error> {
    documents::write(file, &text(raw))
}

fn text(raw: &Raw) -> String {
    let lines: Vec<_> =
        raw.iter().map(|(name, value)| format!("{}: {value}", Value::from(name.as_str()))).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_can_be_read_again() {
        let raw: Raw = [("a".to_owned(), Value::from("1 ns")), ("b".to_owned(), Value::from(2))].into();
        assert_eq!(serde_json::from_str::<Raw>(&text(&raw)).expect("JSON"), raw);
    }
}
