//! The options of a bridge that can change while it is there.

use std::fmt;

use super::Bridge;

/// `BR_DEFAULT_AGEING_TIME` of linux/if_bridge.h, in seconds.
const DEFAULT_AGEING_TIME: u32 = 300;

/// An option with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgeOption {
    /// Spanning tree.
    Stp(bool),
    /// FDB ageing time in seconds; what is left of the last second does not count.
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
    /// What the file says of its options, those that it leaves to the kernel among them.
    #[must_use]
    pub fn options(&self) -> [BridgeOption; 3] {
        [
            BridgeOption::Stp(self.stp),
            BridgeOption::AgeingTime(self.ageing_time.unwrap_or(DEFAULT_AGEING_TIME)),
            BridgeOption::VlanFiltering(self.vlan_filtering),
        ]
    }
}
