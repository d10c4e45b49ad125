//! The journal: first the record of what the lab is, then each step before it is done.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, ErrorKind, Read, Write},
};

use serde::{Deserialize, Serialize};

use super::{Context, Directory, Error, Result};
use crate::{
    datapath::Hook,
    kernel::{bounded, private},
    topology::{NsName, Topology},
};

/// Version of the record below.
const VERSION: u32 = 1;

/// The most bytes of a record: many times what the longest topology file becomes.
const MOST_RECORD: u64 = 64 << 20;

/// The most bytes of a journal: room for the steps of many thousand runs.
const MOST_BYTES: u64 = 256 << 20;

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
        let Some(file) = open(directory)? else { return Ok(None) };
        let broken = |cause: String| Error::Journal { path: path.display().to_string(), cause };
        let mut first = String::new();
        let length =
            BufReader::new(file.take(MOST_RECORD)).read_line(&mut first).doing("read", &path)? as u64;
        if length == MOST_RECORD {
            return Err(broken(format!("its first line is longer than {MOST_RECORD} bytes")));
        }
        if !first.ends_with('\n') {
            // Killed while the record was written: nothing had been done yet.
            return Ok(None);
        }
        Self::parse(&first).map(Some).map_err(broken)
    }

    /// A record from the journal's first line, or what is wrong with it.
    pub(crate) fn parse(line: &str) -> std::result::Result<Self, String> {
        let record: Self = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if record.version != VERSION {
            return Err(format!("it is of version {}, and this vethpath writes {VERSION}", record.version));
        }
        Ok(record)
    }
}

/// The journal, open for reading, if only root can have written it.
fn open(directory: &Directory) -> Result<Option<File>> {
    directory.check()?;
    let path = directory.journal();
    match private::open(OpenOptions::new().read(true), &path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.doing("open", &path).map(Some),
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
        options.create(true).append(started).write(true).truncate(!started);
        let file = private::open(&mut options, &path).doing("open", &path)?;
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
    Ok(text(directory)?.and_then(|text| last_adopted(&text, name)))
}

/// All of the journal; `None` if there is none.
pub(super) fn text(directory: &Directory) -> Result<Option<String>> {
    let path = directory.journal();
    let Some(file) = open(directory)? else { return Ok(None) };
    bounded::read_from(&file, MOST_BYTES).doing("read", &path).map(Some)
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
