//! The event log: complete lines, one write each, and a size limit.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use crate::kernel::files;

/// The size in bytes at which the file is rotated. One older file is kept.
pub(super) const MOST_BYTES: u64 = 1 << 20;

/// An upper bound for a line. It is kept free, so that the next line does not exceed the limit.
const ROOM: u64 = 16 << 10;

/// The interval between two attempts to take the lock.
const INTERVAL: Duration = Duration::from_millis(1);

/// The files of a lab's events.
#[derive(Clone, Debug)]
pub(super) struct EventFile {
    pub(super) current: PathBuf,
    pub(super) old: PathBuf,
}

impl EventFile {
    /// The files in the folder of a lab.
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self { current: folder.join("events.jsonl"), old: folder.join("events.old.jsonl") }
    }

    /// Appends a line, which is made under the lock: so lines are in the order of their times. `make` must leave out
    /// the newline.
    ///
    /// Waits for another writer as long as `patience`. A write takes a few microseconds, or longer if the writer is
    /// preempted.
    ///
    /// No process writes to a rotated file: each writer holds its lock, and has checked that it is still the current
    /// one.
    ///
    /// # Errors
    /// A file operation fails, or another process holds the lock for too long. Nothing was written then.
    pub(super) fn append(&self, patience: Duration, make: impl FnOnce() -> String) -> io::Result<()> {
        loop {
            let file = self.lock(patience)?;
            let there = file.metadata()?;
            if !fs::metadata(&self.current).is_ok_and(|now| same(&now, &there)) {
                continue;
            }
            let length = there.len();
            if length + ROOM > MOST_BYTES {
                fs::rename(&self.current, &self.old)?;
                continue;
            }
            // The last writer may have been killed within a line.
            let mut last = *b"\n";
            if length > 0 {
                file.read_exact_at(&mut last, length - 1)?;
            }
            let begin = if last == *b"\n" { "" } else { "\n" };
            let line = format!("{begin}{}\n", make());
            return (&*file).write_all(line.as_bytes()).inspect_err(|_| {
                // Most likely the file system is full. Remove the partial line.
                let _ = file.set_len(length);
            });
        }
    }

    fn lock(&self, patience: Duration) -> io::Result<Flock<File>> {
        let mut options = OpenOptions::new();
        let mut file = files::open_private(options.read(true).append(true).create(true), &self.current)?;
        let deadline = Instant::now() + patience;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((refused, Errno::EWOULDBLOCK)) => file = refused,
                Err((_, errno)) => return Err(errno.into()),
            }
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            thread::sleep(INTERVAL);
        }
    }
}

/// Whether two results of stat(2) are of the same file.
pub(super) fn same(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}
