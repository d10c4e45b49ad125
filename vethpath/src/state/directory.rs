//! Where a lab's state is.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{Context, Result};
use crate::{
    datapath::Pins,
    kernel::{bpffs, files},
    topology::LabName,
};

/// The folder of all labs' state.
pub const ROOT: &str = "/run/vethpath";

/// The marker that `/run/netns` was made a mount by us, and may be unmade when no lab is left.
const NETNS_MOUNT: &str = ".mounted-run-netns";

/// How long others may go on to put files into a folder that is removed.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(3);

/// One lab's folder. It may not exist.
#[derive(Clone, Debug)]
pub struct Directory {
    lab: LabName,
    path: PathBuf,
}

impl Directory {
    /// The folder of this lab.
    #[must_use]
    pub fn of(lab: &LabName) -> Self {
        Self { lab: lab.clone(), path: Path::new(ROOT).join(lab.as_str()) }
    }

    /// One that stands in for a lab's.
    #[cfg(test)]
    pub(crate) fn stand_in(path: &Path) -> Self {
        Self { lab: "lab".parse().unwrap(), path: path.to_owned() }
    }

    /// The lab.
    #[must_use]
    pub fn lab(&self) -> &LabName {
        &self.lab
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was done, step by step, and for which topology.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// The journal that is to take the other's place.
    #[must_use]
    pub fn new_journal(&self) -> PathBuf {
        self.path.join("journal.new")
    }

    /// Where the agent listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join("agent.sock")
    }

    /// What the agent says of itself. What happens to the lab is in its [events](super::events).
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join("agent.log")
    }

    /// What it wrote before that.
    #[must_use]
    pub fn old_log(&self) -> PathBuf {
        self.path.join("agent.old.log")
    }

    /// Held by the agent as long as it lives; its process id is in it.
    #[must_use]
    pub fn agent_lock(&self) -> PathBuf {
        self.path.join("agent.lock")
    }

    /// Held by a `bench` as long as it measures.
    #[must_use]
    pub fn bench_lock(&self) -> PathBuf {
        self.path.join("bench.lock")
    }

    /// Whether the lab is up, half up or half down.
    #[must_use]
    pub fn exists(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| found.is_dir())
    }

    /// Whether there are files, or pins, that are made when the lab's record has been written.
    #[must_use]
    pub fn has_traces(&self) -> bool {
        if Pins::of(&self.lab).directory().exists() {
            return true;
        }
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let (journal, new_journal) = (self.journal(), self.new_journal());
        entries.map(|entry| entry.path()).any(|path| path != journal && path != new_journal)
    }

    /// Makes the folder, for root alone. A looser one is tightened, unless others may have put things
    /// into it.
    ///
    /// # Errors
    /// The file system refuses, or what is there is no folder that was root's alone.
    pub fn create(&self) -> Result<()> {
        for path in [Path::new(ROOT), &self.path] {
            files::make_private_folder(path).doing("make", path)?;
        }
        Ok(())
    }

    /// Whether what is in the folder can be believed: only root can have written it.
    ///
    /// # Errors
    /// Others can have.
    pub(super) fn check(&self) -> Result<()> {
        for path in [Path::new(ROOT), &self.path] {
            match files::check_private_folder(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                checked => checked.doing("trust", path)?,
            }
        }
        Ok(())
    }

    /// Removes the folder if nothing is in it, and then the one above likewise.
    pub fn remove_empty(&self) {
        // Fails, rightly, while there is something in them.
        let _ = fs::remove_dir(&self.path).and_then(|()| fs::remove_dir(ROOT));
    }

    /// Removes the folder and, when no lab is left, the one above.
    ///
    /// # Errors
    /// The file system refuses. A folder that is not there is no error.
    pub fn remove(&self) -> Result<()> {
        self.check()?;
        // The record goes last: whoever is killed here leaves a lab that is known, or an empty folder.
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if entry.path() != self.journal() {
                let _ = fs::remove_file(entry.path());
            }
        }
        remove_all(&self.path).doing("remove", &self.path)?;
        // Fails, rightly, while there are other labs.
        let _ = fs::remove_dir(ROOT);
        Ok(())
    }
}

/// Removes a folder with all that is in it, as often as somebody puts more into it meanwhile: an agent that a killed
/// `up` has started may make its files only now. It ends when it finds that they are gone.
fn remove_all(path: &Path) -> io::Result<()> {
    let deadline = Instant::now() + REMOVE_TIMEOUT;
    loop {
        let error = match fs::remove_dir_all(path) {
            Err(error) => error,
            Ok(()) => return Ok(()),
        };
        let is_there = fs::symlink_metadata(path).is_ok();
        match error.kind() {
            io::ErrorKind::NotFound if !is_there => return Ok(()),
            // Something has come, or gone, while we were at it.
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(1));
            }
            _ => return Err(error),
        }
    }
}

/// The labs that have state, sorted by name.
///
/// # Errors
/// The folder is there and cannot be read.
pub fn labs() -> Result<Vec<LabName>> {
    let root = Path::new(ROOT);
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.doing("list", root)?,
    };
    let mut labs = Vec::new();
    for entry in entries {
        let entry = entry.doing("list", root)?;
        if entry.file_type().doing("list", root)?.is_dir() {
            labs.extend(entry.file_name().to_string_lossy().parse::<LabName>());
        }
    }
    labs.sort();
    Ok(labs)
}

/// The labs that have state, or pins whose state is lost, sorted by name. A folder in which nothing is, as a killed `up`
/// leaves one, is no lab.
///
/// # Errors
/// The folder is there and cannot be read.
pub fn known_labs() -> Result<Vec<LabName>> {
    let is_lab =
        |directory: &Directory| directory.has_traces() || directory.journal().symlink_metadata().is_ok();
    let mut known = labs()?;
    known.retain(|lab| is_lab(&Directory::of(lab)));
    let pinned = fs::read_dir(bpffs::DIRECTORY).into_iter().flatten().flatten();
    known.extend(pinned.filter_map(|entry| entry.file_name().to_str()?.parse::<LabName>().ok()));
    known.sort();
    known.dedup();
    Ok(known)
}

/// Remembers that `/run/netns` was made a mount by us.
///
/// # Errors
/// The file system refuses.
pub fn note_netns_mount() -> Result<()> {
    let marker = Path::new(ROOT).join(NETNS_MOUNT);
    files::write_private(&marker, b"").doing("write", &marker)
}

/// Forgets it, and returns whether it was so.
#[must_use]
pub fn take_netns_mount() -> bool {
    fs::remove_file(Path::new(ROOT).join(NETNS_MOUNT)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_being_filled_goes_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lab");
        for _ in 0..20 {
            fs::create_dir(&path).unwrap();
            (0..50).for_each(|number| fs::write(path.join(format!("there {number}")), "").unwrap());
            thread::scope(|scope| {
                // As long as there is a folder to put them into.
                scope.spawn(|| {
                    let mut names = (0..2_000).map(|number| path.join(format!("late {number}")));
                    names.all(|name| fs::write(name, "").is_ok());
                });
                remove_all(&path).unwrap();
            });
            assert!(!path.exists());
        }
        remove_all(&path).unwrap();
    }
}
