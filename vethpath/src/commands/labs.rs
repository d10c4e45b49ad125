//! Which lab a command is about: by name, by file, or the only one that is up.

use std::{
    fs::OpenOptions,
    io::{self, IsTerminal, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::Failure;
use crate::{
    apply,
    kernel::home::{Home, Obstacle},
    state::{self, Directory, History, Record},
    topology::{LONGEST_FILE, LabName, Source, Topology, check},
};

/// Reads and checks a topology file.
pub fn topology(file: &Path) -> Result<Topology, Failure> {
    checked(file, false)
}

/// The same, and says on stderr what of it may not be meant.
pub fn topology_with_warnings(file: &Path) -> Result<Topology, Failure> {
    checked(file, true)
}

fn checked(file: &Path, warn: bool) -> Result<Topology, Failure> {
    let path = file.display().to_string();
    let text = text(file)?;
    let source = Source { path: &path, text: &text };
    let color = io::stderr().is_terminal();
    let checked = check(source, stem(file).as_deref())
        .map_err(|faults| Failure::rendered(faults.render(source, color)))?;
    if warn && !checked.warnings.faults.is_empty() {
        // A closed stderr takes nothing away from the lab.
        let _ = writeln!(io::stderr().lock(), "{}", checked.warnings.render(source, color));
    }
    Ok(checked.topology)
}

/// What a lab is called whose file does not say.
pub fn stem(file: &Path) -> Option<String> {
    file.file_stem().map(|stem| stem.to_string_lossy().into_owned())
}

/// The text of a file that may turn out to be anything: never waits for a writer, never reads on
/// and on.
pub fn text(file: &Path) -> Result<String, Failure> {
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

/// The lab that the user means, and its topology if a file was given.
pub fn named(lab: Option<&str>) -> Result<(LabName, Option<Topology>), Failure> {
    let Some(text) = lab else { return Ok((only_one()?, None)) };
    let looks_like_file = text.contains('/') || text.ends_with(".toml");
    if looks_like_file {
        let topology = topology(Path::new(text))?;
        return Ok((topology.lab.clone(), Some(topology)));
    }
    let name = text
        .parse()
        .map_err(|error| Failure::request(format!("{error}")).hint("pass the name or the file of a lab"))?;
    Ok((name, None))
}

/// The record of the lab that the user means, which must be up. This process moves to where it lives.
pub fn record(lab: Option<&str>) -> Result<Record, Failure> {
    let (name, _) = named(lab)?;
    let record = record_of(&name)?;
    go_to(&name, false)?;
    Ok(record)
}

/// The record of a lab, which must be up.
pub fn record_of(name: &LabName) -> Result<Record, Failure> {
    Record::of_lab(&Directory::of(name))?.ok_or_else(|| apply::Error::NoLab(name.clone()).into())
}

/// A lab, and its record or why that cannot be read.
pub type Found = (LabName, Result<Record, state::Error>);

/// The records of all labs that are up, or why one cannot be read: that says nothing of the others.
pub fn all() -> Result<Vec<Found>, Failure> {
    let read = |name: LabName| {
        let record = Record::of_lab(&Directory::of(&name)).transpose()?;
        Some((name, record))
    };
    Ok(names()?.into_iter().filter_map(read).collect())
}

/// Moves this thread to where a lab lives, for good, if it is elsewhere; returns whether it is. `changes` if it is to
/// change the lab. A lab that is not up lives nowhere.
pub fn go_to(lab: &LabName, changes: bool) -> Result<bool, Failure> {
    let directory = Directory::of(lab);
    if !directory.exists() {
        return Ok(false);
    }
    let Some(route) = Record::route(home(&directory)?.as_ref(), &directory)? else { return Ok(false) };
    let is_moved = route.leads_elsewhere();
    match route.obstacle(changes) {
        None => route.follow()?,
        // `down` removes what is left of it, and everything else says how it stands.
        Some(Obstacle::NetnsGone | Obstacle::MountsGone) if changes => route.follow()?,
        obstacle => return Err(apply::Error::Elsewhere { lab: lab.clone(), obstacle }.into()),
    }
    Ok(is_moved)
}

/// Where a lab lives, as far as a record says so that can be read.
fn home(directory: &Directory) -> Result<Option<Home>, state::Error> {
    match Record::read_home(directory) {
        Err(state::Error::Journal { .. } | state::Error::Version { .. }) => {
            Ok(History::salvage(directory).into_iter().rev().find_map(|record| record.home))
        }
        home => home,
    }
}

/// Whether a lab lives in other namespaces, as far as it can be told.
pub fn is_elsewhere(lab: &LabName) -> bool {
    let directory = Directory::of(lab);
    let home = home(&directory).ok().flatten();
    matches!(Record::route(home.as_ref(), &directory), Ok(Some(route)) if !route.is_here())
}

/// The names of all labs that are up. Their state is root's: others cannot be told.
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
                .hint("say which"))
        }
    }
}
