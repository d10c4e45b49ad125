//! A lab's folder under `/run/vethpath`, for root only: journal, locks, socket, events and log.

mod counts;
mod directory;
pub mod events;
mod forwarding;
mod guests;
mod journal;
mod lock;
mod occupants;
mod record;
pub(crate) mod test_hooks;
mod unseen;

pub use counts::Counts;
pub use directory::{
    Directory, ROOT, known_labs, labs, record_netns_mount, rotate_if_long, take_netns_mount,
};
pub use forwarding::SharedSysctls;
pub use guests::{Before, Befores};
pub use journal::{Journal, Saved};
pub use lock::{AdoptionLock, AgentLock, LabLock, Measuring, MetricsLock, Serving};
pub use occupants::Occupants;
pub use record::{AdoptedAt, History, JournalStamp, Record};
pub use unseen::Unseen;

use thiserror::Error;

use crate::kernel;

/// Errors of state files.
#[derive(Debug, Error)]
pub enum Error {
    /// A file operation failed.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// Another process holds a lock that the lab's command needs.
    #[error("another vethpath is working on lab `{lab}`{by}")]
    Busy {
        /// The lab.
        lab: crate::topology::LabName,
        /// A colon and that process, if it is known.
        by: String,
    },
    /// The journal has no readable record.
    #[error("cannot read {path}: {cause}")]
    Journal {
        /// The lab.
        lab: crate::topology::LabName,
        /// The file.
        path: String,
        /// The cause.
        cause: String,
    },
    /// The record does not fit into a journal.
    #[error("lab `{lab}` is too large: its record would be longer than {most} bytes")]
    TooLarge {
        /// The lab.
        lab: crate::topology::LabName,
        /// The limit in bytes.
        most: u64,
    },
    /// The journal has another format version.
    #[error(
        "cannot read {path}: {} version of vethpath has written it (format {found}, and this one reads {ours})",
        if .found > .ours { "a newer" } else { "an older" }
    )]
    Version {
        /// The lab.
        lab: crate::topology::LabName,
        /// The file.
        path: String,
        /// The journal's version.
        found: u32,
        /// The version that this program reads and writes.
        ours: u32,
    },
}

impl Error {
    /// The journal of a lab cannot be read.
    fn journal(directory: &Directory, cause: impl Into<String>) -> Self {
        let path = directory.journal().display().to_string();
        Self::Journal { lab: directory.lab().clone(), path, cause: cause.into() }
    }

    /// The journal of a lab is empty, truncated or missing, though the lab has other files.
    #[must_use]
    pub(crate) fn lost_record(directory: &Directory) -> Self {
        Self::journal(directory, "there is no record in it")
    }

    /// Whether the request caused the error, not the system.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::TooLarge { .. })
    }

    /// A hint for the user.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Busy { .. } => Some("wait until it has finished".to_owned()),
            Self::TooLarge { .. } => {
                Some("split the lab in two, or give its namespaces fewer routes and settings".to_owned())
            }
            Self::Journal { lab, .. } => Some(format!(
                "`vethpath down {lab}` removes all objects with the lab's mark; then bring the lab up again"
            )),
            Self::Version { lab, .. } => Some(format!(
                "`vethpath down {lab}` removes all objects with the lab's mark; or use the version that brought it up"
            )),
            Self::Kernel(_) => None,
        }
    }
}

/// The result type of this module.
pub type Result<T> = std::result::Result<T, Error>;
