//! The agent's privileges while it runs: little more than those of root without capabilities.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use log::warn;
use nix::sys::prctl;

use crate::kernel::{self, Context, process};

/// Capabilities that the agent keeps. Each was found by leaving it out: without it the lab is not armed, or the agent
/// exits.
const KEPT: [Capability; 3] = [
    // `setns` once a second: into the namespaces of bridges, for /proc files that show the reader's namespace and for
    // program queries; into those of inner ends whose ports want XDP, for their offloads. `BPF_PROG_GET_FD_BY_ID`, to
    // distinguish our program on a port from others. It includes what CAP_BPF would permit: writing maps.
    Capability::CAP_SYS_ADMIN,
    // FDB entries, packet sockets and nftables rules, those in Docker's chain to write them again; links of another
    // namespace by its id (`IFLA_TARGET_NETNSID`); a receive buffer past `net.core.rmem_max`; `BPF_PROG_QUERY`.
    Capability::CAP_NET_ADMIN,
    // `NETLINK_LISTEN_ALL_NSID`: events of links behind the ports.
    Capability::CAP_NET_BROADCAST,
];

/// Raises the CPU priority, and drops all capabilities that are not in `KEPT`, for good: from every set, and so that no
/// program started from here can gain them again. Threads that start later inherit this, so it must be called while
/// there is only one.
///
/// # Errors
/// The kernel refuses.
pub fn reduce() -> kernel::Result<()> {
    // Before CAP_SYS_NICE is dropped.
    if let Err(error) = process::raise_priority() {
        warn!("{error}");
    }
    drop_capabilities().doing("drop", "capabilities")?;
    prctl::set_no_new_privs().doing("set", "no_new_privs")
}

fn drop_capabilities() -> Result<(), CapsError> {
    let kept: CapsHashSet = KEPT.into_iter().collect();
    // Before CAP_SETPCAP is dropped.
    bound(&kept)?;
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    // A missing capability is not requested: the operation that needs it reports that.
    let permitted = caps::read(None, CapSet::Permitted)?.intersection(&kept).copied().collect();
    caps::set(None, CapSet::Effective, &permitted)?;
    caps::set(None, CapSet::Permitted, &permitted)
}

/// Removes everything else from the bounding set. In a container without CAP_SETPCAP it stays. That matters little:
/// it applies to executed programs, and `no_new_privs` keeps those from gaining any privilege.
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
        // In its own thread: capabilities are per thread.
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
                // The second time there is nothing left to drop, and no right to.
                reduce().unwrap();
                assert!(caps::raise(None, CapSet::Effective, Capability::CAP_CHOWN).is_err());
            });
        });
    }
}
