//! The kernel's release, and the stable version it is based on.

use std::path::Path;

use super::Check;
use crate::kernel::files;

const NAME: &str = "kernel";

/// Major, minor and patch.
pub(super) type Version = (u32, u32, u32);

/// The running kernel.
pub(super) fn check() -> Check {
    match read(RELEASE) {
        Some(release) => Check::ok(NAME, describe(&release, stable())),
        None => Check::warning(NAME, "unknown", format!("{RELEASE} cannot be read: is /proc mounted?")),
    }
}

/// `uname -r`, `uname -v`, and Ubuntu's signature.
const RELEASE: &str = "/proc/sys/kernel/osrelease";
const VERSION: &str = "/proc/sys/kernel/version";
const SIGNATURE: &str = "/proc/version_signature";

/// The stable version of the running kernel. `None` if it is unknown.
pub(super) fn stable() -> Option<Version> {
    of(&read(RELEASE)?, &read(VERSION).unwrap_or_default(), &read(SIGNATURE).unwrap_or_default())
}

fn read(path: &str) -> Option<String> {
    let text = files::read_bounded(Path::new(path), files::VALUE).ok()?;
    Some(text.trim().to_owned())
}

/// The release, followed by the stable version if the release does not begin with it.
fn describe(release: &str, stable: Option<Version>) -> String {
    match stable {
        Some(stable @ (major, minor, patch)) if version(release) != Some(stable) => {
            format!("{release} (Linux {major}.{minor}.{patch})")
        }
        _ => release.to_owned(),
    }
}

/// The stable version, from a kernel's release, version and signature. Releases of Debian keep the patch at 0, and
/// their version ends in the package version (`#1 SMP ... Debian 6.1.177-1 (2026-..)`). The last word of Ubuntu's
/// signature is the stable version. A version of another branch than the release is ignored.
fn of(release: &str, kernel_version: &str, signature: &str) -> Option<Version> {
    let released = version(release)?;
    let words = kernel_version.split_whitespace().chain(signature.split_whitespace().next_back());
    let same_branch = |one: &Version| (one.0, one.1) == (released.0, released.1);
    words.filter_map(version).filter(same_branch).chain([released]).max()
}

/// The version at the beginning of a text. Anything may follow. A missing patch is 0.
fn version(text: &str) -> Option<Version> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let mut parts = text[..end].split('.').filter(|part| !part.is_empty()).map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_stable_version_is_found_where_distributions_put_it() {
        let debian = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.177-1 (2026-10-03)";
        assert_eq!(of("6.1.0-44-amd64", debian, ""), Some((6, 1, 177)));
        let ubuntu = ("#60-Ubuntu SMP PREEMPT_DYNAMIC Tue", "Ubuntu 6.8.0-60.63-generic 6.8.12");
        assert_eq!(of("6.8.0-60-generic", ubuntu.0, ubuntu.1), Some((6, 8, 12)));
        assert_eq!(of("6.18.44-fc-v669", "#1 SMP PREEMPT_DYNAMIC @0", ""), Some((6, 18, 44)));
        assert_eq!(of("6.1.20", "#1 SMP gcc 12.2.0", ""), Some((6, 1, 20)), "of something else");
        assert_eq!(of("linux", debian, ""), None);
        assert_eq!(describe("6.1.0-44-amd64", Some((6, 1, 177))), "6.1.0-44-amd64 (Linux 6.1.177)");
        assert_eq!(describe("6.18.44-fc-v669", Some((6, 18, 44))), "6.18.44-fc-v669");
        assert_eq!(describe("linux", None), "linux");
    }
}
