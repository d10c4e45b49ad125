//! Reads events, from the oldest that is kept, across rotations of the file. A follower waits for new ones: inotify
//! reports when there is something to read.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
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

use super::{
    Event,
    recorder::{EventFile, is_same},
};
use crate::state::{Directory, ROOT};

/// Reads each of a lab's events once.
pub struct Reader {
    files: EventFile,
    /// The file that is being read.
    open: Option<File>,
    /// The part of a line whose end was not read yet.
    partial: Vec<u8>,
    /// The inode of the file that was read before.
    before: Option<u64>,
}

impl Reader {
    /// A reader that has read nothing yet.
    #[must_use]
    pub fn of(directory: &Directory) -> Self {
        Self::in_folder(directory.path())
    }

    pub(super) fn in_folder(folder: &Path) -> Self {
        Self { files: EventFile::in_folder(folder), open: None, partial: Vec::new(), before: None }
    }

    /// Returns all events since the last call. A line that is no event is skipped.
    ///
    /// # Errors
    /// A file exists and cannot be read.
    pub fn read(&mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        loop {
            // Opened first: the file before it is no longer written, so it can be read to its end.
            let next = self.next_file()?;
            self.rest(&mut events)?;
            let Some(next) = next else { return Ok(events) };
            self.before = self.open.replace(next).and_then(|last| Some(last.metadata().ok()?.ino()));
            self.partial.clear();
        }
    }

    /// Reads the rest of the open file after the lab's folder was removed.
    ///
    /// # Errors
    /// The file cannot be read.
    fn read_last(&mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        self.rest(&mut events)?;
        Ok(events)
    }

    /// The file after the one that is being read; `None` if that is the last.
    fn next_file(&self) -> io::Result<Option<File>> {
        let Some(current) = open(&self.files.current)? else {
            // There is no file, or a process was killed between rotating it and creating the new one.
            return if self.open.is_none() { open(&self.files.old) } else { Ok(None) };
        };
        let now = current.metadata()?;
        let reading = self.open.as_ref().map(File::metadata).transpose()?;
        if reading.as_ref().is_some_and(|reading| is_same(reading, &now)) {
            return Ok(None);
        }
        // The older file comes first, unless it was read. `current` was opened before it, so it is that file's
        // successor, or the same file if it was rotated in between.
        let was_read = |old: &fs::Metadata| {
            is_same(old, &now)
                || self.before == Some(old.ino())
                || reading.as_ref().is_some_and(|reading| is_same(reading, old))
        };
        match open(&self.files.old)? {
            Some(old) if !was_read(&old.metadata()?) => Ok(Some(old)),
            _ => Ok(Some(current)),
        }
    }

    fn rest(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let Some(file) = &self.open else { return Ok(()) };
        let _ = BufReader::new(file).read_to_end(&mut self.partial)?;
        let Some(end) = self.partial.iter().rposition(|&byte| byte == b'\n') else { return Ok(()) };
        let lines = self.partial[..end].split(|&byte| byte == b'\n');
        events.extend(lines.filter_map(|line| serde_json::from_slice::<Event>(line).ok()));
        self.partial.drain(..=end);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

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
