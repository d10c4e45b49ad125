//! The lock on a lab's counts, and the move of counts of ports that have left.
//!
//! A reader of the counters holds the lock shared, so that no count is moved meanwhile. The move that is under way is in
//! the file: whoever finds one there, after a kill, completes it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, Write},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::{Directory, test_hooks};
use crate::{
    datapath::{Counters, Fold},
    kernel::{Context, Result, files},
};

/// How long a reader waits for a move of counts, which takes some milliseconds.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The interval between two attempts.
const INTERVAL: Duration = Duration::from_millis(2);

/// A lab's counts, locked.
pub struct Counts(Flock<File>);

impl Counts {
    /// Locks the counts of a lab to read them, after completing a move that a killed process has left. `None` if the lab
    /// has no folder.
    ///
    /// # Errors
    /// Another process moves counts until a timeout of two seconds, a file operation fails, or the kernel refuses a write.
    pub fn for_reading(directory: &Directory, counters: &mut Counters) -> Result<Option<Self>> {
        if !directory.exists() {
            return Ok(None);
        }
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            match Self::take(directory, FlockArg::LockSharedNonblock)? {
                Some(counts) if counts.pending()?.is_none() => return Ok(Some(counts)),
                Some(unfinished) => {
                    drop(unfinished);
                    if let Some(mut counts) = Self::for_moving(directory)? {
                        counts.complete(counters)?;
                    }
                }
                None => thread::sleep(INTERVAL),
            }
        }
        Err(io::Error::from(io::ErrorKind::TimedOut)).doing("lock", directory.counts().display()).map_err(
            |error| {
                error.with_hint(
                    "the lab's agent moves counts and was stopped: let it go on (SIGCONT), or end it",
                )
            },
        )
    }

    /// Locks the counts of a lab to move some. `None` if another process holds the lock.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn for_moving(directory: &Directory) -> Result<Option<Self>> {
        Self::take(directory, FlockArg::LockExclusiveNonblock)
    }

    fn take(directory: &Directory, how: FlockArg) -> Result<Option<Self>> {
        let path = directory.counts();
        let mut options = OpenOptions::new();
        let file = files::open_private(options.read(true).write(true).create(true).truncate(false), &path);
        match Flock::lock(file.doing("open", path.display())?, how) {
            Ok(lock) => Ok(Some(Self(lock))),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno).doing("lock", path.display()),
        }
    }

    /// Records a move, and completes it.
    ///
    /// # Errors
    /// A file operation fails, or the kernel refuses a write.
    pub fn apply(&mut self, fold: &Fold, counters: &mut Counters) -> Result<()> {
        let text = serde_json::to_vec(fold).map_err(io::Error::from).doing("write", "counts")?;
        self.overwrite(&text)?;
        self.complete(counters)
    }

    /// Completes the recorded move, if there is one.
    ///
    /// # Errors
    /// A file operation fails, or the kernel refuses a write.
    pub fn complete(&mut self, counters: &mut Counters) -> Result<()> {
        if let Some(fold) = self.pending()? {
            counters.complete(&fold)?;
        }
        self.overwrite(&[])
    }

    /// The move that was recorded and not completed. Nothing was written to the maps of one whose record is cut short.
    fn pending(&self) -> Result<Option<Fold>> {
        (&*self.0).rewind().doing("read", "counts")?;
        let text = files::read_from(&self.0, files::LIST).doing("read", "counts")?;
        Ok(serde_json::from_str(&text).ok())
    }

    fn overwrite(&mut self, bytes: &[u8]) -> Result<()> {
        let write = |mut file: &File| {
            test_hooks::kill_point();
            file.set_len(0)?;
            test_hooks::kill_point();
            file.rewind()?;
            file.write_all(bytes)
        };
        write(&self.0).doing("write", "counts")?;
        test_hooks::kill_point();
        Ok(())
    }
}
