//! Locks: one `up` or `down` at a time for a lab, and one agent.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Seek, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::{
        signal::{Signal, kill},
        stat::{major, minor},
    },
    unistd::Pid,
};

use super::{Context, Directory, Error, Result};
use crate::{kernel::files, topology::LabName};

/// More than the digits of any process id.
const MOST_DIGITS: u64 = 32;

/// How long a lock may be held by somebody who only looks whether an agent has it, or have no process id in it yet:
/// a moment, but for one who is not let run.
const MOMENT: Duration = Duration::from_secs(1);

/// How often it is looked at meanwhile.
const INTERVAL: Duration = Duration::from_millis(5);

/// How long a stopping agent may take before it is killed.
const TERM_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a killed one may take to be gone: it may wait in the kernel for a lock that all of networking shares,
/// which on a machine under great load takes long, and takes no signal there.
const KILL_TIMEOUT: Duration = Duration::from_secs(60);

/// How long somebody who changes a lab is waited for.
const WAIT: Duration = Duration::from_secs(10);

/// How long until that is said: one that was killed holds the lock for a moment more.
const SILENCE: Duration = Duration::from_millis(200);

/// The right to change a lab. Held on its folder, so that nothing is left behind.
pub struct LabLock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl LabLock {
    /// Takes the lock of a lab, whose folder is made if it is not there, as soon as nobody else has it: within ten
    /// seconds. `waiting` is told once who has it.
    ///
    /// # Errors
    /// Somebody else has it all the while ([`Error::Busy`]), or the file system refuses.
    pub async fn wait(directory: &Directory, waiting: fn(&Error)) -> Result<Self> {
        let began = Instant::now();
        let mut is_told = false;
        loop {
            // A `down` that was waited for may have removed it.
            directory.create()?;
            match Self::take(directory) {
                Err(busy @ Error::Busy { .. }) if began.elapsed() < WAIT => {
                    if began.elapsed() >= SILENCE && !std::mem::replace(&mut is_told, true) {
                        waiting(&busy);
                    }
                    tokio::time::sleep(INTERVAL).await;
                }
                Err(Error::Io { source, .. })
                    if source.kind() == ErrorKind::NotFound && began.elapsed() < WAIT => {}
                taken => return taken,
            }
        }
    }

    /// Takes the lock of a lab whose folder exists, at once.
    ///
    /// # Errors
    /// Somebody else has it ([`Error::Busy`]), or the folder is not there.
    pub fn take(directory: &Directory) -> Result<Self> {
        loop {
            let folder = File::open(directory.path()).doing("open", directory.path())?;
            let inode = folder.metadata().doing("inspect", directory.path())?.ino();
            let lock = match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((folder, Errno::EWOULDBLOCK)) => return Err(Error::busy(directory.lab(), &folder)),
                Err((_, errno)) => return Err(errno.into()).doing("lock", directory.path()),
            };
            // A `down` may have removed the folder, and an `up` made another, while we opened it.
            if fs::metadata(directory.path()).is_ok_and(|now| now.ino() == inode) {
                return Ok(Self(lock));
            }
        }
    }
}

/// Takes a lock for which others are waited for, within ten seconds.
///
/// # Errors
/// Somebody else has it all the while ([`Error::Busy`]), or the file system refuses.
pub(super) async fn wait_for(mut file: File, lab: &LabName, path: &Path) -> Result<Flock<File>> {
    let deadline = Instant::now() + WAIT;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file,
            Err((file, Errno::EWOULDBLOCK)) => return Err(Error::busy(lab, &file)),
            Err((_, errno)) => return Err(errno.into()).doing("lock", path),
        };
        tokio::time::sleep(INTERVAL).await;
    }
}

impl Error {
    /// Somebody has locked a file that is needed for this lab.
    fn busy(lab: &LabName, file: &File) -> Self {
        let by = holder_of(file).map_or(String::new(), |pid| format!(": {}", describe(pid)));
        Self::Busy { lab: lab.clone(), by }
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
        let id = |found: fs::Metadata| (found.dev(), found.ino());
        match (self.0.metadata().map(id), fs::metadata(directory.agent_lock()).map(id)) {
            (Ok(held), Ok(there)) => held == there,
            (_, Err(error)) => error.kind() != ErrorKind::NotFound,
            (Err(_), _) => true,
        }
    }

    /// The process id of the lab's agent, if it lives (be it stopped or hanging).
    ///
    /// # Errors
    /// The file system refuses.
    pub fn holder(directory: &Directory) -> Result<Option<Pid>> {
        directory.check()?;
        let path = directory.agent_lock();
        // No process can have locked anything else.
        if !path.symlink_metadata().is_ok_and(|found| found.is_file()) {
            return Ok(None);
        }
        let deadline = Instant::now() + MOMENT;
        loop {
            match Flock::lock(open(directory)?, FlockArg::LockSharedNonblock) {
                Ok(_released_at_once) => return Ok(None),
                Err((mut file, Errno::EWOULDBLOCK)) => {
                    // What somebody else has written there is no number.
                    let text = file.rewind().and_then(|()| files::read_from(&file, MOST_DIGITS)).ok();
                    let pid = text.and_then(|text| text.parse().ok()).filter(|&pid: &i32| pid > 1);
                    if pid.is_some() {
                        return Ok(pid.map(Pid::from_raw));
                    }
                    if Instant::now() >= deadline {
                        return Ok(holder_of(&file));
                    }
                    thread::sleep(INTERVAL);
                }
                Err((_, errno)) => return Err(errno.into()).doing("lock", &path),
            }
        }
    }

    /// The same by its number in the process namespace that `/proc` shows, if it is seen there.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn process(directory: &Directory) -> Result<Option<Pid>> {
        directory.check()?;
        let path = directory.agent_lock();
        match files::open_private(OpenOptions::new().read(true), &path) {
            Err(error) if error.kind() == ErrorKind::NotFound || files::is_not_a_file(&error) => Ok(None),
            file => file.doing("open", &path).map(|file| holder_of(&file)),
        }
    }

    /// Ends the lab's agent and waits until it is gone: SIGTERM first, SIGKILL where that is not
    /// enough. The lock is what tells that the process id is still the agent's.
    ///
    /// # Errors
    /// The file system refuses, or the agent survives.
    pub async fn end_holder(directory: &Directory) -> Result<()> {
        for (signal, patience) in [(Signal::SIGTERM, TERM_TIMEOUT), (Signal::SIGKILL, KILL_TIMEOUT)] {
            let Some(pid) = Self::seen_holder(directory).await? else { return Ok(()) };
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

    /// The process id of the lab's agent, if it lives, where that is shown to be the agent's: what is in the file may be
    /// its number in another process namespace.
    ///
    /// # Errors
    /// The file system refuses, or the agent is no process that can be seen from here.
    async fn seen_holder(directory: &Directory) -> Result<Option<Pid>> {
        let deadline = Instant::now() + MOMENT;
        loop {
            let Some(written) = Self::holder(directory)? else { return Ok(None) };
            let shown = Self::process(directory)?;
            let seen = [Some(written), shown]
                .into_iter()
                .flatten()
                .find(|pid| has_open(*pid, &directory.agent_lock()));
            if seen.is_some() || Instant::now() >= deadline {
                let unseen = || std::io::Error::other("its process is not visible from here");
                return seen.map(Some).ok_or_else(unseen).doing("end the agent of", directory.path());
            }
            // It may have ended since.
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

/// Whether a process that signals can be sent to has a file open.
fn has_open(pid: Pid, path: &Path) -> bool {
    let is_own_proc =
        fs::read_link("/proc/self").is_ok_and(|own| own == Path::new(&std::process::id().to_string()));
    let Ok(wanted) = fs::metadata(path) else { return false };
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut files = files.filter_map(|entry| fs::metadata(entry.path()).ok());
    is_own_proc && files.any(|file| (file.dev(), file.ino()) == (wanted.dev(), wanted.ino()))
}

/// The process that has locked a file for itself alone, as far as `/proc/locks` shows it.
fn holder_of(file: &File) -> Option<Pid> {
    let found = file.metadata().ok()?;
    let id = format!("{:02x}:{:02x}:{}", major(found.dev()), minor(found.dev()), found.ino());
    let locks = files::read_bounded(Path::new("/proc/locks"), files::LIST).ok()?;
    // `1: FLOCK  ADVISORY  WRITE 4242 00:1a:77 0 EOF`, and `->` for one that waits.
    let holder = locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_it = words.next() == Some("FLOCK") && words.nth(1) == Some("WRITE");
        let (pid, of) = (words.next()?.parse::<i32>().ok()?, words.next()?);
        (is_it && of == id).then_some(pid)
    });
    holder.filter(|&pid| pid > 0).map(Pid::from_raw)
}

/// What a process is called by whoever started it.
fn describe(pid: Pid) -> String {
    let line = File::open(format!("/proc/{pid}/cmdline"))
        .and_then(|file| files::read_bytes_from(&file, files::LIST))
        .unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    match words.join(" ").trim() {
        "" => format!("process {pid}"),
        line => format!("process {pid} (`{line}`)"),
    }
}

fn open(directory: &Directory) -> Result<File> {
    let path = directory.agent_lock();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    files::open_private(&mut options, &path).doing("open", &path)
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
    fn who_has_a_lock_is_told() {
        let (_folder, directory) = folder();
        let _lock = LabLock::take(&directory).unwrap();
        let Err(Error::Busy { lab, by }) = LabLock::take(&directory) else { panic!("there is one") };
        assert_eq!(lab.as_str(), "lab");
        assert!(by.starts_with(&format!(": process {} (`", std::process::id())), "{by}");
        let mut agent = Flock::lock(open(&directory).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        agent.write_all(b"\xff\n").unwrap();
        let own = Pid::from_raw(i32::try_from(std::process::id()).unwrap());
        assert_eq!(AgentLock::process(&directory).unwrap(), Some(own));
        assert_eq!(AgentLock::holder(&directory).unwrap(), Some(own), "whatever is in the file");
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
