//! Former values of settings in namespaces that labs share (the host and adopted namespaces), and the labs that need
//! them changed.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::fcntl::Flock;
use serde::{Deserialize, Serialize};

use super::{Directory, ROOT, Record, Result, lock};
use crate::{
    kernel::{Context, NetnsId, files},
    topology::{LabName, Place, Sysctl},
};

/// The size limit of the file in bytes: more than the settings and labs of any host need.
const MOST_BYTES: u64 = 4 << 20;

/// The file's name, followed by the cookie (or inode) of the network namespace. Versions that supported only one `host`
/// added no number.
const FILE: &str = ".host-sysctls";

/// The saved settings of one network namespace: a lab's host, or adopted by labs. The holder has the lock for the files
/// and settings of all namespaces. A kill loses nothing: the file is written before a setting is changed, and removed
/// after the last one is restored.
pub struct SharedSysctls {
    memory: Memory,
    file: PathBuf,
    /// Whether the file exists and cannot be read.
    is_lost: bool,
    _lock: Flock<File>,
}

/// The contents of the file.
#[derive(Default, Deserialize, Serialize)]
struct Memory {
    before: Vec<Sysctl>,
    users: BTreeSet<LabName>,
}

impl SharedSysctls {
    /// Takes the lock, with a timeout of ten seconds. The caller must hold the folder of a lab, or the locked folder
    /// may be removed. `place` is the lab's name of the namespace. A file that cannot be read is treated as lost, so
    /// that labs can still be brought up and taken down.
    ///
    /// # Errors
    /// Another process holds the lock until the timeout, or a file operation fails.
    pub async fn acquire(netns: NetnsId, place: &Place, lab: &LabName) -> Result<Self> {
        let root = Path::new(ROOT);
        let folder = File::open(root).doing("open", root.display())?;
        let lock = lock::wait_for(folder, lab, root).await?;
        let file = file_of(root, netns, place, |user| lives_in(user, netns))?;
        let (memory, is_lost) = match files::read_bounded(&file, MOST_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Memory::default(), false),
            text => match text.ok().and_then(|text| serde_json::from_str(&text).ok()) {
                Some(memory) => (memory, false),
                None => (Memory::default(), true),
            },
        };
        Ok(Self { memory, file, is_lost, _lock: lock })
    }

    /// The path of the file, if it is lost. Nothing is restored then.
    #[must_use]
    pub fn lost(&self) -> Option<&Path> {
        self.is_lost.then_some(&self.file)
    }

    /// Saves that a lab needs the settings, and their values unless they are saved already.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn remember(&mut self, lab: &LabName, before: Vec<Sysctl>) -> Result<()> {
        for setting in before {
            if !self.memory.before.iter().any(|known| known.key == setting.key) {
                self.memory.before.push(setting);
            }
        }
        self.memory.users.insert(lab.clone());
        self.write()
    }

    /// The settings to restore when this lab goes: all, if no other lab needs them.
    #[must_use]
    pub fn without(&mut self, lab: &LabName) -> &[Sysctl] {
        // A lab whose folder the user removed needs nothing.
        self.memory.users.retain(|user| user != lab && Directory::of(user).exists());
        if self.memory.users.is_empty() { &self.memory.before } else { &[] }
    }

    /// Removes the values that [`SharedSysctls::without`] returned, after they were restored.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn forget(self) -> Result<()> {
        if !self.memory.users.is_empty() {
            return self.write();
        }
        // Left by a process that was killed while writing.
        let _ = fs::remove_file(self.new_path());
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => Ok(removed.doing("remove", self.file.display())?),
        }
    }

    /// Replaces the file atomically: a kill leaves the old or the new one.
    fn write(&self) -> Result<()> {
        let (file, new) = (&self.file, self.new_path());
        let text = serde_json::to_string(&self.memory).map_err(io::Error::from);
        let text = text.doing("write", file.display())?;
        files::write_private(&new, text.as_bytes()).doing("write", new.display())?;
        Ok(fs::rename(&new, file).doing("replace", file.display())?)
    }

    fn new_path(&self) -> PathBuf {
        self.file.with_added_extension("new")
    }
}

/// The file of a namespace. A file of a version that supported only one `host` is renamed to that of the host in which
/// its users live.
fn file_of(
    root: &Path,
    netns: NetnsId,
    place: &Place,
    lives_there: impl Fn(&LabName) -> bool,
) -> Result<PathBuf> {
    let file = root.join(format!("{FILE}.{}", netns.cookie.unwrap_or(netns.inode)));
    let former = root.join(FILE);
    if *place == Place::Host && !file.exists() && former.exists() {
        let memory = files::read_bounded(&former, MOST_BYTES).ok();
        let memory = memory.and_then(|text| serde_json::from_str::<Memory>(&text).ok());
        if memory.is_none_or(|memory| memory.users.iter().any(lives_there)) {
            fs::rename(&former, &file).doing("rename", former.display())?;
        }
    }
    Ok(file)
}

/// Whether a lab lives in this network namespace, which is that of the calling process.
fn lives_in(lab: &LabName, netns: NetnsId) -> bool {
    let directory = Directory::of(lab);
    match Record::read_home(&directory) {
        Ok(Some(home)) => home.netns.is(&netns),
        _ => Record::route(None, &directory)
            .is_ok_and(|route| route.is_none_or(|route| route.has_netns_here())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_takes_over_the_file_of_versions_that_knew_no_other() {
        let root = tempfile::tempdir().unwrap();
        let former = r#"{"before":[{"path":["net","ipv4","ip_forward"],"value":"0"}],"users":["a"]}"#;
        fs::write(root.path().join(FILE), former).unwrap();
        let netns = |inode, cookie| NetnsId { inode, cookie };
        let adopted = Place::Namespace("b".parse().unwrap());
        let other = file_of(root.path(), netns(1, Some(7)), &adopted, |_| true).unwrap();
        assert!(other.ends_with(".host-sysctls.7") && !other.exists());
        let elsewhere = file_of(root.path(), netns(3, None), &Place::Host, |_| false).unwrap();
        assert!(!elsewhere.exists() && root.path().join(FILE).exists(), "it is of another host");
        let file = file_of(root.path(), netns(2, None), &Place::Host, |lab| lab.as_str() == "a").unwrap();
        assert!(file.ends_with(".host-sysctls.2"));
        let memory: Memory = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!((memory.before.len(), memory.users.len()), (1, 1));
        assert_eq!(serde_json::to_string(&memory).unwrap(), former);
        assert!(!root.path().join(FILE).exists());
    }
}
