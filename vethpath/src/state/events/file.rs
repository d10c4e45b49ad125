//! The file of events: whole lines, one write each, and never more than its bound.

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

/// How long the file may become, in bytes, before it is put aside. There is one older file at most.
pub(super) const MOST_BYTES: u64 = 1 << 20;

/// More than a line has. Kept free, so that the bound holds with the next line too.
const ROOM: u64 = 16 << 10;

/// How often somebody else who writes is looked at.
const INTERVAL: Duration = Duration::from_millis(1);

/// Where a lab's events are.
#[derive(Clone, Debug)]
pub(super) struct EventFile {
    pub(super) current: PathBuf,
    pub(super) old: PathBuf,
}

impl EventFile {
    /// The files in a lab's folder.
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self { current: folder.join("events.jsonl"), old: folder.join("events.old.jsonl") }
    }

    /// Appends a line, which is made when nobody else can write: so lines are in the order of their
    /// times. `make` is to leave the newline out.
    ///
    /// Somebody else who writes is waited for as long as `patience`. A write takes a few microseconds: it is longer
    /// only where the machine lets others run in the middle of it.
    ///
    /// Nobody writes to a file that has been put aside: whoever writes holds its lock, and has seen
    /// that it is still the current one.
    ///
    /// # Errors
    /// The file system refuses, or somebody holds the lock for too long. Then nothing was written.
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
            // Whoever wrote last may have been killed in the middle.
            let mut last = *b"\n";
            if length > 0 {
                file.read_exact_at(&mut last, length - 1)?;
            }
            let begin = if last == *b"\n" { "" } else { "\n" };
            let line = format!("{begin}{}\n", make());
            return (&*file).write_all(line.as_bytes()).inspect_err(|_| {
                // No room, most likely: what of it was written is no line.
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

/// Whether two looks were at one file.
pub(super) fn same(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}
