//! The processes that lived in a lab's adopted namespaces when `up` last looked.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt};

use super::{Directory, Result};
use crate::{
    kernel::{Context, files, occupants::Occupant},
    topology::{Adopt, Namespace, NsName},
};

/// Processes by namespace. A namespace without any was not known to have some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occupants(pub BTreeMap<NsName, Vec<Occupant>>);

impl Occupants {
    /// Whether the lab follows the processes of a namespace: it is adopted by a process. A namespace with a
    /// name in `/run/netns` exists without any.
    #[must_use]
    pub fn are_followed(namespace: &Namespace) -> bool {
        let is_named = |path: &str| path.starts_with("/run/netns/") || path.starts_with("/var/run/netns/");
        match &namespace.adopt {
            Some(Adopt::Path(path)) => !is_named(path),
            Some(Adopt::Container(_)) => true,
            None => false,
        }
    }

    /// Reads them. A missing file has none, and lines that cannot be parsed are skipped.
    #[must_use]
    pub fn read(directory: &Directory) -> Self {
        let text = files::read_bounded(&directory.occupants(), files::LIST).unwrap_or_default();
        let mut all: BTreeMap<NsName, Vec<Occupant>> = BTreeMap::new();
        for (name, occupant) in text.lines().filter_map(|line| line.split_once(' ')) {
            if let (Ok(name), Ok(occupant)) = (name.parse(), occupant.parse()) {
                all.entry(name).or_default().push(occupant);
            }
        }
        Self(all)
    }

    /// Writes them, if they have changed.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn write(&self, directory: &Directory) -> Result<()> {
        if Self::read(directory) == *self {
            return Ok(());
        }
        let lines =
            self.0.iter().flat_map(|(name, all)| all.iter().map(move |one| format!("{name} {one}\n")));
        let path = directory.occupants();
        Ok(files::write_private(&path, lines.collect::<String>().as_bytes())
            .doing("write", path.display())?)
    }

    /// What changes when they are written: inode, length and time of the file.
    #[must_use]
    pub fn version(directory: &Directory) -> Option<(u64, u64, i64)> {
        let file = fs::metadata(directory.occupants()).ok()?;
        Some((file.ino(), file.len(), file.mtime_nsec()))
    }

    /// Whether a process with this pid was known in a namespace, and has not ended.
    #[must_use]
    pub fn have(&self, name: &NsName, pid: i32) -> bool {
        let all = self.0.get(name).map_or(&[][..], Vec::as_slice);
        all.iter().any(|one| one.pid() == pid && one.open().is_some())
    }

    /// Whether processes were known in a namespace, and all have ended.
    #[must_use]
    pub fn are_gone(&self, name: &NsName) -> bool {
        self.0.get(name).is_some_and(|all| all.iter().all(|one| one.open().is_none()))
    }
}
