//! The rights that a lab needs.

use std::path::Path;

use caps::{CapSet, Capability};
use thiserror::Error;

use super::Check;
use crate::kernel::bounded;

/// What each is needed for is in the advice.
const NEEDED: [(Capability, &str); 4] = [
    (Capability::CAP_NET_ADMIN, "to make interfaces and attach programs to them"),
    (Capability::CAP_NET_BROADCAST, "to hear of links in other namespaces"),
    (Capability::CAP_SYS_ADMIN, "to make and enter namespaces"),
    (Capability::CAP_BPF, "to load programs and maps"),
];

/// A capability that is not in the effective set of the calling thread.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("this needs {capability} ({purpose}), which this process does not have")]
pub struct MissingPrivilege {
    /// Such as `CAP_NET_ADMIN`.
    pub capability: String,
    /// What it is needed for.
    pub purpose: &'static str,
}

/// Whether the calling thread may do what `up` does; asked before anything is changed.
///
/// # Errors
/// The first capability that is missing.
pub fn privileges() -> Result<(), MissingPrivilege> {
    for (capability, purpose) in NEEDED {
        if !has(capability) {
            return Err(MissingPrivilege { capability: capability.to_string(), purpose });
        }
    }
    Ok(())
}

pub(super) fn checks() -> Vec<Check> {
    let mut checks: Vec<_> =
        NEEDED.into_iter().map(|(capability, purpose)| check(capability, purpose)).collect();
    let map = bounded::read(Path::new("/proc/self/uid_map"), bounded::LIST);
    checks.push(user_namespace(map.as_deref().unwrap_or_default()));
    checks
}

fn check(capability: Capability, purpose: &str) -> Check {
    let name = capability.to_string();
    if has(capability) {
        Check::ok(&name, "effective")
    } else {
        Check::missing(&name, "not effective", format!("needed {purpose}: run vethpath as root (sudo)"))
    }
}

/// `bpf()` asks for capabilities in the initial user namespace, which maps every user to itself.
fn user_namespace(map: &str) -> Check {
    const NAME: &str = "user namespace";
    if map.split_whitespace().eq(["0", "0", "4294967295"]) {
        Check::ok(NAME, "initial")
    } else {
        Check::warning(
            NAME,
            "not the initial one",
            "programs cannot be loaded from here unless a BPF token allows it: start the container without a user \
             namespace, or run vethpath on the host",
        )
    }
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
                assert_eq!(error.capability, "CAP_SYS_ADMIN");
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
    fn user_namespaces_are_known_by_their_map() {
        assert_eq!(user_namespace("         0          0 4294967295\n").status, Status::Ok);
        assert_eq!(user_namespace("         0     100000      65536\n").status, Status::Warning);
        assert_eq!(user_namespace("").status, Status::Warning);
    }
}
