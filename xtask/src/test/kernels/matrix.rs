//! The record of test runs by kernel and version of vethpath: stored in docs/kernels.json, shown in docs/kernels.md.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::kernel::{ALL, Kernel, Results};
use crate::{
    documents,
    error::Error,
    tools::{command, output, root, say},
};

const RECORDS: &str = "docs/kernels.json";
const DOCUMENT: &str = "docs/kernels.md";

/// A run on one kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// The day, UTC.
    date: String,
    vethpath: String,
    commit: String,
    release: String,
    /// By group: a prefix of the tests' names.
    tests: BTreeMap<String, Counts>,
    /// Tests that failed.
    failed: Vec<String>,
    /// Tests of features that the kernel lacks, with the feature.
    lacking: BTreeMap<String, String>,
}

/// The number of tests by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    passed: usize,
    failed: usize,
    lacking: usize,
}

/// By the kernel's name.
type Records = BTreeMap<String, Record>;

impl Record {
    /// From the results of a run.
    pub(super) fn of(kernel: &Kernel, results: &Results, commit: Option<String>) -> Self {
        let mut record = Self {
            date: output(command("date").args(["-u", "+%F"])).unwrap_or_default().trim().to_owned(),
            // All packages of the workspace have one version.
            vethpath: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit.unwrap_or_else(|| "unknown".to_owned()),
            release: results.release.clone(),
            tests: BTreeMap::new(),
            failed: Vec::new(),
            lacking: BTreeMap::new(),
        };
        for outcome in &results.outcomes {
            let counts = record.tests.entry(group(kernel, &outcome.name)).or_default();
            if let Some(what) = outcome.lacks() {
                counts.lacking += 1;
                record.lacking.insert(outcome.name.clone(), what.to_owned());
            } else if outcome.has_failed() {
                counts.failed += 1;
                record.failed.push(outcome.name.clone());
            } else {
                counts.passed += 1;
            }
        }
        record.failed.sort();
        record
    }

    /// Replaces this kernel's record and writes the document.
    pub(super) fn keep(self, kernel: &Kernel) -> Result<(), Error> {
        let mut records = read()?;
        records.insert(kernel.name.to_owned(), self);
        documents::write(&root().join(RECORDS), &text(&records)?)?;
        documents::write(&root().join(DOCUMENT), &document(&records)?)?;
        say(&format!("wrote {RECORDS} and {DOCUMENT}"));
        Ok(())
    }

    fn sum(&self) -> Counts {
        self.tests.values().fold(Counts::default(), |sum, one| Counts {
            passed: sum.passed + one.passed,
            failed: sum.failed + one.failed,
            lacking: sum.lacking + one.lacking,
        })
    }
}

/// The group of a test: a prefix of its name.
fn group(kernel: &Kernel, test: &str) -> String {
    let begins = kernel.tests.iter().find(|begins| test.starts_with(**begins)).copied();
    let group = begins.or_else(|| test.split("::").next()).unwrap_or(test);
    group.trim_end_matches(':').to_owned()
}

fn read() -> Result<Records, Error> {
    let text = documents::read(&root().join(RECORDS))?;
    serde_json::from_str(&text).map_err(|error| Error::Figures(format!("{RECORDS}: {error}")))
}

fn text(records: &Records) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(records).map_err(|error| Error::Figures(error.to_string()))?;
    Ok(text + "\n")
}

/// The document with the tables of these records.
fn document(records: &Records) -> Result<String, Error> {
    let text = documents::read(&root().join(DOCUMENT))?;
    documents::fill(&text, "kernels", |name| match name {
        "runs" => Ok(runs(records)),
        "tests" => Ok(tests(records)),
        "lacking" => Ok(lacking(records)),
        "skipped" => Ok(skipped()),
        other => Err(Error::Figures(format!("no such block: {other}"))),
    })
}

/// The records in running order.
fn in_order(records: &Records) -> impl Iterator<Item = (&'static Kernel, &Record)> {
    ALL.iter().filter_map(|kernel| Some((kernel, records.get(kernel.name)?)))
}

/// A line for each run.
fn runs(records: &Records) -> String {
    let mut table = "| `--kernel` | kernel | architecture | vethpath | day | passed | failed | lacking |\n\
                     |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for (kernel, record) in in_order(records) {
        let Counts { passed, failed, lacking } = record.sum();
        let (name, architecture) = (kernel.name, kernel.machine.architecture);
        let Record { release, vethpath, commit, date, .. } = record;
        table += &format!(
            "| `{name}` | {release} | {architecture} | {vethpath} (`{commit}`) | {date} | {passed} | {failed} | {lacking} |\n"
        );
    }
    table
}

/// A line for each group of tests, and a column for each kernel.
fn tests(records: &Records) -> String {
    let runs: Vec<_> = in_order(records).collect();
    let mut groups: Vec<_> = runs.iter().flat_map(|(_, record)| record.tests.keys()).collect();
    groups.sort();
    groups.dedup();
    let names: Vec<_> = runs.iter().map(|(kernel, _)| kernel.name).collect();
    let mut table = format!("| tests | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(runs.len()));
    for group in groups {
        let cells: Vec<_> =
            runs.iter().map(|(_, record)| record.tests.get(group).map_or("".to_owned(), cell)).collect();
        table += &format!("| `{group}` | {} |\n", cells.join(" | "));
    }
    table
}

/// `12`, or `12, 1 failed, 2 lacking`.
fn cell(counts: &Counts) -> String {
    let Counts { passed, failed, lacking } = counts;
    let mut cell = passed.to_string();
    for (number, word) in [(failed, "failed"), (lacking, "lacking")] {
        if *number > 0 {
            cell += &format!(", {number} {word}");
        }
    }
    cell
}

/// Tests that failed, and features that kernels lack.
fn lacking(records: &Records) -> String {
    let mut list = String::new();
    for (kernel, record) in in_order(records) {
        for test in &record.failed {
            list += &format!("- `{}`: `{test}` failed.\n", kernel.name);
        }
        for (test, what) in &record.lacking {
            list += &format!("- `{}`: `{test}`: the kernel lacks {what}.\n", kernel.name);
        }
    }
    if list.is_empty() { "None.\n".to_owned() } else { list }
}

/// Tests that are not run, and why.
fn skipped() -> String {
    let mut table = "| `--kernel` | tests | why |\n|---|---|---|\n".to_owned();
    for kernel in &ALL {
        for (begins, why) in kernel.skipped {
            table += &format!("| `{}` | `{}` | {why} |\n", kernel.name, begins.trim_end_matches(':'));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{super::named, *};

    fn outcome(name: &str, failure: Option<&str>, lacks: Option<&str>) -> crate::test::runner::Outcome {
        let time = std::time::Duration::from_secs(1);
        let json = serde_json::json!({"name": name, "time": time, "failure": failure, "lacks": lacks});
        serde_json::from_value(json).expect("an outcome")
    }

    fn records() -> Records {
        let kernel = named(&["6.1".to_owned()])[0];
        let results = Results {
            release: "6.1.0-1-amd64 (Debian 6.1.2-3)".to_owned(),
            outcomes: vec![
                outcome("hazards::a::one", None, None),
                outcome("hazards::a::two", Some("it failed"), None),
                outcome("bonds::three", Some("it failed"), Some("bonding")),
                outcome("settings::vlans", None, None),
            ],
            complaints: Vec::new(),
        };
        [("6.1".to_owned(), Record::of(kernel, &results, Some("abc".to_owned())))].into()
    }

    #[test]
    fn tests_are_counted_by_the_beginning_of_their_names() {
        let table = tests(&records());
        let expected = "| tests | 6.1 |\n|---|---|\n| `bonds` | 0, 1 lacking |\n| `hazards` | 1, 1 failed |\n| `settings` | 1 |\n";
        assert_eq!(table, expected);
    }

    #[test]
    fn a_run_has_its_versions_and_sums() {
        let table = runs(&records());
        let (_, line) = table.trim_end().rsplit_once('\n').expect("a line");
        assert!(line.starts_with("| `6.1` | 6.1.0-1-amd64 (Debian 6.1.2-3) | amd64 | "), "{line}");
        assert!(line.contains("(`abc`)") && line.ends_with(" | 2 | 1 | 1 |"), "{line}");
    }

    #[test]
    fn what_did_not_pass_is_named_with_the_reason() {
        let list = lacking(&records());
        assert_eq!(
            list,
            "- `6.1`: `hazards::a::two` failed.\n- `6.1`: `bonds::three`: the kernel lacks bonding.\n"
        );
        assert_eq!(lacking(&Records::new()), "None.\n");
    }

    /// Detects a figure that was typed by hand.
    #[test]
    fn the_document_is_what_the_records_give() {
        let there = documents::read(&root().join(DOCUMENT)).expect("the document");
        assert!(there == document(&read().expect("the records")).expect("its tables"));
    }
}
