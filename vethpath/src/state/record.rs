//! The record of a lab, and its former topologies: the lines of the journal that describe the lab.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::fs::MetadataExt,
};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::{AgentLock, Directory, Error, Result};
use crate::{
    datapath::Hook,
    kernel::{
        self, Context, LinkFacts, NetnsId, files,
        home::{Home, HomeAccess},
    },
    plan::is_ours,
    topology::{IfName, LabName, Topology},
};

/// The format version of [`Record`].
const VERSION: u32 = 2;

/// The size limit of a record in bytes, many times what the longest topology file needs.
const MOST_RECORD: u64 = 64 << 20;

/// The size limit of a journal in bytes: room for the steps of many thousand runs.
pub(super) const MOST_BYTES: u64 = 256 << 20;

/// The bytes of a journal that are read at once. The record of a lab of 1,000 pairs has 350 kB.
const AT_ONCE: usize = 64 << 10;

/// The description of a lab. Every name in the kernel follows from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// The topology that it was brought up from.
    pub topology: Topology,
    /// How its programs are attached.
    pub hook: Hook,
    /// Where it was brought up; `None` in records of former versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<Home>,
    /// Where the bridges are that it adopts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adopted: Vec<AdoptedAt>,
}

/// A bridge of another program, by its name in a network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedAt {
    /// Its name.
    pub bridge: IfName,
    /// The namespace.
    pub netns: NetnsId,
}

/// The record of a lab, and the former topologies of which objects may be left.
#[derive(Clone, Debug)]
pub struct History {
    /// The present record, or that of the state being brought up.
    pub record: Record,
    /// The topologies of which objects may be left, oldest first.
    pub former: Vec<Topology>,
}

/// What changes with the contents of a journal: device, inode, length, and time of change in seconds and nanoseconds.
pub type JournalStamp = (u64, u64, u64, i64, i64);

impl Record {
    /// The stamp of a lab's journal, `None` if it cannot be read. Taken before the record is read, it shows later whether
    /// that is still the lab's record.
    #[must_use]
    pub fn stamp(directory: &Directory) -> Option<JournalStamp> {
        let file = fs::metadata(directory.journal()).ok()?;
        Some((file.dev(), file.ino(), file.len(), file.ctime(), file.ctime_nsec()))
    }

    /// The record of a new lab in the calling thread's namespaces.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn new(topology: Topology, hook: Hook) -> kernel::Result<Self> {
        Self { version: VERSION, topology, hook, home: None, adopted: Vec::new() }.here()
    }

    /// The same record for a lab in the calling thread's namespaces.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn here(self) -> kernel::Result<Self> {
        Ok(Self { home: Some(Home::current()?), ..self })
    }

    /// Whether the former version of vethpath wrote it. A live agent of the lab is of that version too.
    #[must_use]
    pub fn is_former(&self) -> bool {
        self.home.is_none()
    }

    /// Checks that it can be written and read again.
    ///
    /// # Errors
    /// It is longer than the limit for a line of a journal ([`Error::TooLarge`]).
    pub fn check_size(&self) -> Result<()> {
        /// A writer that counts down its remaining bytes.
        struct Room(u64);
        impl Write for Room {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len() as u64).ok_or(ErrorKind::FileTooLarge)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        // Leaves room for the newline.
        let too_large = |_| Error::TooLarge { lab: self.topology.lab.clone(), most: MOST_RECORD };
        serde_json::to_writer(Room(MOST_RECORD - 2), self).map_err(too_large)
    }

    /// How to reach the namespaces of the lab; `None` if nothing shows where they are. For a record without a home,
    /// these are the agent's namespaces or, without an agent, those where links carry the lab's mark.
    ///
    /// # Errors
    /// A file operation fails, also on `/proc`.
    pub fn route(home: Option<&Home>, directory: &Directory) -> Result<Option<HomeAccess>> {
        let (agent, has_agent) = (AgentLock::process(directory)?, AgentLock::holder(directory)?.is_some());
        let agent = agent.map(Pid::as_raw);
        let is_of_lab = |link: &LinkFacts| is_ours(link.alias.as_deref(), directory.lab());
        let find = || match (home, agent) {
            (Some(home), _) => home.route(agent).map(Some),
            (None, Some(agent)) => Home::of_process(agent)
                .map_or_else(|_| Ok(HomeAccess::unreachable()), |home| home.route(Some(agent)))
                .map(Some),
            // An agent without a pid here is in a PID namespace that is not visible.
            (None, None) if has_agent => Ok(Some(HomeAccess::unreachable())),
            (None, None) => Home::guess(is_of_lab)?.map(|home| home.route(None)).transpose(),
        };
        let route = find().map_err(std::io::Error::other);
        let route = route.doing("find the namespaces of", directory.path().display())?;
        Ok(if has_agent { route } else { route.map(HomeAccess::without_agent) })
    }

    /// Reads only the home from a lab's record; `None` if there is no journal, or the record has no home.
    ///
    /// # Errors
    /// As [`History::read`].
    pub fn read_home(directory: &Directory) -> Result<Option<Home>> {
        let Some((number, line)) = record_lines(directory)?.pop() else { return Ok(None) };
        let part = Part::parse(&line);
        let part = part.map_err(|error| BadRecord::Malformed(error.to_string()).at(number, directory))?;
        if &part.topology.lab != directory.lab() {
            return Err(BadRecord::OtherLab(part.topology.lab).at(number, directory));
        }
        Ok(part.home)
    }

    /// Reads the record of a lab; `None` if there is no journal, or no record in it.
    ///
    /// # Errors
    /// The journal cannot be read, has a damaged record, or has another version.
    pub fn read(directory: &Directory) -> Result<Option<Self>> {
        Ok(History::read(directory)?.map(|history| history.record))
    }

    /// Reads the record of a lab that may be up; `None` if it is not.
    ///
    /// # Errors
    /// As [`Record::read`], or the record is lost ([`Error::Journal`]).
    pub fn of_lab(directory: &Directory) -> Result<Option<Self>> {
        match Self::read(directory)? {
            None if directory.has_traces() => Err(Error::lost_record(directory)),
            read => Ok(read),
        }
    }

    /// Parses a record from a line of a lab's journal.
    fn of_line(line: &[u8], directory: &Directory) -> std::result::Result<Self, BadRecord> {
        match Self::parse(line)? {
            other if &other.topology.lab != directory.lab() => Err(BadRecord::OtherLab(other.topology.lab)),
            record => Ok(record),
        }
    }

    /// Parses a record from a line of any journal.
    pub(crate) fn parse(line: &[u8]) -> std::result::Result<Self, BadRecord> {
        /// The field that records of all versions have.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let record = serde_json::from_slice::<Self>(line);
        // A large record takes milliseconds: it is read once more only if that may explain the error.
        let version = match &record {
            Ok(record) => record.version,
            Err(_) => serde_json::from_slice(line).map_or(VERSION, |Versioned { version }| version),
        };
        match record {
            _ if version != VERSION => Err(BadRecord::Version(version)),
            record => record.map_err(|error| BadRecord::Malformed(error.to_string())),
        }
    }
}

/// The part of a record with the lab's home and name.
#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    home: Option<Home>,
    topology: Named,
}

#[derive(Deserialize)]
struct Named {
    lab: LabName,
}

impl Part {
    fn parse(line: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(line)
    }
}

/// Whether a line is the record of another lab.
pub(super) fn is_of_other_lab(line: &[u8], directory: &Directory) -> bool {
    Part::parse(line).is_ok_and(|part| &part.topology.lab != directory.lab())
}

/// Why a line of the journal is not a record of this lab.
#[derive(Debug)]
pub(crate) enum BadRecord {
    /// It has this other version.
    Version(u32),
    /// It belongs to this other lab.
    OtherLab(LabName),
    /// It cannot be parsed.
    Malformed(String),
}

impl BadRecord {
    fn at(self, line: usize, directory: &Directory) -> Error {
        let cause = match self {
            Self::Version(found) => {
                let path = directory.journal().display().to_string();
                return Error::Version { lab: directory.lab().clone(), path, found, ours: VERSION };
            }
            Self::OtherLab(lab) => format!("it is the record of lab `{lab}`"),
            Self::Malformed(cause) => cause,
        };
        Error::journal(directory, format!("line {line}: {cause}"))
    }
}

impl History {
    /// Reads the records of a lab; `None` if there is no journal, or if the first record was not written completely.
    /// Nothing had been done then. A damaged line that is not a record is skipped.
    ///
    /// # Errors
    /// The journal cannot be read, has a damaged record, or has another version.
    pub fn read(directory: &Directory) -> Result<Option<Self>> {
        let mut records = Vec::new();
        for (number, line) in record_lines(directory)? {
            records.push(Record::of_line(&line, directory).map_err(|bad| bad.at(number, directory))?);
        }
        let Some(record) = records.pop() else { return Ok(None) };
        let former = records.into_iter().map(|record| record.topology).collect();
        Ok(Some(Self { record, former }))
    }

    /// The readable records of a damaged journal, oldest first.
    #[must_use]
    pub fn salvage(directory: &Directory) -> Vec<Record> {
        let lines = record_lines(directory).unwrap_or_default();
        lines.iter().filter_map(|(_, line)| Record::of_line(line, directory).ok()).collect()
    }

    /// All topologies, oldest first.
    pub fn topologies(&self) -> impl Iterator<Item = &Topology> {
        self.former.iter().chain([&self.record.topology])
    }
}

/// The lines of a journal that should be records, with their numbers: the first line, and those that begin with `{`.
fn record_lines(directory: &Directory) -> Result<Vec<(usize, Vec<u8>)>> {
    let path = directory.journal();
    let Some(file) = open_journal(directory)? else { return Ok(Vec::new()) };
    let mut reader = BufReader::with_capacity(AT_ONCE, file.take(MOST_BYTES));
    let mut records = Vec::new();
    for number in 1.. {
        let mut line = Vec::new();
        let length = reader.by_ref().take(MOST_RECORD).read_until(b'\n', &mut line);
        let length = length.doing("read", path.display())?;
        if length as u64 == MOST_RECORD {
            let cause = format!("line {number} is longer than {MOST_RECORD} bytes");
            return Err(Error::journal(directory, cause));
        }
        if !line.ends_with(b"\n") {
            break;
        }
        if number == 1 || line.starts_with(b"{") {
            records.push((number, line));
        }
    }
    Ok(records)
}

/// Opens the journal for reading, if only root can have written it.
pub(super) fn open_journal(directory: &Directory) -> Result<Option<File>> {
    directory.check()?;
    let path = directory.journal();
    match files::open_private(OpenOptions::new().read(true), &path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        // A folder, a symbolic link or a FIFO is in its place: the journal is lost.
        Err(error) if files::is_not_a_file(&error) => Err(Error::journal(directory, error.to_string())),
        other => Ok(Some(other.doing("open", path.display())?)),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;
    use crate::{
        state::Saved,
        topology::{Source, read},
    };

    #[test]
    fn a_damaged_step_is_passed_over_and_a_damaged_record_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::stand_in(folder.path());
        let topology = read(Source { path: "lab.toml", text: "[bridge.br0]\n" }, Some("lab")).unwrap();
        let record = serde_json::to_string(&Record::new(topology, Hook::Tcx).unwrap()).unwrap();
        let journal = |lines: &[&[u8]]| {
            fs::write(directory.journal(), [lines.join(&b'\n'), b"\n".to_vec()].concat()).unwrap();
            History::read(&directory)
        };
        let step = b"create bridge br0".as_slice();
        assert!(journal(&[record.as_bytes(), step, b"x", b"\xff"]).unwrap().is_some());
        assert_eq!(Saved::read(&directory).unwrap().adopted, BTreeMap::new());
        for bad in [&[b"x\xff".as_slice(), record.as_bytes()][..], &[record.as_bytes(), b"{\xff"]] {
            let error = journal(bad).unwrap_err();
            assert!(matches!(&error, Error::Journal { .. }), "{error}");
            assert!(error.hint().unwrap().contains("vethpath down lab"), "{error}");
            assert_eq!(History::salvage(&directory).len(), 1);
        }
        let others = record.replace("\"lab\":\"lab\"", "\"lab\":\"another\"");
        let error = journal(&[others.as_bytes()]).unwrap_err();
        assert!(error.to_string().contains("line 1: it is the record of lab `another`"), "{error}");
        assert!(Record::read_home(&directory).is_err() && History::salvage(&directory).is_empty());
        journal(&[others.as_bytes(), b"made h0 4026532500 7"]).unwrap_err();
        assert!(Saved::read(&directory).unwrap().made.is_empty(), "the other lab has made it");
        let other = record.replace("\"version\":2", "\"version\":3");
        assert!(matches!(journal(&[other.as_bytes()]), Err(Error::Version { found: 3, .. })));
    }

    /// The former format had no home.
    #[test]
    fn a_record_tells_where_the_lab_lives_if_it_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::stand_in(folder.path());
        let topology = read(Source { path: "lab.toml", text: "[bridge.br0]\n" }, Some("lab")).unwrap();
        let here = Record::new(topology, Hook::Tcx).unwrap();
        for record in [Record { home: None, ..here.clone() }, here] {
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(text.contains("\"home\""), record.home.is_some(), "{text}");
            fs::write(directory.journal(), text + "\n").unwrap();
            assert_eq!(Record::read_home(&directory).unwrap(), record.home);
            assert_eq!(Record::read(&directory).unwrap(), Some(record));
        }
    }
}
