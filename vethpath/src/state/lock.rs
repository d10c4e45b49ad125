//! Locks: one `up` or `down` at a time for a lab, and one agent.

use std::{
    fs::{self, File, OpenOptions},
    io::{Seek, Write},
    os::unix::fs::MetadataExt,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Context, Directory, Error, Result};
use crate::kernel::{bounded, private};

/// More than the digits of any process id.
const MOST_DIGITS: u64 = 32;

/// How long a lock may be held by somebody who only looks whether an agent has it, or have no process id in it yet:
/// a moment, but for one who is not let run.
const MOMENT: Duration = Duration::from_secs(1);

/// How often it is looked at meanwhile.
const INTERVAL: Duration = Duration::from_millis(5);

/// How long a stopping agent may take before it is killed.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a killed one may take to be gone: it may wait in the kernel for a lock that all of networking shares,
/// which on a machine under great load takes long, and takes no signal there.
const KILLED: Duration = Duration::from_secs(60);

/// The right to change a lab. Held on its folder, so that nothing is left behind.
pub struct LabLock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl LabLock {
    /// Takes the lock of a lab whose folder exists.
    ///
    /// # Errors
    /// Somebody else has it ([`Error::Busy`]), or the folder is not there.
    pub fn take(directory: &Directory) -> Result<Self> {
        loop {
            let folder = File::open(directory.path()).doing("open", directory.path())?;
            let inode = folder.metadata().doing("look at", directory.path())?.ino();
            let lock = match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((_, Errno::EWOULDBLOCK)) => return Err(Error::Busy(directory.lab().clone())),
                Err((_, errno)) => return Err(errno.into()).doing("lock", directory.path()),
            };
            // A `down` may have removed the folder, and an `up` made another, while we opened it.
            if fs::metadata(directory.path()).is_ok_and(|now| now.ino() == inode) {
                return Ok(Self(lock));
            }
        }
    }
}

/// Proof that this process is the lab's agent.
pub struct AgentLock(Flock<File>);

impl AgentLock {
    /// Becomes the lab's agent; `None` if there is one.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn take(directory: &Directory) -> Result<Option<Self>> {
        let path = directory.agent_lock();
        let deadline = Instant::now() + MOMENT;
        loop {
            match Flock::lock(open(directory)?, FlockArg::LockExclusiveNonblock) {
                Ok(mut lock) => {
                    lock.set_len(0)
                        .and_then(|()| write!(*lock, "{}", std::process::id()))
                        .doing("write", &path)?;
                    return Ok(Some(Self(lock)));
                }
                Err((_, Errno::EWOULDBLOCK)) if Instant::now() < deadline => thread::sleep(INTERVAL),
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, errno)) => return Err(errno.into()).doing("lock", &path),
            }
        }
    }

    /// Whether the lock is still the one that others would find: its file may have been removed by hand.
    #[must_use]
    pub fn is_current(&self, directory: &Directory) -> bool {
        let held = self.0.metadata().map(|held| (held.dev(), held.ino()));
        let there = fs::metadata(directory.agent_lock()).map(|there| (there.dev(), there.ino()));
        matches!((held, there), (Ok(held), Ok(there)) if held == there)
    }

    /// The process id of the lab's agent, if it lives (be it stopped or hanging).
    ///
    /// # Errors
    /// The file system refuses.
    pub fn holder(directory: &Directory) -> Result<Option<Pid>> {
        directory.check()?;
        if !directory.agent_lock().exists() {
            return Ok(None);
        }
        let path = directory.agent_lock();
        let deadline = Instant::now() + MOMENT;
        loop {
            match Flock::lock(open(directory)?, FlockArg::LockSharedNonblock) {
                Ok(_released_at_once) => return Ok(None),
                Err((mut file, Errno::EWOULDBLOCK)) => {
                    let text = file.rewind().and_then(|()| bounded::read_from(&file, MOST_DIGITS));
                    let pid = text.doing("read", &path)?.parse().ok().filter(|&pid: &i32| pid > 1);
                    if pid.is_some() || Instant::now() >= deadline {
                        return Ok(pid.map(Pid::from_raw));
                    }
                    thread::sleep(INTERVAL);
                }
                Err((_, errno)) => return Err(errno.into()).doing("lock", &path),
            }
        }
    }

    /// Ends the lab's agent and waits until it is gone: SIGTERM first, SIGKILL where that is not
    /// enough. The lock is what tells that the process id is still the agent's.
    ///
    /// # Errors
    /// The file system refuses, or the agent survives.
    pub async fn end_holder(directory: &Directory) -> Result<()> {
        for (signal, patience) in [(Signal::SIGTERM, PATIENCE), (Signal::SIGKILL, KILLED)] {
            let Some(pid) = Self::holder(directory)? else { return Ok(()) };
            // It may be gone in this moment; the lock will say.
            let _ = kill(pid, signal);
            let deadline = Instant::now() + patience;
            while Instant::now() < deadline {
                if Self::holder(directory)?.is_none() {
                    return Ok(());
                }
                // An interrupt is heard meanwhile.
                tokio::time::sleep(INTERVAL).await;
            }
        }
        Err(std::io::Error::from_raw_os_error(nix::libc::ETIMEDOUT))
            .doing("end the agent of", directory.path())
    }
}

fn open(directory: &Directory) -> Result<File> {
    let path = directory.agent_lock();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    private::open(&mut options, &path).doing("open", &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Directory) {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::stand_in(folder.path());
        (folder, directory)
    }

    #[test]
    fn who_only_looks_keeps_no_agent_from_its_lock() {
        let (_folder, directory) = folder();
        let looks = Flock::lock(open(&directory).unwrap(), FlockArg::LockSharedNonblock).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(INTERVAL * 4);
                drop(looks);
            });
            assert!(AgentLock::take(&directory).unwrap().is_some());
        });
    }

    #[test]
    fn an_agent_that_has_not_written_its_number_yet_is_there() {
        let (_folder, directory) = folder();
        let mut held = Flock::lock(open(&directory).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(INTERVAL * 4);
                write!(*held, "4242").unwrap();
            });
            assert_eq!(AgentLock::holder(&directory).unwrap(), Some(Pid::from_raw(4242)));
        });
        assert!(AgentLock::take(&directory).unwrap().is_none(), "there is another");
    }
}
