//! The paths that are compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A path between two namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A veth pair and nothing else: the baseline.
    Cable,
    /// The lab's own bridge with the programs detached.
    Bridge,
    /// The same with the programs attached and both pairs armed.
    Fast,
    /// The same path on XDP, in a generated lab.
    Xdp,
}

impl Mode {
    /// The text for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cable => "cable",
            Self::Bridge => "plain bridge",
            Self::Fast => "fast path",
            Self::Xdp => "XDP",
        }
    }
}

/// One figure for each mode that was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PerMode<T>(BTreeMap<Mode, T>);

impl<T> PerMode<T> {
    /// The figure of a mode. A pair that is not armed has none for the fast path.
    #[must_use]
    pub fn get(&self, mode: Mode) -> Option<&T> {
        self.0.get(&mode)
    }

    /// All figures, in the order cable, bridge, fast, XDP.
    pub fn iter(&self) -> impl Iterator<Item = (Mode, &T)> {
        self.0.iter().map(|(&mode, figure)| (mode, figure))
    }

    /// The figures converted by a function.
    #[must_use]
    pub fn map<U>(&self, figure: impl Fn(&T) -> U) -> PerMode<U> {
        self.iter().map(|(mode, of)| (mode, figure(of))).collect()
    }
}

impl<T> FromIterator<(Mode, T)> for PerMode<T> {
    fn from_iter<I: IntoIterator<Item = (Mode, T)>>(figures: I) -> Self {
        Self(figures.into_iter().collect())
    }
}
