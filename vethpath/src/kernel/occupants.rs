//! The processes that live in a network namespace.

use std::{
    collections::BTreeMap,
    fmt, fs,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
    str::FromStr,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Context, Result, files};

/// A process: its pid, which another may get later, and when it was started, in clock ticks since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Occupant {
    pid: i32,
    started: u64,
}

impl fmt::Display for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.started)
    }
}

impl FromStr for Occupant {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let parsed = text
            .split_once(' ')
            .and_then(|(pid, started)| Some(Self { pid: pid.parse().ok()?, started: started.parse().ok()? }));
        parsed.ok_or("it is not a pid and a time")
    }
}

impl Occupant {
    /// A process that has ended, whichever it was: no process has this pid.
    pub const ENDED: Self = Self { pid: 0, started: 0 };

    /// Its pid.
    #[must_use]
    pub fn pid(self) -> i32 {
        self.pid
    }

    /// A descriptor of the process; `None` if it has ended. This needs no privilege.
    /// Minimum kernel: Linux 5.3 (`pidfd_open`).
    #[must_use]
    pub fn open(self) -> Option<OwnedFd> {
        let process = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Another process may have the pid. Now that it is held, it cannot change.
        (started(self.pid) == Some(self.started) && !has_ended(&process)).then_some(process)
    }
}

/// Whether a process has ended, by a descriptor of it. If that cannot be asked, it has not.
#[must_use]
pub fn has_ended(process: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO)
        .is_ok_and(|ready| ready > 0)
}

/// The processes of the machine in these network namespaces, by the inode of each. `/proc` shows those of the caller's
/// PID namespace and of those below it.
///
/// # Errors
/// `/proc` cannot be read.
pub fn occupants(inodes: &[u64]) -> Result<BTreeMap<u64, Vec<Occupant>>> {
    let mut found: BTreeMap<u64, Vec<Occupant>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").doing("list", "/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let netns = fs::metadata(entry.path().join("ns/net")).map(|netns| netns.ino());
        let Some(inode) = netns.ok().filter(|inode| inodes.contains(inode)) else { continue };
        let occupant = started(pid).map(|started| Occupant { pid, started });
        found.entry(inode).or_default().extend(occupant);
    }
    Ok(found)
}

/// When a process was started (field 22 of proc_pid_stat(5)).
fn started(pid: i32) -> Option<u64> {
    let stat = files::read_bounded(Path::new(&format!("/proc/{pid}/stat")), files::VALUE).ok()?;
    // The name before the parenthesis may contain anything.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_known_until_it_has_ended() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let inode = fs::metadata("/proc/self/ns/net").unwrap().ino();
        let pid = i32::try_from(child.id()).unwrap();
        let all = occupants(&[inode]).unwrap();
        let found = *all[&inode].iter().find(|occupant| occupant.pid == pid).unwrap();
        assert_eq!(found.to_string().parse(), Ok(found));
        let another = Occupant { started: found.started + 1, ..found };
        assert!(another.open().is_none(), "another process with its pid");
        let process = found.open().unwrap();
        assert!(!has_ended(&process));
        assert!(Occupant::ENDED.open().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(has_ended(&process) && found.open().is_none());
        assert!(occupants(&[1]).unwrap().is_empty());
    }
}
