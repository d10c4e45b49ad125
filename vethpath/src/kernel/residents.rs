//! Who lives in a network namespace that is known by its id only: a container, or else by its name in `/run/netns`, or
//! else by a process in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    Context, Netns, Result, RouteSocket, files, netns,
    occupants::{Occupant, occupants},
};
use crate::topology::ContainerName;

/// Who lives in a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resident {
    /// It is that of a container.
    Container(ContainerName),
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
    /// What an interface in the namespace is called: `web:eth0` in container `web`, `ns0:eth0`, or
    /// `eth0 in pid 4242 (nginx)`.
    #[must_use]
    pub fn label(&self, interface: &str) -> String {
        match self {
            Self::Container(name) => format!("{name}:{interface}"),
            Self::Name(name) => format!("{name}:{interface}"),
            Self::Process { .. } => format!("{interface} in {self}"),
        }
    }
}

impl fmt::Display for Resident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name) => name.fmt(f),
            Self::Name(name) => f.write_str(name),
            Self::Process { pid, name } => write!(f, "pid {pid} ({name})"),
        }
    }
}

/// A network namespace, and who lives in it.
pub struct Inhabited {
    /// A file of the namespace.
    pub path: PathBuf,
    /// Who lives in it.
    pub resident: Resident,
}

/// Who lives in the namespaces that have an id in the namespace of this socket. `containers` has the names of containers
/// by the inode of the namespace of each. `/proc` shows processes of the caller's PID namespace and of those below it.
///
/// # Errors
/// `/proc` cannot be read, or the socket fails.
pub fn residents(
    socket: &RouteSocket,
    containers: &BTreeMap<u64, ContainerName>,
) -> Result<BTreeMap<i32, Inhabited>> {
    let mut found = BTreeMap::new();
    let mut known = BTreeSet::new();
    let mut add = |id, inode, path, resident| {
        let container = containers.get(&inode).cloned().map(Resident::Container);
        found.entry(id).or_insert(Inhabited { path, resident: container.unwrap_or(resident) });
    };
    for entry in fs::read_dir(netns::DIRECTORY).into_iter().flatten().flatten() {
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        // Left-over files are no namespaces.
        let Ok(netns) = Netns::open(&entry.path(), &name) else { continue };
        if let (Ok(Some(id)), Ok(inode)) = (socket.nsid_of(&netns), netns.inode()) {
            known.insert(inode);
            add(id, inode, entry.path(), Resident::Name(name));
        }
    }
    let mut pids: Vec<i32> = fs::read_dir("/proc")
        .doing("list", "/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    for pid in pids {
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let Ok(file) = fs::metadata(&path) else { continue };
        if !known.insert(file.ino()) {
            continue;
        }
        // It may have ended.
        let Ok(netns) = Netns::open(&path, &path.to_string_lossy()) else { continue };
        if let Ok(Some(id)) = socket.nsid_of(&netns) {
            add(id, file.ino(), path, process(pid));
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
