//! What settings of namespaces that are not a lab's own were before labs changed them, and which labs need them
//! changed: those of the host, and of adopted namespaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::{Context, Directory, ROOT, Result};
use crate::{
    kernel::{bounded, private},
    topology::{LabName, Sysctl},
};

/// The most bytes that are read of the file: more than the settings and labs of any host.
const MOST_BYTES: u64 = 4 << 20;

/// Its name.
const FILE: &str = ".host-sysctls";

/// A namespace that labs share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// The host's.
    Host,
    /// An adopted one, by its inode: as long as a lab has adopted it, no other namespace gets that.
    Adopted(u64),
}

/// The memory of these settings. Whoever has it is alone with it: nobody else reads or writes it, or the
/// settings, at the same time. A kill loses nothing: it is written before a setting is changed, and removed
/// after the last one is put back.
pub struct SharedSysctls {
    memory: Memory,
    _lock: Flock<File>,
}

/// As it is in the file.
#[derive(Default, Deserialize, Serialize)]
struct Memory {
    #[serde(flatten)]
    host: Changed,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    adopted: BTreeMap<u64, Changed>,
}

/// The changed settings of one namespace.
#[derive(Default, Deserialize, Serialize)]
struct Changed {
    before: Vec<Sysctl>,
    users: BTreeSet<LabName>,
}

impl SharedSysctls {
    /// Waits until nobody else is at it. The caller has the folder of a lab, or the lock would not last.
    ///
    /// # Errors
    /// The file system refuses, or the file is none of ours.
    pub fn take() -> Result<Self> {
        let root = Path::new(ROOT);
        let folder = File::open(root).doing("open", root)?;
        let lock = Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into());
        let lock = lock.doing("lock", root)?;
        let file = path();
        let memory = match bounded::read(&file, MOST_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Memory::default(),
            text => serde_json::from_str(&text.doing("read", &file)?)
                .map_err(io::Error::from)
                .doing("read", &file)?,
        };
        Ok(Self { memory, _lock: lock })
    }

    /// Remembers that a lab needs the settings, and what they were, unless that is known.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remember(&mut self, of: Shared, lab: &LabName, before: Vec<Sysctl>) -> Result<()> {
        let changed = self.memory.of(of);
        for setting in before {
            if !changed.before.iter().any(|known| known.key == setting.key) {
                changed.before.push(setting);
            }
        }
        changed.users.insert(lab.clone());
        self.write()
    }

    /// What to put back if this lab goes: all if no other needs it.
    #[must_use]
    pub fn without(&mut self, of: Shared, lab: &LabName) -> &[Sysctl] {
        let changed = self.memory.of(of);
        // A lab whose folder was removed by hand needs nothing any more.
        changed.users.retain(|user| user != lab && Directory::of(user).exists());
        if changed.users.is_empty() { &changed.before } else { &[] }
    }

    /// Forgets what [`SharedSysctls::without`] gave, when it is put back.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn forget(mut self) -> Result<()> {
        let is_done = |changed: &Changed| changed.users.is_empty();
        if is_done(&self.memory.host) {
            self.memory.host.before.clear();
        }
        self.memory.adopted.retain(|_, changed| !is_done(changed));
        if !is_done(&self.memory.host) || !self.memory.adopted.is_empty() {
            return self.write();
        }
        // Of somebody who was killed while writing.
        let _ = fs::remove_file(new_path());
        match fs::remove_file(path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing("remove", &path()),
            _ => Ok(()),
        }
    }

    /// In the place of the old one at once: a kill leaves the one or the other.
    fn write(&self) -> Result<()> {
        let (file, new) = (path(), new_path());
        let text = serde_json::to_string(&self.memory).map_err(io::Error::from).doing("write", &file)?;
        private::write(&new, text.as_bytes()).doing("write", &new)?;
        fs::rename(&new, &file).doing("replace", &file)
    }
}

impl Memory {
    fn of(&mut self, of: Shared) -> &mut Changed {
        match of {
            Shared::Host => &mut self.host,
            Shared::Adopted(inode) => self.adopted.entry(inode).or_default(),
        }
    }
}

fn new_path() -> PathBuf {
    Path::new(ROOT).join(format!("{FILE}.new"))
}

fn path() -> PathBuf {
    Path::new(ROOT).join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_host_alone_is_read_as_before() {
        let text = r#"{"before":[{"path":["net","ipv4","ip_forward"],"value":"0"}],"users":["a"]}"#;
        let mut memory: Memory = serde_json::from_str(text).expect("a memory");
        assert_eq!(memory.of(Shared::Host).before.len(), 1);
        assert_eq!(serde_json::to_string(&memory).expect("JSON"), text);
        memory.of(Shared::Adopted(7)).users.insert("b".parse().expect("a name"));
        let again: Memory =
            serde_json::from_str(&serde_json::to_string(&memory).expect("JSON")).expect("a memory");
        assert_eq!(again.adopted[&7].users.len(), 1);
    }
}
