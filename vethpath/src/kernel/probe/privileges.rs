//! The privileges that a lab needs.

use std::{fs, io, os::unix::fs::MetadataExt};

use caps::{CapSet, Capability};

use super::Check;
use crate::kernel::{Error, Result};

/// Needed capabilities, each with its purpose for the advice.
const NEEDED: [(Capability, &str); 4] = [
    (Capability::CAP_NET_ADMIN, "to make interfaces and attach programs to them"),
    (Capability::CAP_NET_BROADCAST, "to receive events of links in other namespaces"),
    (Capability::CAP_SYS_ADMIN, "to make and enter namespaces"),
    (Capability::CAP_BPF, "to load programs and maps"),
];

/// The inode of the initial user namespace (`USER_NS_INIT_INO` in include/uapi/linux/nsfs.h).
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// The advice in another user namespace.
const OUTSIDE: &str = "run vethpath on the machine, or in a container without a user namespace of its own";

/// Checks that the calling thread has the privileges of `up`, before anything is changed.
///
/// # Errors
/// The first missing privilege.
pub fn privileges() -> Result<()> {
    let missing = |text: String| Error::plain(io::Error::other(text));
    if let Some((capability, purpose)) = NEEDED.into_iter().find(|(capability, _)| !has(*capability)) {
        let text = format!("this needs {capability} ({purpose}), which this process does not have");
        return Err(missing(text).with_hint("run vethpath as root (sudo)"));
    }
    if is_initial(user_namespace()) {
        return Ok(());
    }
    let text =
        "this needs the initial user namespace (to load programs and maps), and this process is in another";
    Err(missing(text.to_owned()).with_hint(OUTSIDE))
}

pub(super) fn checks() -> Vec<Check> {
    let mut checks: Vec<_> =
        NEEDED.into_iter().map(|(capability, purpose)| check(capability, purpose)).collect();
    checks.push(check_user_namespace(user_namespace()));
    checks.push(check_priority(has(Capability::CAP_SYS_NICE)));
    checks
}

/// See [`raise_priority`](crate::kernel::process::raise_priority).
fn check_priority(has_nice: bool) -> Check {
    const NAME: &str = "agent's priority";
    if has_nice {
        Check::ok(NAME, "nice -20")
    } else {
        let advice = "on a busy machine the agent acts on changes later: run vethpath with CAP_SYS_NICE";
        Check::warning(NAME, "as the caller's: CAP_SYS_NICE is not effective", advice)
    }
}

fn check(capability: Capability, purpose: &str) -> Check {
    let name = capability.to_string();
    if has(capability) {
        Check::ok(&name, "effective")
    } else {
        Check::missing(&name, "not effective", format!("needed {purpose}: run vethpath as root (sudo)"))
    }
}

fn check_user_namespace(inode: Option<u64>) -> Check {
    const NAME: &str = "user namespace";
    if is_initial(inode) {
        Check::ok(NAME, "initial")
    } else {
        Check::missing(NAME, "not the initial one", format!("programs cannot be loaded from here: {OUTSIDE}"))
    }
}

/// The inode of the calling thread's user namespace. `None` on kernels without user namespaces.
fn user_namespace() -> Option<u64> {
    fs::metadata("/proc/thread-self/ns/user").map(|found| found.ino()).ok()
}

fn is_initial(inode: Option<u64>) -> bool {
    inode.is_none_or(|inode| inode == INITIAL_USER_NAMESPACE)
}

fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::probe::Status;

    #[test]
    fn a_dropped_capability_is_named() {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if privileges().is_err()
                    || caps::drop(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).is_err()
                {
                    assert!(std::env::var_os("CI").is_none(), "this test needs root");
                    eprintln!("SKIPPED: not root");
                    return;
                }
                let error = privileges().unwrap_err();
                assert!(
                    error.to_string().contains("CAP_SYS_ADMIN") && error.to_string().lines().count() == 1,
                    "{error}"
                );
                let missing: Vec<_> = checks().into_iter().filter(|c| c.status == Status::Missing).collect();
                assert_eq!(missing.len(), 1);
                assert_eq!(missing[0].name, "CAP_SYS_ADMIN");
            });
        });
    }

    #[test]
    fn user_namespaces_are_known_by_their_inode() {
        assert_eq!(check_user_namespace(Some(INITIAL_USER_NAMESPACE)).status, Status::Ok);
        assert_eq!(check_user_namespace(Some(4_026_532_567)).status, Status::Missing);
        assert_eq!(check_user_namespace(None).status, Status::Ok);
    }

    #[test]
    fn a_priority_that_cannot_be_raised_is_a_warning() {
        assert_eq!(check_priority(true).status, Status::Ok);
        let warned = check_priority(false);
        assert_eq!(warned.status, Status::Warning);
        assert!(warned.found.contains("CAP_SYS_NICE"), "{}", warned.found);
    }
}
