//! The journal: first the record of what the lab is, then each step before it is done.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
};

use serde::{Deserialize, Serialize};

use super::{Context, Directory, Error, Result};
use crate::{
    datapath::Hook,
    topology::{NsName, Topology},
};

/// Version of the record below.
const VERSION: u32 = 1;

/// Begins the line about an adopted namespace.
const ADOPTED: &str = "adopted";

/// What a lab is. Every name in the kernel follows from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// The topology that it was brought up from.
    pub topology: Topology,
    /// How its programs are attached.
    pub hook: Hook,
}

impl Record {
    /// The record of a lab that is to be.
    #[must_use]
    pub fn new(topology: Topology, hook: Hook) -> Self {
        Self { version: VERSION, topology, hook }
    }

    /// Reads the record of a lab; `None` if the lab has no journal.
    ///
    /// # Errors
    /// The journal cannot be read, or is of another version.
    pub fn read(directory: &Directory) -> Result<Option<Self>> {
        let path = directory.journal();
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.doing("open", &path)?,
        };
        let mut first = String::new();
        BufReader::new(file).read_line(&mut first).doing("read", &path)?;
        if !first.ends_with('\n') {
            // Killed while the record was written: nothing had been done yet.
            return Ok(None);
        }
        let broken = |cause: String| Error::Journal { path: path.display().to_string(), cause };
        let record: Self = serde_json::from_str(&first).map_err(|error| broken(error.to_string()))?;
        if record.version != VERSION {
            return Err(broken(format!(
                "it is of version {}, and this vethpath writes {VERSION}",
                record.version
            )));
        }
        Ok(Some(record))
    }
}

/// The journal, open for writing.
pub struct Journal {
    file: File,
    directory: Directory,
}

impl Journal {
    /// Starts the journal of a lab, or goes on with one that has the same record.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(directory: &Directory, record: &Record) -> Result<Self> {
        let path = directory.journal();
        let started = Record::read(directory)?.is_some();
        let mut options = OpenOptions::new();
        options.mode(0o600).create(true).append(started).write(true).truncate(!started);
        let file = options.open(&path).doing("open", &path)?;
        let mut journal = Self { file, directory: directory.clone() };
        if !started {
            let line = serde_json::to_string(record).map_err(|error| Error::Journal {
                path: path.display().to_string(),
                cause: error.to_string(),
            })?;
            journal.line(&line)?;
        }
        Ok(journal)
    }

    /// Writes down a step, before it is done.
    ///
    /// # Errors
    /// The file system refuses; then the step must not be done.
    pub fn note(&mut self, step: &str) -> Result<()> {
        self.line(step)
    }

    /// Writes down which namespace is to be adopted under a name.
    ///
    /// # Errors
    /// The file system refuses; then it must not be adopted.
    pub fn note_adopted(&mut self, name: &NsName, inode: u64) -> Result<()> {
        self.line(&format!("{ADOPTED} {name} {inode}"))
    }

    /// One line, in one write: a kill leaves it whole or not there.
    fn line(&mut self, text: &str) -> Result<()> {
        self.file.write_all(format!("{text}\n").as_bytes()).doing("write", &self.directory.journal())
    }
}

/// The inode of the namespace that was last adopted under `name`, if any was.
///
/// # Errors
/// The journal is there and cannot be read.
pub fn adopted(directory: &Directory, name: &NsName) -> Result<Option<u64>> {
    let path = directory.journal();
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        text => Ok(last_adopted(&text.doing("read", &path)?, name)),
    }
}

fn last_adopted(journal: &str, name: &NsName) -> Option<u64> {
    let inode = |line: &str| {
        let mut words = line.split(' ');
        let about = words.next() == Some(ADOPTED) && words.next() == Some(name.as_str());
        if about { words.next()?.parse().ok() } else { None }
    };
    journal.lines().rev().find_map(inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_adoption_under_a_name_counts() {
        let name = |text: &str| text.parse::<NsName>().expect("a name");
        let journal =
            "{}\ncreate namespace a\nadopted a 1\nadopted ab 2\nadopted a 3\nadopted b x\ncreate pair a:e\n";
        assert_eq!(last_adopted(journal, &name("a")), Some(3));
        assert_eq!(last_adopted(journal, &name("ab")), Some(2));
        assert_eq!(last_adopted(journal, &name("b")), None);
    }
}
