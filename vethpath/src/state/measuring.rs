//! The lock of `bench`, which detaches and attaches a lab's programs several times a second.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::{Directory, Result, lock};
use crate::kernel::{Context, files};

/// The contents of the file while programs may be detached. Otherwise it is empty.
const OFF: &[u8] = b"programs may be off\n";

/// Proof that this process measures the lab. A killed process loses the lock; the file still says that programs may be
/// detached.
pub struct Measuring(Flock<File>);

impl Measuring {
    /// Begins a measurement. The caller holds the lab's lock, so that no other process begins one.
    ///
    /// # Errors
    /// A file operation fails.
    pub async fn begin(directory: &Directory) -> Result<Self> {
        let path = directory.bench_lock();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = files::open_private(&mut options, &path).doing("open", path.display())?;
        // A process that checks the lock holds it briefly.
        let mut lock = lock::wait_for(file, directory.lab(), &path).await?;
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
