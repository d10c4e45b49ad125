//! A lab's folder under `/run/vethpath`: journal, locks, socket, events and log. Root's alone.

mod directory;
pub mod events;
mod forwarding;
mod journal;
mod lock;
mod log;
mod measuring;
mod offloads;
pub(crate) mod stop;

pub use directory::{Directory, ROOT, labs, note_netns_mount, take_netns_mount};
pub use forwarding::{Shared, SharedSysctls};
pub use journal::{Facts, History, Journal, Record};
pub use lock::{AgentLock, LabLock};
pub use log::keep_short;
pub use measuring::Measuring;
pub use offloads::Offloads;

use thiserror::Error;

/// What can go wrong with state files.
#[derive(Debug, Error)]
pub enum Error {
    /// The file system refuses.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// The errno.
        source: std::io::Error,
    },
    /// Another `up` or `down` is at it.
    #[error("another vethpath is working on lab `{0}` right now")]
    Busy(crate::topology::LabName),
    /// The journal is not one, or of another version.
    #[error("cannot read {path}: {cause}")]
    Journal {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// The result of everything in this layer.
pub type Result<T> = std::result::Result<T, Error>;

/// Gives an I/O error its operation and path.
trait Context<T> {
    fn doing(self, operation: &'static str, path: &std::path::Path) -> Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn doing(self, operation: &'static str, path: &std::path::Path) -> Result<T> {
        self.map_err(|source| Error::Io { operation, path: path.display().to_string(), source })
    }
}
