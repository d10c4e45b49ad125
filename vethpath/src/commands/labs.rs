//! Finds the lab of a command: by name, by file, or the only one that is up.

use std::{
    fs::OpenOptions,
    io::{self, IsTerminal, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::Failure;
use crate::{
    apply,
    kernel::home::{Home, Intent, Obstacle},
    state::{self, Directory, History, Record},
    topology::{LONGEST_FILE, LabName, Overrides, Source, Topology, check_with},
};

/// Reads and checks a topology file.
pub fn topology(file: &Path, overrides: Overrides) -> Result<Topology, Failure> {
    checked(file, overrides, false)
}

/// Reads and checks a topology file, and prints warnings to stderr.
pub fn topology_with_warnings(file: &Path, overrides: Overrides) -> Result<Topology, Failure> {
    checked(file, overrides, true)
}

fn checked(file: &Path, overrides: Overrides, warn: bool) -> Result<Topology, Failure> {
    let path = file.display().to_string();
    let text = read_text(file)?;
    let source = Source { path: &path, text: &text };
    let color = io::stderr().is_terminal();
    let checked = check_with(source, stem(file).as_deref(), overrides)
        .map_err(|faults| Failure::rendered(faults.render(source, color)))?;
    if warn && !checked.warnings.faults.is_empty() {
        // A closed stderr does not affect the lab.
        let _ = writeln!(io::stderr().lock(), "{}", checked.warnings.render(source, color));
    }
    Ok(checked.topology)
}

/// The default name of a lab whose file has none.
pub fn stem(file: &Path) -> Option<String> {
    file.file_stem().map(|stem| stem.to_string_lossy().into_owned())
}

/// Reads a file of unknown type. Never blocks on a FIFO or device, and never reads more than the limit.
pub fn read_text(file: &Path) -> Result<String, Failure> {
    let path = file.display();
    let unreadable = |error: io::Error| {
        Failure::request(format!("cannot read {path}: {error}"))
            .hint("pass the path of a topology file (see `examples/`)")
    };
    let open =
        OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY).open(file);
    let open = open.map_err(unreadable)?;
    if !open.metadata().map_err(unreadable)?.is_file() {
        return Err(Failure::request(format!("cannot read {path}: it is not a regular file"))
            .hint("write the topology to a file and give its path (see `examples/`)"));
    }
    let mut bytes = Vec::new();
    let _ = open.take(LONGEST_FILE as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > LONGEST_FILE {
        let message = format!("cannot read {path}: it is longer than {LONGEST_FILE} bytes");
        return Err(Failure::request(message).hint("split the lab in two"));
    }
    String::from_utf8(bytes).map_err(|error| unreadable(io::Error::new(io::ErrorKind::InvalidData, error)))
}

/// The lab that the user specified, and its topology if a file was given.
pub fn named(lab: Option<&str>) -> Result<(LabName, Option<Topology>), Failure> {
    let Some(text) = lab else { return Ok((only_one()?, None)) };
    let looks_like_file = text.contains('/') || text.ends_with(".toml");
    if looks_like_file {
        let topology = topology(Path::new(text), Overrides::default())?;
        return Ok((topology.lab.clone(), Some(topology)));
    }
    let name = text
        .parse()
        .map_err(|error| Failure::request(format!("{error}")).hint("pass the name or the file of a lab"))?;
    Ok((name, None))
}

/// The record of the lab that the user specified, which must be up. Moves this process to the lab's namespaces.
pub fn record(lab: Option<&str>) -> Result<Record, Failure> {
    let (name, _) = named(lab)?;
    let record = record_of(&name)?;
    enter(&name, Intent::Read)?;
    Ok(record)
}

/// The record of a lab, which must be up.
pub fn record_of(name: &LabName) -> Result<Record, Failure> {
    Record::of_lab(&Directory::of(name))?.ok_or_else(|| apply::Error::NoLab(name.clone()).into())
}

/// A lab, and its record or why that cannot be read.
pub type Found = (LabName, Result<Record, state::Error>);

/// The records of all labs that are up. A record that cannot be read does not affect the others.
pub fn all() -> Result<Vec<Found>, Failure> {
    let read = |name: LabName| {
        let record = Record::of_lab(&Directory::of(&name)).transpose()?;
        Some((name, record))
    };
    Ok(names()?.into_iter().filter_map(read).collect())
}

/// Moves this thread to the namespaces of a lab for good, if the lab is elsewhere. Returns whether it did. For a lab
/// that is not up nothing is done.
pub fn enter(lab: &LabName, intent: Intent) -> Result<bool, Failure> {
    let directory = Directory::of(lab);
    if !directory.exists() {
        return Ok(false);
    }
    let Some(route) = Record::route(home(&directory)?.as_ref(), &directory)? else { return Ok(false) };
    let is_moved = route.leads_elsewhere();
    match route.obstacle(intent) {
        None => route.follow()?,
        // `down` removes what is left of the lab, and other commands report its state.
        Some(Obstacle::NetnsGone | Obstacle::MountsGone) if intent == Intent::Change => route.follow()?,
        obstacle => return Err(apply::Error::Elsewhere { lab: lab.clone(), obstacle }.into()),
    }
    Ok(is_moved)
}

/// The namespaces of a lab, from its record or the newest readable one.
fn home(directory: &Directory) -> Result<Option<Home>, state::Error> {
    match Record::read_home(directory) {
        Err(state::Error::Journal { .. } | state::Error::Version { .. }) => {
            Ok(History::salvage(directory).into_iter().rev().find_map(|record| record.home))
        }
        home => home,
    }
}

/// Whether a lab is in other namespaces, as far as that can be determined.
pub fn is_elsewhere(lab: &LabName) -> bool {
    let directory = Directory::of(lab);
    let home = home(&directory).ok().flatten();
    matches!(Record::route(home.as_ref(), &directory), Ok(Some(route)) if !route.is_here())
}

/// The names of all labs that are up. Only root can read their state.
pub fn names() -> Result<Vec<LabName>, Failure> {
    state::known_labs().map_err(|error| Failure::from(error).hint("run vethpath as root"))
}

fn only_one() -> Result<LabName, Failure> {
    let names = names()?;
    match <[LabName; 1]>::try_from(names) {
        Ok([name]) => Ok(name),
        Err(names) if names.is_empty() => {
            Err(Failure::request("no lab is up").hint("`vethpath up FILE` brings one up"))
        }
        Err(names) => {
            let list: Vec<_> = names.iter().map(LabName::as_str).collect();
            Err(Failure::request(format!("{} labs are up: {}", names.len(), list.join(", ")))
                .hint("give the name of one"))
        }
    }
}
