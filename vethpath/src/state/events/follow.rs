//! Follows events: inotify reports when there is something to read.

use std::{
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{Event, Reader};
use crate::state::{Directory, ROOT};

/// Follows a lab's events until it goes down.
pub struct Follower {
    reader: Reader,
    directory: Directory,
    /// Device and inode of the lab's folder. A later lab may have the same name.
    folder: (u64, u64),
    events: AsyncFd<Watches>,
}

struct Watches(Inotify);

impl AsRawFd for Watches {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Follower {
    /// Starts with the oldest event that is kept. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// The lab has no folder, or the limit of inotify instances or watches is reached.
    pub fn of(directory: &Directory) -> io::Result<Self> {
        use AddWatchFlags as On;
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let written = On::IN_MODIFY | On::IN_CREATE | On::IN_MOVED_TO | On::IN_DELETE_SELF | On::IN_ONLYDIR;
        let _ = inotify.add_watch(directory.path(), written)?;
        // `IN_DELETE_SELF` comes only after the last process has closed the folder. So its parent is watched too.
        let removed = On::IN_DELETE | On::IN_MOVED_FROM | On::IN_DELETE_SELF | On::IN_ONLYDIR;
        let _ = inotify.add_watch(Path::new(ROOT), removed)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types that might close their descriptor; this one does not"
        )]
        let events = AsyncFd::with_interest(Watches(inotify), Interest::READABLE)?;
        Ok(Self {
            reader: Reader::of(directory),
            folder: identity(directory.path())?,
            directory: directory.clone(),
            events,
        })
    }

    /// Waits for events; `None` when the lab is down and all events were returned. Cancel safe.
    ///
    /// # Errors
    /// The files cannot be read.
    pub async fn next(&mut self) -> io::Result<Option<Vec<Event>>> {
        loop {
            // Checked first, so that everything written before the folder is removed is read after this.
            let there = identity(self.directory.path()).is_ok_and(|now| now == self.folder);
            let events = if there { self.reader.read()? } else { self.reader.read_last()? };
            if !events.is_empty() {
                return Ok(Some(events));
            }
            if !there {
                return Ok(None);
            }
            let mut ready = self.events.readable().await?;
            match ready.get_inner().0.read_events() {
                Ok(_) => {}
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn identity(folder: &Path) -> io::Result<(u64, u64)> {
    let there = fs::metadata(folder)?;
    Ok((there.dev(), there.ino()))
}
