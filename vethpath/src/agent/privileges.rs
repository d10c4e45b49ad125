//! What the agent may still do once it runs: little more than root without any capability.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use log::warn;
use nix::{errno::Errno, sys::prctl};
use thiserror::Error;

/// What the agent keeps. Each was found by leaving it out: without it the lab is not armed, or the
/// agent ends.
const KEPT: [Capability; 3] = [
    // `setns` into the namespaces of bridges, once a second, for files of /proc that show the
    // namespace of the reader and for questions about programs, and into those of inner ends whose ports
    // want XDP, for their offloads; `BPF_PROG_GET_FD_BY_ID`, to tell our
    // program on a port from somebody else's. It includes what CAP_BPF would give: writing maps.
    Capability::CAP_SYS_ADMIN,
    // FDB entries, packet sockets and nftables rules; links of another namespace by its id
    // (`IFLA_TARGET_NETNSID`); a receive buffer past `net.core.rmem_max`; `BPF_PROG_QUERY`.
    Capability::CAP_NET_ADMIN,
    // `NETLINK_LISTEN_ALL_NSID`: events of links behind the ports.
    Capability::CAP_NET_BROADCAST,
];

/// Why privileges could not be given up. The agent then does not run.
#[derive(Debug, Error)]
pub enum PrivilegeError {
    /// A set of capabilities could not be changed.
    #[error("cannot drop capabilities: {0}")]
    Capabilities(#[from] CapsError),
    /// `prctl(PR_SET_NO_NEW_PRIVS)` is refused.
    #[error("cannot set no_new_privs: {0}")]
    NoNewPrivileges(#[from] Errno),
}

/// Gives up all that is not in the list above, for good: from every set, and so that no program
/// started from here could gain it again. Threads that start later inherit this; it must be called
/// while there is one.
///
/// # Errors
/// The kernel refuses.
pub fn reduce() -> Result<(), PrivilegeError> {
    let kept: CapsHashSet = KEPT.into_iter().collect();
    // While CAP_SETPCAP is still there.
    bound(&kept)?;
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    // What was not had is not asked for: the operation that needs it says what is missing.
    let permitted = caps::read(None, CapSet::Permitted)?.intersection(&kept).copied().collect();
    caps::set(None, CapSet::Effective, &permitted)?;
    caps::set(None, CapSet::Permitted, &permitted)?;
    Ok(prctl::set_no_new_privs()?)
}

/// Takes everything else out of the bounding set. In a container without CAP_SETPCAP it stays, which
/// matters little: the set is for programs that are started, and those gain nothing any more.
fn bound(kept: &CapsHashSet) -> Result<(), CapsError> {
    let bounding = caps::read(None, CapSet::Bounding)?;
    if bounding.is_subset(kept) {
        return Ok(());
    }
    if !caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        warn!("the bounding set is unchanged: CAP_SETPCAP is missing");
        return Ok(());
    }
    for capability in bounding.difference(kept) {
        caps::drop(None, CapSet::Bounding, *capability)?;
    }
    Ok(())
}

/// The names of the capabilities in effect, sorted.
#[must_use]
pub fn in_effect() -> Vec<String> {
    let effective = caps::read(None, CapSet::Effective).unwrap_or_default();
    let mut names: Vec<_> = effective.iter().map(ToString::to_string).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_is_gone_from_every_set() {
        // On a thread of its own: capabilities are a thread's.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if !caps::has_cap(None, CapSet::Permitted, Capability::CAP_SETPCAP).unwrap() {
                    assert!(std::env::var_os("CI").is_none(), "this test needs root");
                    eprintln!("SKIPPED: not root");
                    return;
                }
                reduce().unwrap();
                let kept: CapsHashSet = KEPT.into_iter().collect();
                let set = |of| caps::read(None, of).unwrap();
                for of in [CapSet::Effective, CapSet::Permitted, CapSet::Bounding] {
                    assert!(set(of).is_subset(&kept), "{of:?}: {:?}", set(of));
                }
                assert!(set(CapSet::Inheritable).is_empty() && set(CapSet::Ambient).is_empty());
                assert_eq!(in_effect().len(), set(CapSet::Effective).len());
                assert!(prctl::get_no_new_privs().unwrap());
                // A second time there is nothing left to give up, and no right to.
                reduce().unwrap();
                assert!(caps::raise(None, CapSet::Effective, Capability::CAP_CHOWN).is_err());
            });
        });
    }
}
