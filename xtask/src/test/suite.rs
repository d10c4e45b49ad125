//! The three suites.

use std::time::Duration;

use super::stage::Stage;

/// The extent of testing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suite {
    /// For use during development.
    Quick,
    /// For every change.
    Full,
    /// For releases, and for changes of the agent or of the programs.
    Long,
}

impl Suite {
    /// Its stages.
    pub(super) const fn stages(self) -> &'static [Stage] {
        match self {
            Self::Quick => &Stage::QUICK,
            Self::Full => &Stage::ALL,
            Self::Long => &Stage::LONG,
        }
    }

    /// The time limit of an integration test. The longest one of the full suite takes a third of it on a quiet machine.
    pub(super) const fn limit(self) -> Duration {
        match self {
            Self::Quick | Self::Full => Duration::from_secs(300),
            Self::Long => Duration::from_secs(3 * 3600),
        }
    }

    /// The time limit of each fuzzer.
    pub(super) const fn fuzz(self) -> Duration {
        match self {
            Self::Quick | Self::Full => Duration::from_secs(10),
            Self::Long => Duration::from_secs(1800),
        }
    }

    /// Environment variables for tests with a configurable number of steps or duration.
    pub(super) const fn variables(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Quick | Self::Full => &[],
            Self::Long => &[("VETHPATH_LONG", "1")],
        }
    }
}
