//! The lock on a lab's counts, and the move of counts of ports that have left and of pairs that are gone.
//!
//! A reader of the counters holds the lock shared, so that no count is moved meanwhile. The move that is under way is in
//! the file: whoever finds one there, after a kill, completes it.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{self, Seek, Write},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::{Directory, Unseen, test_hooks};
use crate::{
    datapath::{Counters, Fold},
    kernel::{Context, Error, Result, files},
};

/// How long readers and moves of counts wait for each other. Either takes some milliseconds.
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
        let hint = "the lab's agent or `up` moves counts and was stopped: let it go on (SIGCONT), or end it";
        Err(Self::late(directory, hint))
    }

    /// Moves all counts of pairs that are gone to a number that no pair has, after a move that a killed process has left,
    /// and forgets their unseen frames. So what others sent them, and received from them, stays counted. What a program
    /// counts for them at this moment is lost.
    ///
    /// # Errors
    /// Another process reads or moves counts until a timeout of two seconds, a file operation fails, or the kernel refuses
    /// a read or a write.
    pub fn move_away(
        directory: &Directory,
        counters: &mut Counters,
        pairs: &BTreeSet<u32>,
        into: u32,
    ) -> Result<()> {
        if pairs.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            if let Some(mut counts) = Self::for_moving(directory)? {
                counts.complete(counters)?;
                if let Some(fold) = counters.fold(pairs, into)? {
                    counts.apply(&fold, counters)?;
                }
                // Readers, who add to these, hold the lock too.
                return Unseen::forget(directory, pairs);
            }
            thread::sleep(INTERVAL);
        }
        let hint = "a command that reads the lab's counts was stopped: let it go on (SIGCONT), or end it";
        Err(Self::late(directory, hint))
    }

    fn late(directory: &Directory, hint: &'static str) -> Error {
        let path = directory.counts().display().to_string();
        Error::new("lock", path, io::ErrorKind::TimedOut.into()).with_hint(hint)
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
