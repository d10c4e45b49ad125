//! What settings of the host were before labs changed them, and which labs need them changed.

use std::{
    collections::BTreeSet,
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

/// The memory of the host's settings. Whoever has it is alone with it: nobody else reads or writes it, or the
/// settings, at the same time. A kill loses nothing: it is written before a setting is changed, and removed
/// after the last one is put back.
pub struct HostSysctls {
    before: Vec<Sysctl>,
    users: BTreeSet<LabName>,
    _lock: Flock<File>,
}

/// As it is in the file.
#[derive(Default, Deserialize, Serialize)]
struct Memory {
    before: Vec<Sysctl>,
    users: BTreeSet<LabName>,
}

impl HostSysctls {
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
        let memory: Memory = match bounded::read(&file, MOST_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Memory::default(),
            text => serde_json::from_str(&text.doing("read", &file)?)
                .map_err(io::Error::from)
                .doing("read", &file)?,
        };
        Ok(Self { before: memory.before, users: memory.users, _lock: lock })
    }

    /// Remembers that a lab needs the settings, and what they were, unless that is known.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remember(&mut self, lab: &LabName, before: Vec<Sysctl>) -> Result<()> {
        for setting in before {
            if !self.before.iter().any(|known| known.key == setting.key) {
                self.before.push(setting);
            }
        }
        self.users.insert(lab.clone());
        self.write()
    }

    /// What to put back if this lab goes: all if no other needs it.
    #[must_use]
    pub fn without(&mut self, lab: &LabName) -> &[Sysctl] {
        // A lab whose folder was removed by hand needs nothing any more.
        self.users.retain(|user| user != lab && Directory::of(user).exists());
        if self.users.is_empty() { &self.before } else { &[] }
    }

    /// Forgets what [`HostSysctls::without`] gave, when it is put back.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn forget(self) -> Result<()> {
        if !self.users.is_empty() {
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
        let memory = Memory { before: self.before.clone(), users: self.users.clone() };
        let text = serde_json::to_string(&memory).map_err(io::Error::from).doing("write", &file)?;
        private::write(&new, text.as_bytes()).doing("write", &new)?;
        fs::rename(&new, &file).doing("replace", &file)
    }
}

fn new_path() -> PathBuf {
    Path::new(ROOT).join(format!("{FILE}.new"))
}

fn path() -> PathBuf {
    Path::new(ROOT).join(FILE)
}
