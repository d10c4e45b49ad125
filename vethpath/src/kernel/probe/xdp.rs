//! Whether `datapath = "xdp"` can be relied on.

use super::{Check, release};
use crate::kernel::xdp;

const NAME: &str = "XDP";

/// Asks the kernel whether it tells XDP features; and its release for faults that nothing else tells of.
pub(super) fn check() -> Check {
    if let Err(error) = xdp::is_known() {
        let advice = "labs with datapath = \"xdp\" are refused; Linux 6.3 and later tell which devices take XDP frames";
        return Check::warning(NAME, format!("its features are not told: {error}"), advice);
    }
    match release::read().as_deref().and_then(release::version) {
        Some(version) if is_faulty(version) => Check::warning(
            NAME,
            "supported, with a fault in veth",
            "with threaded NAPI or a qdisc at an inner end, datapath = \"xdp\" may use freed memory or stall here \
             (fixed in 6.18, 6.17.11, 6.12.61): leave both alone, or update the kernel",
        ),
        _ => Check::ok(NAME, "supported"),
    }
}

/// Whether a release has one of two faults of veth: "veth: reduce XDP no_direct return section to fix race"
/// (since 6.11) and "veth: more robust handing of race to avoid txq getting stuck" (since 6.16) are in 6.18
/// and went into branches that lived then.
fn is_faulty(version: (u32, u32, u32)) -> bool {
    match version {
        (6, 12, patch) => patch < 61,
        (6, 17, patch) => patch < 11,
        (6, 11 | 13..=16, _) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faulty_releases_are_known_by_branch_and_patch() {
        for good in [(6, 3, 0), (6, 6, 10), (6, 10, 9), (6, 12, 61), (6, 17, 11), (6, 18, 0), (7, 2, 1)] {
            assert!(!is_faulty(good), "{good:?}");
        }
        for bad in [(6, 11, 0), (6, 12, 60), (6, 14, 7), (6, 16, 12), (6, 17, 10)] {
            assert!(is_faulty(bad), "{bad:?}");
        }
    }
}
