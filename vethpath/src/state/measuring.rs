//! Whether somebody measures a lab: then its programs come and go, several times a second.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::{Context, Directory, Result, lock};
use crate::kernel::files;

/// What the file holds while programs may be off. Otherwise it is empty.
const OFF: &[u8] = b"programs may be off\n";

/// Proof that this process measures the lab. A killed one holds it no more, but leaves its word that
/// programs may be off.
pub struct Measuring(Flock<File>);

impl Measuring {
    /// Tells everybody. The caller has the lab's lock, so that nobody else does the same.
    ///
    /// # Errors
    /// The file system refuses.
    pub async fn begin(directory: &Directory) -> Result<Self> {
        let path = directory.bench_lock();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = files::open_private(&mut options, &path).doing("open", &path)?;
        // Whoever asks holds it for a moment.
        let mut lock = lock::wait_for(file, directory.lab(), &path).await?;
        lock.set_len(0).and_then(|()| lock.write_all(OFF)).doing("write", &path)?;
        Ok(Self(lock))
    }

    /// The programs are on again, all of them.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn end(self, directory: &Directory) -> Result<()> {
        self.0.set_len(0).doing("write", &directory.bench_lock())
    }

    /// Whether somebody does.
    #[must_use]
    pub fn is_on(directory: &Directory) -> bool {
        let Ok(file) = File::open(directory.bench_lock()) else { return false };
        matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
    }

    /// Whether somebody did and was killed, so that programs may be off.
    #[must_use]
    pub fn was_killed(directory: &Directory) -> bool {
        fs::metadata(directory.bench_lock()).is_ok_and(|file| file.len() > 0) && !Self::is_on(directory)
    }

    /// The programs are on again after that. The caller has the lab's lock.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn is_mended(directory: &Directory) -> Result<()> {
        let path = directory.bench_lock();
        OpenOptions::new().write(true).truncate(true).open(&path).map(drop).doing("write", &path)
    }
}
