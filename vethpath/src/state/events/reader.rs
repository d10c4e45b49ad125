//! Reads events, from the oldest that is kept, across rotations of the file.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use super::{
    Event,
    file::{EventFile, same},
};
use crate::state::Directory;

/// Reads each of a lab's events once.
pub struct Reader {
    files: EventFile,
    /// The file that is being read.
    open: Option<File>,
    /// The part of a line whose end was not read yet.
    half: Vec<u8>,
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
        Self { files: EventFile::in_folder(folder), open: None, half: Vec::new(), before: None }
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
            self.half.clear();
        }
    }

    /// Reads the rest of the open file after the lab's folder was removed.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn read_last(&mut self) -> io::Result<Vec<Event>> {
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
        if reading.as_ref().is_some_and(|reading| same(reading, &now)) {
            return Ok(None);
        }
        // The older file comes first, unless it was read. `current` was opened before it, so it is that file's
        // successor, or the same file if it was rotated in between.
        let was_read = |old: &fs::Metadata| {
            same(old, &now)
                || self.before == Some(old.ino())
                || reading.as_ref().is_some_and(|reading| same(reading, old))
        };
        match open(&self.files.old)? {
            Some(old) if !was_read(&old.metadata()?) => Ok(Some(old)),
            _ => Ok(Some(current)),
        }
    }

    fn rest(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let Some(file) = &self.open else { return Ok(()) };
        let _ = BufReader::new(file).read_to_end(&mut self.half)?;
        let Some(end) = self.half.iter().rposition(|&byte| byte == b'\n') else { return Ok(()) };
        let lines = self.half[..end].split(|&byte| byte == b'\n');
        events.extend(lines.filter_map(|line| serde_json::from_slice::<Event>(line).ok()));
        self.half.drain(..=end);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
