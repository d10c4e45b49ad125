//! What settings of namespaces that are not a lab's own were before labs changed them, and which labs need them
//! changed: those of the host, and of adopted namespaces.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::fcntl::Flock;
use serde::{Deserialize, Serialize};

use super::{Context, Directory, ROOT, Record, Result, lock};
use crate::{
    kernel::{NetnsId, files},
    topology::{LabName, Place, Sysctl},
};

/// The most bytes that are read of the file: more than the settings and labs of any host.
const MOST_BYTES: u64 = 4 << 20;

/// Its name, of the network namespace whose settings they are. That of versions which knew one `host` has no number.
const FILE: &str = ".host-sysctls";

/// The memory of the settings of one network namespace: a lab's host, or adopted by labs. Whoever has it is alone with
/// all of them: nobody else reads or writes one, or the settings, at the same time. A kill loses nothing: it is written
/// before a setting is changed, and removed after the last one is put back.
pub struct SharedSysctls {
    memory: Memory,
    file: PathBuf,
    /// Whether there was a memory that cannot be read.
    is_lost: bool,
    _lock: Flock<File>,
}

/// As it is in the file.
#[derive(Default, Deserialize, Serialize)]
struct Memory {
    before: Vec<Sysctl>,
    users: BTreeSet<LabName>,
}

impl SharedSysctls {
    /// Waits until nobody else is at it, ten seconds at most. The caller has the folder of a lab, or the lock would not
    /// last. `place` is what the lab calls the namespace. A memory that cannot be read is lost: no lab is kept from being
    /// brought up or taken down by it.
    ///
    /// # Errors
    /// Somebody else is at it all the while, or the file system refuses.
    pub async fn take(netns: NetnsId, place: &Place, lab: &LabName) -> Result<Self> {
        let root = Path::new(ROOT);
        let folder = File::open(root).doing("open", root)?;
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

    /// Where the memory is, if it was there and is lost: then nothing is put back.
    #[must_use]
    pub fn lost(&self) -> Option<&Path> {
        self.is_lost.then_some(&self.file)
    }

    /// Remembers that a lab needs the settings, and what they were, unless that is known.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remember(&mut self, lab: &LabName, before: Vec<Sysctl>) -> Result<()> {
        for setting in before {
            if !self.memory.before.iter().any(|known| known.key == setting.key) {
                self.memory.before.push(setting);
            }
        }
        self.memory.users.insert(lab.clone());
        self.write()
    }

    /// What to put back if this lab goes: all if no other needs it.
    #[must_use]
    pub fn without(&mut self, lab: &LabName) -> &[Sysctl] {
        // A lab whose folder was removed by hand needs nothing any more.
        self.memory.users.retain(|user| user != lab && Directory::of(user).exists());
        if self.memory.users.is_empty() { &self.memory.before } else { &[] }
    }

    /// Forgets what [`SharedSysctls::without`] gave, when it is put back.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn forget(self) -> Result<()> {
        if !self.memory.users.is_empty() {
            return self.write();
        }
        // Of somebody who was killed while writing.
        let _ = fs::remove_file(self.new_path());
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing("remove", &self.file),
            _ => Ok(()),
        }
    }

    /// In the place of the old one at once: a kill leaves the one or the other.
    fn write(&self) -> Result<()> {
        let (file, new) = (&self.file, self.new_path());
        let text = serde_json::to_string(&self.memory).map_err(io::Error::from).doing("write", file)?;
        files::write_private(&new, text.as_bytes()).doing("write", &new)?;
        fs::rename(&new, file).doing("replace", file)
    }

    fn new_path(&self) -> PathBuf {
        self.file.with_added_extension("new")
    }
}

/// The file about a namespace. That of a version which knew one `host` becomes the one of the host in which its users
/// live.
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
            fs::rename(&former, &file).doing("rename", &former)?;
        }
    }
    Ok(file)
}

/// Whether a lab lives in this network namespace. The process that asks is in it.
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
