//! The three suites.

use std::time::Duration;

use super::stage::Stage;

/// How much is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suite {
    /// While one works.
    Quick,
    /// Everything that a change must pass.
    Full,
    /// Before a release, and after a change of the agent or of the programs.
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

    /// How long one integration test may take. The longest of the full suite takes a third of this on a quiet machine.
    pub(super) const fn limit(self) -> Duration {
        match self {
            Self::Quick | Self::Full => Duration::from_secs(300),
            Self::Long => Duration::from_secs(3 * 3600),
        }
    }

    /// How long each fuzzer runs.
    pub(super) const fn fuzz(self) -> Duration {
        match self {
            Self::Quick | Self::Full => Duration::from_secs(10),
            Self::Long => Duration::from_secs(1800),
        }
    }

    /// What tests are told that take as many steps, or as much time, as one likes.
    pub(super) const fn variables(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Quick | Self::Full => &[],
            Self::Long => &[("VETHPATH_LONG", "1")],
        }
    }
}
