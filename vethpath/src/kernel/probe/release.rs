//! The kernel's release, and the one fix that nothing but its release tells of.

use std::path::Path;

use super::Check;
use crate::kernel::bounded;

const NAME: &str = "kernel";

/// The running kernel, with a warning where `bpf_redirect_peer` does not scrub.
pub(super) fn check() -> Check {
    let Some(release) = read() else {
        return Check::warning(
            NAME,
            "unknown",
            "/proc/sys/kernel/osrelease cannot be read: is /proc mounted?",
        );
    };
    of(&release)
}

/// The running kernel's release; `None` without `/proc`.
pub(super) fn read() -> Option<String> {
    let release = bounded::read(Path::new("/proc/sys/kernel/osrelease"), bounded::VALUE).ok()?;
    Some(release.trim().to_owned())
}

/// Whether `bpf_redirect_peer` scrubs here, as far as the release tells. A candidate of a release may not yet
/// have what the release has.
#[must_use]
pub fn peer_redirect_scrubs() -> bool {
    read().is_some_and(|release| !release.contains("-rc") && version(&release).is_some_and(scrubs))
}

fn of(release: &str) -> Check {
    match version(release) {
        Some(version) if scrubs(version) => Check::ok(NAME, release),
        Some(_) => Check::warning(
            NAME,
            release,
            "bpf_redirect_peer may leave conntrack and other state on frames here (fixed in 6.15, 6.14.7, 6.12.29, \
             6.6.91, 6.1.139; distributions may have the fix under a lower number): update the kernel",
        ),
        None => Check::warning(NAME, release, "the release is not a version: see that it is 6.15 or later"),
    }
}

/// Major, minor and patch; a release may go on with anything, and without a patch it is 0.
pub(super) fn version(release: &str) -> Option<(u32, u32, u32)> {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
    let mut parts = release[..end].split('.').filter(|part| !part.is_empty()).map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

/// Whether "bpf: Scrub packet on bpf_redirect_peer" (Linux 6.15) is in this release or its branch.
fn scrubs(version: (u32, u32, u32)) -> bool {
    match version {
        (6, 1, patch) => patch >= 139,
        (6, 6, patch) => patch >= 91,
        (6, 12, patch) => patch >= 29,
        (6, 14, patch) => patch >= 7,
        (major, minor, _) => (major, minor) >= (6, 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::probe::Status;

    #[test]
    fn releases_are_read_as_distributions_write_them() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18, 44)));
        assert_eq!(version("5.14.0-503.el9.x86_64"), Some((5, 14, 0)));
        assert_eq!(version("6.15-rc3"), Some((6, 15, 0)));
        assert_eq!(version("7.0"), Some((7, 0, 0)));
        for bad in ["", "linux", "6", "6.", "99999999999.1", "-6.1"] {
            assert_eq!(version(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_scrub_fix_is_known_by_branch() {
        for fixed in ["6.15.0", "6.1.139", "6.6.91-x", "6.12.29", "6.14.7", "7.0"] {
            assert_eq!(of(fixed).status, Status::Ok, "{fixed}");
        }
        for lacking in ["6.14.6", "6.13.12", "6.12.28", "6.8.0-60-generic", "6.1.138", "5.15.200", "?"] {
            assert_eq!(of(lacking).status, Status::Warning, "{lacking}");
        }
    }
}
