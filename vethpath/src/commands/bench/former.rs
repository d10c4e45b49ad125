//! Reads a former run from the file with its `--json` output.

use std::path::Path;

use serde_json::Value;

use super::Failure;
use crate::{
    bench::{Report, VERSION},
    kernel::files,
};

const HINT: &str = "`vethpath bench --json > FILE` writes one";

/// Reads the report of a former run.
pub fn read(path: &Path) -> Result<Report, Failure> {
    let shown = path.display();
    let text = files::read_bounded(path, files::LIST)
        .map_err(|error| Failure::request(format!("cannot read `{shown}`: {error}")).hint(HINT))?;
    parse(&text)
        .map_err(|why| Failure::request(format!("cannot compare with `{shown}`: {}", why.0)).hint(why.1))
}

/// The error and a hint.
#[derive(Debug, PartialEq, Eq)]
struct Why(String, &'static str);

fn parse(text: &str) -> Result<Report, Why> {
    let unlike = |what: String| Why(what, HINT);
    let json: Value =
        serde_json::from_str(text).map_err(|error| unlike(format!("it is not JSON: {error}")))?;
    match json["version"].as_u64() {
        None => Err(unlike("it is not a report of `vethpath bench --json`".to_owned())),
        Some(version) if version == u64::from(VERSION) => serde_json::from_value(json)
            .map_err(|error| unlike(format!("it is not a report of `vethpath bench --json`: {error}"))),
        Some(version) => Err(Why(
            format!("it is a report of version {version}, and this vethpath knows version {VERSION}"),
            "measure once more with this vethpath",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::samples;

    #[test]
    fn what_json_gave_is_read() {
        let report = samples::report();
        assert_eq!(parse(&serde_json::to_string(&report).unwrap()), Ok(report));
    }

    #[test]
    fn other_files_are_told_so() {
        let why = |text: &str| parse(text).unwrap_err().0;
        assert!(why("[stats").starts_with("it is not JSON: expected"), "{}", why("[stats"));
        for other in ["{}", "[]", "1", r#"{"lab": "a", "agent": {}}"#] {
            assert_eq!(why(other), "it is not a report of `vethpath bench --json`", "{other}");
        }
        assert!(
            why(r#"{"version": 3}"#).starts_with("it is not a report of `vethpath bench --json`: missing")
        );
        for other in [1, 9] {
            assert_eq!(
                parse(&format!(r#"{{"version": {other}}}"#)),
                Err(Why(
                    format!("it is a report of version {other}, and this vethpath knows version 3"),
                    "measure once more with this vethpath"
                ))
            );
        }
    }
}
