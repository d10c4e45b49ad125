//! Whether `datapath = "xdp"` is usable on this kernel.

use super::{
    Check,
    release::{self, Version},
};
use crate::kernel::xdp;

const NAME: &str = "XDP";

/// Checks that the kernel reports XDP features. Known bugs are checked by the stable version, not by trying, since they
/// hang the kernel or corrupt its memory.
pub(super) fn check() -> Check {
    if let Err(error) = xdp::is_known() {
        let advice = "labs with datapath = \"xdp\" are refused; Linux 6.3 and later report which devices accept XDP frames";
        return Check::warning(NAME, format!("XDP features are not reported: {error}"), advice);
    }
    of(release::stable())
}

/// Lists the known bugs of a version. Distributions may have a fix under a lower version.
fn of(version: Option<Version>) -> Check {
    let has = |fault: &&Fault| version.is_some_and(fault.is_in);
    let text: Vec<_> = FAULTS.iter().filter(has).map(|fault| fault.text).collect();
    if text.is_empty() {
        return Check::ok(NAME, "supported");
    }
    let advice = format!("with datapath = \"xdp\", {}: avoid that, or update the kernel", text.join("; "));
    Check::warning(NAME, "supported, with known faults in veth", advice)
}

/// A fixed bug of veth.
struct Fault {
    /// Its effect and the versions with the fix, for the user.
    text: &'static str,
    /// Whether a version that reports XDP features has the bug. Considers the version that introduced it, the one that
    /// fixed it, and the fixes in the stable branches.
    is_in: fn(Version) -> bool,
}

/// Known bugs. The stale feature flag after a switch while the device is down is handled elsewhere (kernel/xdp.rs).
const FAULTS: [Fault; 4] = [
    // "net: veth: clear GRO when clearing XDP even when down" (CVE-2024-26803).
    Fault {
        text: "an XDP program that comes off an inner end while that is down may hang the kernel (fixed in 6.8, \
               6.7.9, 6.6.21)",
        is_in: |version| match version {
            (6, 6, patch) => patch < 21,
            (6, 7, patch) => patch < 9,
            (major, minor, _) => (major, minor) < (6, 6),
        },
    },
    // "veth: reduce XDP no_direct return section to fix race" (since 6.11), and "veth: more robust handing of race
    // to avoid txq getting stuck" (since 6.16).
    Fault {
        text: "threaded NAPI or a qdisc at an inner end may use freed memory or stall (fixed in 6.18, 6.17.11, \
               6.12.61)",
        is_in: |version| match version {
            (6, 12, patch) => patch < 61,
            (6, 17, patch) => patch < 11,
            (6, 11 | 13..=16, _) => true,
            _ => false,
        },
    },
    // "veth: convert frag_list skbs before running XDP" (CVE-2026-74476).
    Fault {
        text: "an AF_XDP socket at an inner end may crash the kernel (fixed in 7.2, 7.1.8, 6.18.44, 6.12.103)",
        is_in: |version| match version {
            (6, 12, patch) => patch < 103,
            (6, 18, patch) => patch < 44,
            (7, 1, patch) => patch < 8,
            (major, minor, _) => (major, minor) < (7, 1),
        },
    },
    // "veth: fix skb length accounting after XDP frag adjustment" (CVE-2026-74612).
    Fault {
        text: "an XDP program of yours that shortens frames of several buffers may spoil them (fixed in 7.2, 7.1.9, \
               6.18.45, 6.12.104, 6.6.152)",
        is_in: |version| match version {
            (6, 6, patch) => patch < 152,
            (6, 12, patch) => patch < 104,
            (6, 18, patch) => patch < 45,
            (7, 1, patch) => patch < 9,
            (major, minor, _) => (major, minor) < (7, 1),
        },
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::probe::Status;

    #[test]
    fn faulty_releases_are_known_by_branch_and_patch() {
        let faults = |version| FAULTS.map(|fault| u8::from((fault.is_in)(version)));
        for (version, has) in [
            ((6, 3, 0), [1, 0, 1, 1]),
            ((6, 5, 13), [1, 0, 1, 1]),
            ((6, 6, 20), [1, 0, 1, 1]),
            ((6, 6, 21), [0, 0, 1, 1]),
            ((6, 6, 152), [0, 0, 1, 0]),
            ((6, 7, 8), [1, 0, 1, 1]),
            ((6, 7, 9), [0, 0, 1, 1]),
            ((6, 10, 9), [0, 0, 1, 1]),
            ((6, 11, 0), [0, 1, 1, 1]),
            ((6, 12, 60), [0, 1, 1, 1]),
            ((6, 12, 61), [0, 0, 1, 1]),
            ((6, 12, 103), [0, 0, 0, 1]),
            ((6, 12, 104), [0; 4]),
            ((6, 16, 12), [0, 1, 1, 1]),
            ((6, 17, 10), [0, 1, 1, 1]),
            ((6, 17, 11), [0, 0, 1, 1]),
            ((6, 18, 43), [0, 0, 1, 1]),
            ((6, 18, 44), [0, 0, 0, 1]),
            ((6, 18, 45), [0; 4]),
            ((6, 19, 20), [0, 0, 1, 1]),
            ((7, 0, 99), [0, 0, 1, 1]),
            ((7, 1, 8), [0, 0, 0, 1]),
            ((7, 1, 9), [0; 4]),
            ((7, 2, 0), [0; 4]),
        ] {
            assert_eq!(faults(version), has, "{version:?}");
        }
    }

    #[test]
    fn each_fault_of_a_release_is_told() {
        assert_eq!(of(Some((7, 2, 1))).status, Status::Ok);
        assert_eq!(of(None).status, Status::Ok);
        let advice = of(Some((6, 12, 60))).advice.unwrap_or_default();
        assert!(FAULTS[1..].iter().all(|fault| advice.contains(fault.text)), "{advice}");
        assert!(!advice.contains(FAULTS[0].text), "{advice}");
    }
}
