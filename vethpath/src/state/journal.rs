//! The journal: first the record of what the lab is, then each step before it is done.
//!
//! A lab that is to become another gets the record of that before anything is changed: until all is
//! done the journal has both, and what there may be follows from either. When all is done it is
//! written anew, with the last record alone.

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write},
};

use serde::{Deserialize, Serialize};

use super::{Context, Directory, Error, Offloads, Result, offloads, stop};
use crate::{
    datapath::Hook,
    kernel::{bounded, private},
    topology::{Datapath, IfName, NsName, Place, Sysctl, SysctlKey, Topology},
};

/// Version of the record below.
const VERSION: u32 = 2;

/// The most bytes of a record: many times what the longest topology file becomes.
const MOST_RECORD: u64 = 64 << 20;

/// The most bytes of a journal: room for the steps of many thousand runs.
const MOST_BYTES: u64 = 256 << 20;

/// Begins the line about an adopted namespace.
const ADOPTED: &str = "adopted";

/// Begins the line about what a setting was before the lab changed it.
const WAS: &str = "was";

/// What a lab is. Every name in the kernel follows from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// The topology that it was brought up from.
    pub topology: Topology,
    /// How its programs are attached.
    pub hook: Hook,
}

/// What a lab is, and what there may still be of what it was.
#[derive(Clone, Debug)]
pub struct History {
    /// What it is, or is to become.
    pub record: Record,
    /// What it was while there may be something left of that, oldest first.
    pub former: Vec<Topology>,
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
        Ok(History::read(directory)?.map(|history| history.record))
    }

    /// A record from a line of the journal, or what is wrong with it.
    pub(crate) fn parse(line: &str) -> std::result::Result<Self, String> {
        let record: Self = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if record.version != VERSION {
            return Err(format!("it is of version {}, and this vethpath writes {VERSION}", record.version));
        }
        Ok(record)
    }
}

impl History {
    /// Reads the records of a lab; `None` if the lab has no journal, or was killed while it wrote the
    /// first: then nothing had been done.
    ///
    /// # Errors
    /// The journal cannot be read, or is of another version.
    pub fn read(directory: &Directory) -> Result<Option<Self>> {
        let path = directory.journal();
        let Some(file) = open(directory)? else { return Ok(None) };
        let broken = |cause: String| Error::Journal { path: path.display().to_string(), cause };
        let mut reader = BufReader::new(file.take(MOST_BYTES));
        let mut records = Vec::new();
        let mut line = String::new();
        loop {
            line.clear();
            let length = reader.by_ref().take(MOST_RECORD).read_line(&mut line).doing("read", &path)? as u64;
            if length == MOST_RECORD {
                return Err(broken(format!("it has a line longer than {MOST_RECORD} bytes")));
            }
            if !line.ends_with('\n') {
                break;
            }
            // The first line is a record; what begins otherwise further on is a step.
            if records.is_empty() || line.starts_with('{') {
                records.push(Record::parse(&line).map_err(broken)?);
            }
        }
        let Some(record) = records.pop() else { return Ok(None) };
        let former = records.into_iter().map(|record| record.topology).collect();
        Ok(Some(Self { record, former }))
    }

    /// All topologies, oldest first.
    pub fn topologies(&self) -> impl Iterator<Item = &Topology> {
        self.former.iter().chain([&self.record.topology])
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
    /// Starts the journal of a lab; or goes on with one, in which `record` is then the last.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(directory: &Directory, record: &Record) -> Result<Self> {
        let history = History::read(directory)?;
        let mut journal = Self::go_on(directory, history.is_some())?;
        if history.is_none_or(|history| &history.record != record) {
            journal.line(&text(directory, record)?)?;
        }
        Ok(journal)
    }

    /// Goes on with the journal of a lab that is to be taken down; starts one if it is lost.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn go_on(directory: &Directory, is_started: bool) -> Result<Self> {
        let path = directory.journal();
        let mut options = OpenOptions::new();
        options.create(true).read(true).append(is_started).write(true).truncate(!is_started);
        let mut file = private::open(&mut options, &path).doing("open", &path)?;
        cut_torn_line(&mut file).doing("mend", &path)?;
        Ok(Self { file, directory: directory.clone() })
    }

    /// Writes down a step, before it is done.
    ///
    /// # Errors
    /// The file system refuses; then the step must not be done.
    pub fn note(&mut self, step: &str) -> Result<()> {
        self.line(step)
    }

    /// Writes down steps that are done together, before they are.
    ///
    /// # Errors
    /// As [`Journal::note`].
    pub fn note_all(&mut self, steps: impl Iterator<Item = impl Display>) -> Result<()> {
        let lines: Vec<String> = steps.map(|step| step.to_string()).collect();
        if lines.is_empty() { Ok(()) } else { self.line(&lines.join("\n")) }
    }

    /// Writes down which namespace is to be adopted under a name.
    ///
    /// # Errors
    /// The file system refuses; then it must not be adopted.
    pub fn note_adopted(&mut self, name: &NsName, inode: u64) -> Result<()> {
        self.line(&format!("{ADOPTED} {name} {inode}"))
    }

    /// Writes down what a setting is before it is changed for the first time.
    ///
    /// # Errors
    /// The file system refuses; then it must not be changed.
    pub fn note_was(&mut self, place: &Place, setting: &Sysctl) -> Result<()> {
        self.line(&was_line(place, &setting.key, &setting.value))
    }

    /// Writes the journal anew: the lab is what `record` says, and nothing is left of what it was.
    ///
    /// # Errors
    /// The file system refuses; then the old journal stays.
    pub fn settle(&mut self, record: &Record) -> Result<()> {
        let facts = Facts::read(&self.directory)?;
        let mut lines = text(&self.directory, record)? + "\n";
        for namespace in &record.topology.namespaces {
            let inode = facts.adopted.get(namespace.name.as_str()).filter(|_| namespace.adopt.is_some());
            lines.extend(inode.map(|inode| format!("{ADOPTED} {} {inode}\n", namespace.name)));
        }
        let is_kept = |place: &Place| match place {
            Place::Host => true,
            Place::Namespace(name) => record.topology.namespaces.iter().any(|one| &one.name == name),
        };
        for ((place, key), value) in facts.was.iter().filter(|((place, _), _)| is_kept(place)) {
            lines += &(was_line(place, key, value) + "\n");
        }
        for pair in record.topology.pairs.iter().filter(|pair| pair.datapath == Datapath::Xdp) {
            let offloads = facts.offloads.get(&(pair.namespace.clone(), pair.inner.name.clone()));
            lines.extend(offloads.map(|offloads| format!("{offloads}\n")));
        }
        let (path, new) = (self.directory.journal(), self.directory.new_journal());
        private::write(&new, lines.as_bytes()).doing("write", &new)?;
        stop::here_if_told();
        fs::rename(&new, &path).doing("replace", &path)?;
        self.file = private::open(OpenOptions::new().append(true), &path).doing("open", &path)?;
        stop::here_if_told();
        Ok(())
    }

    /// One line, or some, in one write: a kill leaves them whole, or without their end, which is then cut off.
    fn line(&mut self, text: &str) -> Result<()> {
        self.file.write_all(format!("{text}\n").as_bytes()).doing("write", &self.directory.journal())?;
        stop::here_if_told();
        Ok(())
    }
}

fn text(directory: &Directory, record: &Record) -> Result<String> {
    serde_json::to_string(record).map_err(|error| Error::Journal {
        path: directory.journal().display().to_string(),
        cause: error.to_string(),
    })
}

fn was_line(place: &Place, key: &SysctlKey, value: &str) -> String {
    format!("{WAS} {place} {} {value}", key.path().join("/"))
}

/// Cuts off a last line that has no end: whatever it was about was not begun.
fn cut_torn_line(file: &mut File) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let length = file.seek(SeekFrom::End(0))?;
    // A whole journal ends with a newline: only a torn one is read.
    if length == 0 {
        return Ok(());
    }
    let _ = file.seek(SeekFrom::End(-1))?;
    let _ = file.read_to_end(&mut bytes)?;
    if bytes != b"\n" {
        let _ = file.seek(SeekFrom::Start(0))?;
        let _ = file.read_to_end(&mut bytes)?;
        let whole = bytes[1..].iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        file.set_len(whole as u64)?;
    }
    let _ = file.seek(SeekFrom::End(0))?;
    Ok(())
}

/// What a journal tells beside records and steps.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// By name, the inode of the namespace that was last adopted under it.
    pub adopted: BTreeMap<String, u64>,
    /// By place and setting, what it was before the lab changed it.
    pub was: BTreeMap<(Place, SysctlKey), String>,
    /// By inner end, offloads that are switched, each as it was before.
    pub offloads: BTreeMap<(NsName, IfName), Offloads>,
}

impl Facts {
    /// Reads the journal of a lab; there is nothing in one that is not there.
    ///
    /// # Errors
    /// The journal is there and cannot be read.
    pub fn read(directory: &Directory) -> Result<Self> {
        let path = directory.journal();
        let Some(file) = open(directory)? else { return Ok(Self::default()) };
        Ok(Self::parse(&bounded::read_from(&file, MOST_BYTES).doing("read", &path)?))
    }

    fn parse(journal: &str) -> Self {
        let mut facts = Self { offloads: offloads::all(journal), ..Self::default() };
        for line in journal.lines() {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some(ADOPTED), Some(name), Some(inode), None) => {
                    if let Ok(inode) = inode.parse() {
                        let _ = facts.adopted.insert(name.to_owned(), inode);
                    }
                }
                (Some(WAS), Some(name), Some(path), Some(value)) => {
                    let place = match name {
                        "host" => Some(Place::Host),
                        name => name.parse().ok().map(Place::Namespace),
                    };
                    if let (Some(place), Ok(key)) = (place, path.parse()) {
                        // The first time counts: later it was the lab that had set it.
                        let _ = facts.was.entry((place, key)).or_insert_with(|| value.to_owned());
                    }
                }
                _ => {}
            }
        }
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_adoption_under_a_name_counts() {
        let journal =
            "{}\ncreate namespace a\nadopted a 1\nadopted ab 2\nadopted a 3\nadopted b x\ncreate pair a:e\n";
        let adopted = Facts::parse(journal).adopted;
        assert_eq!((adopted.get("a"), adopted.get("ab"), adopted.get("b")), (Some(&3), Some(&2), None));
    }

    #[test]
    fn the_first_value_of_a_setting_is_what_it_was() {
        let journal = "was a net/ipv4/tcp_rmem 4096\t131072 6291456\nwas a net/ipv4/tcp_rmem 1 2 3\n\
            was host net/ipv4/conf/v.0/rp_filter 2\nwas a ../../etc/x 1\n";
        let was = Facts::parse(journal).was;
        let values: Vec<_> =
            was.iter().map(|((place, key), value)| format!("{place} {key} {value}")).collect();
        let expected = ["host net.ipv4.conf.v/0.rp_filter 2", "a net.ipv4.tcp_rmem 4096\t131072 6291456"];
        assert_eq!(values, expected);
    }

    #[test]
    fn a_line_without_its_end_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        for (before, after) in [("", ""), ("a\nb\n", "a\nb\n"), ("a\nb\nhalf", "a\nb\n"), ("half", "")] {
            fs::write(&path, before).unwrap();
            let mut file = OpenOptions::new().read(true).append(true).open(&path).unwrap();
            cut_torn_line(&mut file).unwrap();
            file.write_all(b"c\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{after}c\n"), "{before:?}");
        }
    }
}
