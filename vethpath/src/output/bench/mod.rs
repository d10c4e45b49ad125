//! Output of `bench`: text, JSON, a page, and the comparison with a former run.

mod compare;
mod html;
mod text;

use serde::Serialize;

pub use compare::compare;
pub use html::html;
pub use text::{no_progress, progress, progress_line, text, warnings};

use crate::bench::{Comparison, Report};

/// The data of `bench --json`: all results of a run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Document<'a> {
    /// What was measured.
    #[serde(flatten)]
    pub report: &'a Report,
    /// The comparison with a former run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare: Option<&'a Comparison>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::samples;

    #[test]
    fn the_comparison_is_beside_the_figures_and_no_hindrance_to_reading_them() {
        let report = samples::report();
        let comparison = Comparison::of(&report, &report);
        let json = serde_json::to_value(Document { report: &report, compare: Some(&comparison) }).unwrap();
        assert_eq!(json["compare"]["cases"][0]["paths"]["fast"]["ratio"], 1.0);
        assert_eq!(json["udp_rr"]["fast"]["p50_us"], 10.6);
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
        let json = serde_json::to_value(Document { report: &report, compare: None }).unwrap();
        assert_eq!(json, serde_json::to_value(&report).unwrap());
    }
}
