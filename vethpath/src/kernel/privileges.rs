//! The privileges of this process: capabilities and user.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use log::warn;
use nix::{
    sys::{
        prctl,
        resource::{Resource, setrlimit},
    },
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};

use super::{Context, Result};

/// The user and the group that own nothing (`overflowuid` in kernel/sys.c).
const NOBODY: u32 = 65_534;

/// Drops all capabilities that are not in `kept`, for good: from every set, and so that no program started from here can
/// gain them again. Threads that start later inherit this, so it must be called while there is only one.
///
/// # Errors
/// The kernel refuses.
pub fn keep_only(kept: &[Capability]) -> Result<()> {
    drop_capabilities(&kept.iter().copied().collect()).doing("drop", "capabilities")?;
    prctl::set_no_new_privs().doing("set", "no_new_privs")
}

fn drop_capabilities(kept: &CapsHashSet) -> std::result::Result<(), CapsError> {
    // Before CAP_SETPCAP is dropped.
    bound(kept)?;
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    // A missing capability is not requested: the operation that needs it reports that.
    let permitted = caps::read(None, CapSet::Permitted)?.intersection(kept).copied().collect();
    caps::set(None, CapSet::Effective, &permitted)?;
    caps::set(None, CapSet::Permitted, &permitted)
}

/// Removes everything else from the bounding set. In a container without CAP_SETPCAP it stays. That matters little:
/// it applies to executed programs, and `no_new_privs` keeps those from gaining any privilege.
fn bound(kept: &CapsHashSet) -> std::result::Result<(), CapsError> {
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

/// Gives up everything: capabilities, the user and the groups of root, and writing to files. What is open stays open. In a
/// user namespace without a user `nobody`, the user stays. The same threads inherit this as with [`keep_only`].
///
/// # Errors
/// The kernel refuses.
pub fn drop_all() -> Result<()> {
    bound(&CapsHashSet::new()).doing("drop", "capabilities")?;
    // They fail where that user does not exist, or where this is done already.
    let _ = setgroups(&[]);
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    let _ = setresgid(group, group, group).and_then(|()| setresuid(user, user, user));
    keep_only(&[])?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0).doing("limit", "the size of files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_gone_from_every_set() {
        // In its own thread: capabilities are per thread.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if !caps::has_cap(None, CapSet::Permitted, Capability::CAP_SETPCAP).unwrap() {
                    assert!(std::env::var_os("CI").is_none(), "this test needs root");
                    eprintln!("SKIPPED: not root");
                    return;
                }
                let kept = [Capability::CAP_NET_ADMIN, Capability::CAP_SYS_ADMIN];
                keep_only(&kept).unwrap();
                let kept: CapsHashSet = kept.into_iter().collect();
                let set = |of| caps::read(None, of).unwrap();
                for of in [CapSet::Effective, CapSet::Permitted, CapSet::Bounding] {
                    assert!(set(of).is_subset(&kept), "{of:?}: {:?}", set(of));
                }
                assert!(set(CapSet::Inheritable).is_empty() && set(CapSet::Ambient).is_empty());
                assert!(prctl::get_no_new_privs().unwrap());
                // The second time there is nothing left to drop, and no right to.
                keep_only(&kept.into_iter().collect::<Vec<_>>()).unwrap();
                assert!(caps::raise(None, CapSet::Effective, Capability::CAP_CHOWN).is_err());
            });
        });
    }
}
