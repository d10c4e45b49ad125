//! Who lives in a network namespace that is known by its id only: by its name in `/run/netns`, or by a process in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::Path,
};

use super::{
    Context, Netns, Result, RouteSocket, files, netns,
    occupants::{Occupant, occupants},
};

/// Who lives in a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resident {
    /// It has this name in `/run/netns`.
    Name(String),
    /// A process lives in it, the one with the lowest pid.
    Process {
        /// Its pid.
        pid: i32,
        /// Its name (`/proc/PID/comm`), which may contain anything.
        name: String,
    },
}

impl Resident {
    /// Its name, or the pid of its process.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Process { pid, .. } => pid.to_string(),
        }
    }

    /// What an interface in the namespace is called: `ns0:eth0`, or `eth0 in pid 4242 (nginx)`.
    #[must_use]
    pub fn label(&self, interface: &str) -> String {
        match self {
            Self::Name(name) => format!("{name}:{interface}"),
            Self::Process { .. } => format!("{interface} in {self}"),
        }
    }
}

impl fmt::Display for Resident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Process { pid, name } => write!(f, "pid {pid} ({name})"),
        }
    }
}

/// Who lives in the namespaces that have an id in the namespace of this socket. `/proc` shows processes of the caller's
/// PID namespace and of those below it.
///
/// # Errors
/// `/proc` cannot be read, or the socket fails.
pub fn residents(socket: &RouteSocket) -> Result<BTreeMap<i32, Resident>> {
    let mut found = BTreeMap::new();
    let mut known = BTreeSet::new();
    for entry in fs::read_dir(netns::DIRECTORY).into_iter().flatten().flatten() {
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        // Left-over files are no namespaces.
        let Ok(netns) = Netns::open(&entry.path(), &name) else { continue };
        if let Ok(Some(id)) = socket.nsid_of(&netns) {
            known.extend(entry.metadata().map(|file| file.ino()));
            found.insert(id, Resident::Name(name));
        }
    }
    let mut pids: Vec<i32> = fs::read_dir("/proc")
        .doing("list", "/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    for pid in pids {
        let path = format!("/proc/{pid}/ns/net");
        let Ok(file) = fs::metadata(&path) else { continue };
        if !known.insert(file.ino()) {
            continue;
        }
        // It may have ended.
        let Ok(netns) = Netns::open(Path::new(&path), &path) else { continue };
        if let Ok(Some(id)) = socket.nsid_of(&netns) {
            found.entry(id).or_insert_with(|| process(pid));
        }
    }
    Ok(found)
}

/// The process with the lowest pid in the network namespace with this inode.
///
/// # Errors
/// `/proc` cannot be read.
pub fn lowest_process(inode: u64) -> Result<Option<Resident>> {
    let occupants = occupants(&[inode])?.remove(&inode).unwrap_or_default();
    Ok(occupants.into_iter().map(Occupant::pid).min().map(process))
}

fn process(pid: i32) -> Resident {
    let name = files::read_bounded(Path::new(&format!("/proc/{pid}/comm")), files::VALUE);
    Resident::Process { pid, name: name.unwrap_or_default().trim_end_matches('\n').to_owned() }
}
