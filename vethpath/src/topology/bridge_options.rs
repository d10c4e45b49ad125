//! The bridge options that can be changed at run time.

use std::fmt;

use super::Bridge;

/// `BR_DEFAULT_AGEING_TIME` of linux/if_bridge.h, in seconds.
const DEFAULT_AGEING_TIME: u32 = 300;

/// An option with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgeOption {
    /// Spanning tree.
    Stp(bool),
    /// FDB ageing time in whole seconds. A fraction of a second is ignored.
    AgeingTime(u32),
    /// VLAN filtering.
    VlanFiltering(bool),
}

impl BridgeOption {
    /// Its key in the file.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Stp(_) => "stp",
            Self::AgeingTime(_) => "ageing_time",
            Self::VlanFiltering(_) => "vlan_filtering",
        }
    }
}

impl fmt::Display for BridgeOption {
    /// The value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stp(on) | Self::VlanFiltering(on) => on.fmt(f),
            Self::AgeingTime(seconds) => write!(f, "{seconds} s"),
        }
    }
}

impl Bridge {
    /// The options that the bridge must have. Those absent from the file have the kernel's default.
    #[must_use]
    pub fn options(&self) -> [BridgeOption; 3] {
        [
            BridgeOption::Stp(self.stp),
            BridgeOption::AgeingTime(self.ageing_time.unwrap_or(DEFAULT_AGEING_TIME)),
            BridgeOption::VlanFiltering(self.vlan_filtering),
        ]
    }
}
