//! Whether somebody measures a lab: then its programs come and go, several times a second.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::{Context, Directory, Result};

/// Proof that this process measures the lab. A killed one holds it no more.
pub struct Measuring(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl Measuring {
    /// Tells everybody. The caller has the lab's lock, so that nobody else does the same.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn begin(directory: &Directory) -> Result<Self> {
        let path = directory.bench_lock();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).doing("open", &path)?;
        // Whoever asks holds it for a moment.
        let lock = Flock::lock(file, FlockArg::LockExclusive);
        Ok(Self(lock.map_err(|(_, errno)| errno.into()).doing("lock", &path)?))
    }

    /// Whether somebody does.
    #[must_use]
    pub fn is_on(directory: &Directory) -> bool {
        let Ok(file) = File::open(directory.bench_lock()) else { return false };
        matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
    }
}
