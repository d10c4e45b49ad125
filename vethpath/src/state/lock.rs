//! Locks: one process that changes a lab, and for each lab one agent and one reader of its metrics. A `bench`, which
//! detaches and attaches programs several times a second, has one too.

use std::{
    fmt::Display,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Seek, Write},
    marker::PhantomData,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
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
use serde::Serialize;

use super::{Directory, Error, ROOT, Result};
use crate::{
    kernel::{Context, files},
    topology::LabName,
};

/// The longest text in a lock file in bytes: two pids and a socket address.
const LONGEST: u64 = 128;

/// How long to retry while another process probes the lock, or while its holder has not written a pid yet. Both are
/// short, unless that process is not scheduled.
const MOMENT: Duration = Duration::from_secs(1);

/// The interval between two attempts.
const INTERVAL: Duration = Duration::from_millis(5);

/// How long a daemon may take to exit after SIGTERM.
const TERM_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a daemon may take to exit after SIGKILL. It may be blocked in the kernel on the RTNL lock, where it takes
/// no signal. Under great load that takes long.
const KILL_TIMEOUT: Duration = Duration::from_secs(60);

/// The timeout for a lock that another process holds.
const WAIT: Duration = Duration::from_secs(10);

/// How long to wait before the holder is reported: a killed process holds its lock a little longer.
const SILENCE: Duration = Duration::from_millis(200);

/// The right to change a lab. A lock on its folder, so that no lock file is left behind.
pub struct LabLock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl LabLock {
    /// Takes the lock of a lab, with a timeout of ten seconds. Makes the lab's folder if it is missing. `waiting` is
    /// called once with the error that names the holder.
    ///
    /// # Errors
    /// Another process holds it until the timeout ([`Error::Busy`]), or a file operation fails.
    pub async fn wait(directory: &Directory, waiting: fn(&Error)) -> Result<Self> {
        let began = Instant::now();
        let mut is_reported = false;
        loop {
            // A `down` may remove the folder, or the one that it is in, at any moment.
            match directory.create().and_then(|()| Self::acquire(directory)) {
                Err(busy @ Error::Busy { .. }) if began.elapsed() < WAIT => {
                    if began.elapsed() >= SILENCE && !std::mem::replace(&mut is_reported, true) {
                        waiting(&busy);
                    }
                    tokio::time::sleep(INTERVAL).await;
                }
                Err(Error::Kernel(error)) if error.is_missing() && began.elapsed() < WAIT => {
                    tokio::time::sleep(INTERVAL).await;
                }
                taken => return taken,
            }
        }
    }

    /// Takes the lock of a lab whose folder exists, without waiting.
    ///
    /// # Errors
    /// Another process holds it ([`Error::Busy`]), or the folder does not exist.
    pub fn acquire(directory: &Directory) -> Result<Self> {
        loop {
            let folder = File::open(directory.path()).doing("open", directory.path().display())?;
            let inode = folder.metadata().doing("inspect", directory.path().display())?.ino();
            let lock = match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((folder, Errno::EWOULDBLOCK)) => return Err(Error::busy(directory.lab(), &folder)),
                Err((_, errno)) => Err(errno).doing("lock", directory.path().display())?,
            };
            // A `down` may have removed the folder, and an `up` may have made another, before it was locked.
            if fs::metadata(directory.path()).is_ok_and(|now| now.ino() == inode) {
                return Ok(Self(lock));
            }
        }
    }
}

/// The right to adopt bridges. A lock on the folder of all labs: whoever holds it can check the records of the others and
/// write its own, and no other lab adopts a bridge in between.
pub struct AdoptionLock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl AdoptionLock {
    /// Takes the lock for a lab whose folder exists, with a timeout of ten seconds.
    ///
    /// # Errors
    /// Another process holds it until the timeout ([`Error::Busy`]), or a file operation fails.
    pub async fn wait(lab: &LabName) -> Result<Self> {
        let root = Path::new(ROOT);
        let folder = File::open(root).doing("open", root.display())?;
        wait_for(folder, lab, root).await.map(Self)
    }
}

/// Locks a file, with a timeout of ten seconds.
///
/// # Errors
/// Another process holds the lock until the timeout ([`Error::Busy`]), or a file operation fails.
pub(super) async fn wait_for(mut file: File, lab: &LabName, path: &Path) -> Result<Flock<File>> {
    let deadline = Instant::now() + WAIT;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file,
            Err((file, Errno::EWOULDBLOCK)) => return Err(Error::busy(lab, &file)),
            Err((_, errno)) => Err(errno).doing("lock", path.display())?,
        };
        tokio::time::sleep(INTERVAL).await;
    }
}

impl Error {
    /// Another process has locked a file that is needed for this lab.
    fn busy(lab: &LabName, file: &File) -> Self {
        let by = holder_of(file).map_or(String::new(), |pid| format!(": {}", describe(pid)));
        Self::Busy { lab: lab.clone(), by }
    }
}

/// A process of a lab that runs until the lab is down, and holds a lock meanwhile.
pub trait Daemon {
    /// What it is, for messages.
    const NAME: &'static str;

    /// Its lock file. It begins with its pid.
    fn lock_file(directory: &Directory) -> PathBuf;
}

/// The agent.
pub struct Agent;

impl Daemon for Agent {
    const NAME: &'static str = "agent";

    fn lock_file(directory: &Directory) -> PathBuf {
        directory.agent_lock()
    }
}

/// The process that reads the lab's metrics.
pub struct Metrics;

impl Daemon for Metrics {
    const NAME: &'static str = "metrics";

    fn lock_file(directory: &Directory) -> PathBuf {
        directory.metrics_lock()
    }
}

/// Proof that this process is the lab's agent.
pub type AgentLock = DaemonLock<Agent>;

/// Proof that this process reads the lab's metrics.
pub type MetricsLock = DaemonLock<Metrics>;

/// Proof that this process is a daemon of the lab.
pub struct DaemonLock<D>(Flock<File>, PhantomData<D>);

impl<D: Daemon> DaemonLock<D> {
    /// Takes the lock; `None` if another process holds it.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn acquire(directory: &Directory) -> Result<Option<Self>> {
        Self::acquire_and_write(directory, std::process::id())
    }

    /// Takes the lock, and writes a text that begins with the pid.
    fn acquire_and_write(directory: &Directory, text: impl Display) -> Result<Option<Self>> {
        let path = D::lock_file(directory);
        let deadline = Instant::now() + MOMENT;
        loop {
            match Flock::lock(open(&path)?, FlockArg::LockExclusiveNonblock) {
                Ok(mut lock) => {
                    let text = text.to_string();
                    lock.set_len(0)
                        .and_then(|()| lock.write_all(text.as_bytes()))
                        .doing("write", path.display())?;
                    return Ok(Some(Self(lock, PhantomData)));
                }
                Err((_, Errno::EWOULDBLOCK)) if Instant::now() < deadline => thread::sleep(INTERVAL),
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, errno)) => Err(errno).doing("lock", path.display())?,
            }
        }
    }

    /// Whether the locked file is still the one at its path. The user may have removed it.
    #[must_use]
    pub fn is_current(&self, directory: &Directory) -> bool {
        let id = |found: fs::Metadata| (found.dev(), found.ino());
        match (self.0.metadata().map(id), fs::metadata(D::lock_file(directory)).map(id)) {
            (Ok(held), Ok(there)) => held == there,
            (_, Err(error)) => error.kind() != ErrorKind::NotFound,
            (Err(_), _) => true,
        }
    }

    /// The pid of the daemon, as it wrote it, if it is alive; it may be stopped or hang.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn holder(directory: &Directory) -> Result<Option<Pid>> {
        Ok(Self::held(directory)?.map(|(pid, _)| pid))
    }

    /// The pid of the daemon, and the text in its lock file.
    fn held(directory: &Directory) -> Result<Option<(Pid, String)>> {
        directory.check()?;
        let path = D::lock_file(directory);
        // A process can only have locked a regular file.
        if !path.symlink_metadata().is_ok_and(|found| found.is_file()) {
            return Ok(None);
        }
        let deadline = Instant::now() + MOMENT;
        loop {
            match Flock::lock(open(&path)?, FlockArg::LockSharedNonblock) {
                Ok(_released_at_once) => return Ok(None),
                Err((mut file, Errno::EWOULDBLOCK)) => {
                    // The file may contain other text than a pid.
                    let text =
                        file.rewind().and_then(|()| files::read_from(&file, LONGEST)).unwrap_or_default();
                    let pid = text.split(' ').next().and_then(|pid| pid.parse().ok());
                    if let Some(pid @ 2..) = pid {
                        return Ok(Some((Pid::from_raw(pid), text)));
                    }
                    if Instant::now() >= deadline {
                        return Ok(holder_of(&file).map(|pid| (pid, String::new())));
                    }
                    thread::sleep(INTERVAL);
                }
                Err((_, errno)) => Err(errno).doing("lock", path.display())?,
            }
        }
    }

    /// The daemon's pid in the PID namespace of `/proc`, if it is visible there.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn process(directory: &Directory) -> Result<Option<Pid>> {
        directory.check()?;
        let path = D::lock_file(directory);
        match files::open_private(OpenOptions::new().read(true), &path) {
            Err(error) if error.kind() == ErrorKind::NotFound || files::is_not_a_file(&error) => Ok(None),
            file => Ok(holder_of(&file.doing("open", path.display())?)),
        }
    }

    /// Ends the daemon with SIGTERM, then SIGKILL, and waits until it has exited. The held lock shows that the pid is still
    /// the daemon's.
    ///
    /// # Errors
    /// A file operation fails, or the daemon does not exit.
    pub async fn terminate_holder(directory: &Directory) -> Result<()> {
        for (signal, patience) in [(Signal::SIGTERM, TERM_TIMEOUT), (Signal::SIGKILL, KILL_TIMEOUT)] {
            let Some(pid) = Self::seen_holder(directory).await? else { return Ok(()) };
            // It may have exited. Its lock is checked below.
            let _ = kill(pid, signal);
            let deadline = Instant::now() + patience;
            while Instant::now() < deadline {
                if Self::holder(directory)?.is_none() {
                    return Ok(());
                }
                // This await lets an interrupt be handled.
                tokio::time::sleep(INTERVAL).await;
            }
        }
        Ok(Err(Errno::ETIMEDOUT).doing("end", Self::of(directory))?)
    }

    /// The daemon, for messages.
    fn of(directory: &Directory) -> String {
        format!("the {} of {}", D::NAME, directory.path().display())
    }

    /// The daemon's pid, if it is alive. The process is verified to have the lock file open: the pid in the file may be
    /// of another PID namespace.
    ///
    /// # Errors
    /// A file operation fails, or the daemon's process is not visible from here.
    async fn seen_holder(directory: &Directory) -> Result<Option<Pid>> {
        let deadline = Instant::now() + MOMENT;
        loop {
            let Some(written) = Self::holder(directory)? else { return Ok(None) };
            let shown = Self::process(directory)?;
            let seen = [Some(written), shown]
                .into_iter()
                .flatten()
                .find(|pid| has_open(*pid, &D::lock_file(directory)));
            if seen.is_some() || Instant::now() >= deadline {
                let unseen = || std::io::Error::other("its process is not visible from here");
                let seen = seen.ok_or_else(unseen).doing("end", Self::of(directory))?;
                return Ok(Some(seen));
            }
            // It may have exited meanwhile.
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

/// The processes that serve the metrics of a lab, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Serving {
    /// The process that listens. It has no capability.
    pub pid: i32,
    /// The process that reads the counts for it, and ends with it.
    pub reader: i32,
    /// Where they are served.
    pub listen: SocketAddr,
}

impl MetricsLock {
    /// Takes the lock for this process, whose child `server` listens; `None` if another process holds it.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn acquire_for(directory: &Directory, server: u32, listen: SocketAddr) -> Result<Option<Self>> {
        let reader = std::process::id();
        Self::acquire_and_write(directory, format_args!("{reader} {server} {listen}"))
    }

    /// The processes that serve the metrics of a lab; `None` if there are none.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn serving(directory: &Directory) -> Result<Option<Serving>> {
        let Some((pid, text)) = Self::held(directory)? else { return Ok(None) };
        let mut words = text.split(' ').skip(1);
        let (server, listen) = (words.next(), words.next());
        let parsed = server.and_then(|pid| pid.parse().ok()).zip(listen.and_then(|text| text.parse().ok()));
        Ok(parsed.map(|(server, listen)| Serving { pid: server, reader: pid.as_raw(), listen }))
    }
}

/// The contents of the file while programs may be detached. Otherwise it is empty.
const OFF: &[u8] = b"programs may be off\n";

/// Proof that this process measures the lab. A killed process loses the lock; the file still says that programs may be
/// detached.
pub struct Measuring(Flock<File>);

impl Measuring {
    /// Starts a measurement. The caller holds the lab's lock, so that no other process starts one.
    ///
    /// # Errors
    /// A file operation fails.
    pub async fn start(directory: &Directory) -> Result<Self> {
        let path = directory.bench_lock();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = files::open_private(&mut options, &path).doing("open", path.display())?;
        // A process that checks the lock holds it briefly.
        let mut lock = wait_for(file, directory.lab(), &path).await?;
        lock.set_len(0).and_then(|()| lock.write_all(OFF)).doing("write", path.display())?;
        Ok(Self(lock))
    }

    /// Ends the measurement: all programs are attached again.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn end(self, directory: &Directory) -> Result<()> {
        Ok(self.0.set_len(0).doing("write", directory.bench_lock().display())?)
    }

    /// Whether a process measures the lab.
    #[must_use]
    pub fn is_on(directory: &Directory) -> bool {
        let Ok(file) = File::open(directory.bench_lock()) else { return false };
        matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
    }

    /// Whether a measuring process was killed, so that programs may be detached.
    #[must_use]
    pub fn was_killed(directory: &Directory) -> bool {
        fs::metadata(directory.bench_lock()).is_ok_and(|file| file.len() > 0) && !Self::is_on(directory)
    }

    /// Records that all programs are attached again after that. The caller holds the lab's lock.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn is_mended(directory: &Directory) -> Result<()> {
        let path = directory.bench_lock();
        let emptied = OpenOptions::new().write(true).truncate(true).open(&path).map(drop);
        Ok(emptied.doing("write", path.display())?)
    }
}

/// Whether a process has a file open. False if `/proc` shows another PID namespace than the one for kill(2).
fn has_open(pid: Pid, path: &Path) -> bool {
    let is_own_proc =
        fs::read_link("/proc/self").is_ok_and(|own| own == Path::new(&std::process::id().to_string()));
    let Ok(wanted) = fs::metadata(path) else { return false };
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut files = files.filter_map(|entry| fs::metadata(entry.path()).ok());
    is_own_proc && files.any(|file| (file.dev(), file.ino()) == (wanted.dev(), wanted.ino()))
}

/// The process that holds an exclusive lock on a file, if `/proc/locks` shows it.
fn holder_of(file: &File) -> Option<Pid> {
    let found = file.metadata().ok()?;
    let id = format!("{:02x}:{:02x}:{}", major(found.dev()), minor(found.dev()), found.ino());
    let locks = files::read_bounded(Path::new("/proc/locks"), files::LIST).ok()?;
    // `1: FLOCK  ADVISORY  WRITE 4242 00:1a:77 0 EOF`; a waiting process has `->`.
    let holder = locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_it = words.next() == Some("FLOCK") && words.nth(1) == Some("WRITE");
        let (pid, of) = (words.next()?.parse::<i32>().ok()?, words.next()?);
        (is_it && of == id).then_some(pid)
    });
    holder.filter(|&pid| pid > 0).map(Pid::from_raw)
}

/// Describes a process by its pid and command line.
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

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    Ok(files::open_private(&mut options, path).doing("open", path.display())?)
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
    fn who_only_probes_keeps_no_agent_from_its_lock() {
        let (_folder, directory) = folder();
        let shared =
            Flock::lock(open(&directory.agent_lock()).unwrap(), FlockArg::LockSharedNonblock).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(INTERVAL * 4);
                drop(shared);
            });
            assert!(AgentLock::acquire(&directory).unwrap().is_some());
        });
    }

    #[test]
    fn the_holder_of_a_lock_is_named() {
        let (_folder, directory) = folder();
        let _lock = LabLock::acquire(&directory).unwrap();
        let Err(Error::Busy { lab, by }) = LabLock::acquire(&directory) else { panic!("there is one") };
        assert_eq!(lab.as_str(), "lab");
        assert!(by.starts_with(&format!(": process {} (`", std::process::id())), "{by}");
        let mut agent =
            Flock::lock(open(&directory.agent_lock()).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        agent.write_all(b"\xff\n").unwrap();
        let own = Pid::from_raw(i32::try_from(std::process::id()).unwrap());
        assert_eq!(AgentLock::process(&directory).unwrap(), Some(own));
        assert_eq!(AgentLock::holder(&directory).unwrap(), Some(own), "whatever is in the file");
    }

    #[test]
    fn an_agent_that_has_not_written_its_number_yet_is_there() {
        let (_folder, directory) = folder();
        let mut held =
            Flock::lock(open(&directory.agent_lock()).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(INTERVAL * 4);
                write!(*held, "4242").unwrap();
            });
            assert_eq!(AgentLock::holder(&directory).unwrap(), Some(Pid::from_raw(4242)));
        });
        assert!(AgentLock::acquire(&directory).unwrap().is_none(), "there is another");
    }
}
