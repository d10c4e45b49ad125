//! A lab's folder, its files, and the rotation of the agent's log.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::Result;
use crate::{
    datapath::Pins,
    kernel::{Context, bpffs, files},
    topology::LabName,
};

/// The folder with the state of all labs.
pub const ROOT: &str = "/run/vethpath";

/// The marker file: vethpath made `/run/netns` a mount and may undo that after the last lab.
const NETNS_MOUNT: &str = ".mounted-run-netns";

/// How long a folder's removal is retried while other processes create files in it.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(3);

/// The size in bytes at which the agent's log is rotated. One older log is kept.
const LOG_LIMIT: u64 = 1 << 20;

/// The folder of one lab. It may not exist.
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

    /// A stand-in for a lab's folder, for tests.
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

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// The new journal, before it replaces the other.
    #[must_use]
    pub fn new_journal(&self) -> PathBuf {
        self.path.join("journal.new")
    }

    /// The agent's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join("agent.sock")
    }

    /// The agent's log. What happens to the lab is in its [events](super::events).
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join("agent.log")
    }

    /// The agent's rotated log.
    #[must_use]
    pub fn old_log(&self) -> PathBuf {
        self.path.join("agent.old.log")
    }

    /// The agent's lock file. It contains the agent's pid.
    #[must_use]
    pub fn agent_lock(&self) -> PathBuf {
        self.path.join("agent.lock")
    }

    /// The lock file of the process that reads the lab's metrics. It contains the pids of that process and of the one that
    /// serves them, and the address.
    #[must_use]
    pub fn metrics_lock(&self) -> PathBuf {
        self.path.join("metrics.lock")
    }

    /// The log of these processes.
    #[must_use]
    pub fn metrics_log(&self) -> PathBuf {
        self.path.join("metrics.log")
    }

    /// The lock file that a `bench` holds while it measures.
    #[must_use]
    pub fn bench_lock(&self) -> PathBuf {
        self.path.join("bench.lock")
    }

    /// The processes in adopted namespaces.
    #[must_use]
    pub fn occupants(&self) -> PathBuf {
        self.path.join("occupants")
    }

    /// What the inner ends of guest ports had counted: see [`Befores`](super::Befores).
    #[must_use]
    pub fn guests(&self) -> PathBuf {
        self.path.join("guests")
    }

    /// The new file, before it replaces the other.
    #[must_use]
    pub fn new_guests(&self) -> PathBuf {
        self.path.join("guests.new")
    }

    /// What no program counted: see [`Unseen`](super::Unseen).
    #[must_use]
    pub fn unseen(&self) -> PathBuf {
        self.path.join("unseen")
    }

    /// The lock on the counts of the lab: see [`Counts`](super::Counts).
    #[must_use]
    pub fn counts(&self) -> PathBuf {
        self.path.join("counts")
    }

    /// Whether the folder exists: the lab is up, or partly up.
    #[must_use]
    pub fn exists(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| found.is_dir())
    }

    /// Whether there are files or pins that are only made after the lab's record was written.
    #[must_use]
    pub fn has_traces(&self) -> bool {
        if Pins::of(&self.lab).directory().exists() {
            return true;
        }
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let (journal, new_journal) = (self.journal(), self.new_journal());
        entries.map(|entry| entry.path()).any(|path| path != journal && path != new_journal)
    }

    /// Makes the folder with mode 0700. An existing one gets that mode, unless another user may have written to it.
    ///
    /// # Errors
    /// A file operation fails, or the existing folder is not trusted.
    pub fn create(&self) -> Result<()> {
        for path in [Path::new(ROOT), &self.path] {
            files::make_private_folder(path).doing("make", path.display())?;
        }
        Ok(())
    }

    /// Checks that only root can have written to the folder.
    ///
    /// # Errors
    /// Another user can have written to it.
    pub(super) fn check(&self) -> Result<()> {
        for path in [Path::new(ROOT), &self.path] {
            match files::check_private_folder(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                checked => checked.doing("trust", path.display())?,
            }
        }
        Ok(())
    }

    /// Removes the folder if it is empty, then its parent likewise. An `up` that was killed early may have made the
    /// parent alone.
    pub fn remove_empty(&self) {
        for path in [self.path.as_path(), Path::new(ROOT)] {
            // Fails as intended while something is in it.
            let _ = fs::remove_dir(path);
        }
    }

    /// Removes the folder and, after the last lab, its parent.
    ///
    /// # Errors
    /// A file operation fails. A missing folder is no error.
    pub fn remove(&self) -> Result<()> {
        self.check()?;
        // The journal is removed last: a kill before that leaves a known lab, or an empty folder.
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if entry.path() != self.journal() {
                let _ = fs::remove_file(entry.path());
            }
        }
        remove_all(&self.path).doing("remove", self.path.display())?;
        // Fails as intended while there are other labs.
        let _ = fs::remove_dir(ROOT);
        Ok(())
    }
}

/// Removes a folder with its contents. Retries while files are added: an agent that a killed `up` started may create
/// its files only now. That agent exits when it finds them gone.
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
            // An entry was added or removed meanwhile.
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(1));
            }
            _ => return Err(error),
        }
    }
}

/// The labs that have a folder, sorted by name.
///
/// # Errors
/// The folder exists and cannot be read.
pub fn labs() -> Result<Vec<LabName>> {
    let root = Path::new(ROOT);
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.doing("list", root.display())?,
    };
    let mut labs = Vec::new();
    for entry in entries {
        let entry = entry.doing("list", root.display())?;
        if entry.file_type().doing("list", root.display())?.is_dir() {
            labs.extend(entry.file_name().to_string_lossy().parse::<LabName>());
        }
    }
    labs.sort();
    Ok(labs)
}

/// The labs that have state, or pins without state, sorted by name. An empty folder, as a killed `up` leaves, is no
/// lab.
///
/// # Errors
/// The folder exists and cannot be read.
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

/// Records that vethpath made `/run/netns` a mount.
///
/// # Errors
/// A file operation fails.
pub fn record_netns_mount() -> Result<()> {
    let marker = Path::new(ROOT).join(NETNS_MOUNT);
    Ok(files::write_private(&marker, b"").doing("write", marker.display())?)
}

/// Removes that marker, and returns whether it existed.
#[must_use]
pub fn take_netns_mount() -> bool {
    fs::remove_file(Path::new(ROOT).join(NETNS_MOUNT)).is_ok()
}

/// Rotates the agent's log when it is too long. The agent's standard error stays the same file, which is copied and truncated.
///
/// # Errors
/// A file operation fails.
pub fn rotate_if_long(directory: &Directory) -> io::Result<()> {
    rotate(&directory.log(), &directory.old_log())
}

fn rotate(log: &Path, old: &Path) -> io::Result<()> {
    match fs::metadata(log) {
        Ok(there) if there.len() > LOG_LIMIT => {}
        _ => return Ok(()),
    }
    // The copy has the same mode. If it fails for lack of space, the log is truncated all the same.
    let copied = fs::copy(log, old).map(drop);
    fs::OpenOptions::new().write(true).open(log)?.set_len(0)?;
    copied
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_that_is_being_filled_goes_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lab");
        for _ in 0..20 {
            fs::create_dir(&path).unwrap();
            (0..50).for_each(|number| fs::write(path.join(format!("there {number}")), "").unwrap());
            thread::scope(|scope| {
                // Until the folder is gone.
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

    #[test]
    fn a_log_is_put_aside_when_it_is_too_long() {
        let folder = tempfile::tempdir().unwrap();
        let (log, old) = (folder.path().join("log"), folder.path().join("old"));
        rotate(&log, &old).unwrap();
        fs::write(&log, "short").unwrap();
        fs::set_permissions(&log, fs::Permissions::from_mode(0o600)).unwrap();
        rotate(&log, &old).unwrap();
        assert!(!old.exists());
        let long = "x".repeat(usize::try_from(LOG_LIMIT).unwrap() + 1);
        fs::write(&log, &long).unwrap();
        rotate(&log, &old).unwrap();
        assert_eq!(
            (fs::read_to_string(&log).unwrap(), fs::read_to_string(&old).unwrap()),
            (String::new(), long)
        );
        assert_eq!(fs::metadata(&old).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
