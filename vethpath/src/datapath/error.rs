//! Errors of programs, links and maps.

use std::fmt;

use thiserror::Error;

/// Result type of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// The operation that fails if a map of another version has another shape.
pub(super) const OPEN_MAP: &str = "open map";

/// A refused operation on a program, link or map.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel, or aya, refused.
    #[error("cannot {operation} {object}: {cause}")]
    Refused {
        /// The operation.
        operation: &'static str,
        /// Its object.
        object: String,
        /// The text of aya's error, with the verifier log if there is one.
        cause: String,
    },
    /// The port has fewer receive queues than its inner end has transmit queues (`veth_xdp_set` in drivers/net/veth.c).
    #[error("cannot attach XDP to {port}: its inner end has more transmit queues than it has receive queues")]
    Queues {
        /// The port.
        port: String,
    },
    /// Pinned maps of another version of vethpath.
    #[error(
        "another version of vethpath has brought the lab up: its maps are of ABI version {found}, not {ours}"
    )]
    Abi {
        /// The maps' version.
        found: u32,
        /// This binary's.
        ours: u32,
    },
    /// A namespace could not be entered.
    #[error(transparent)]
    Kernel(#[from] crate::kernel::Error),
}

impl Error {
    /// A hint for the user, if there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Refused { operation, .. } if *operation != OPEN_MAP => {
                Some("`vethpath doctor` shows what this kernel lacks")
            }
            Self::Queues { .. } => Some(
                "`ethtool -L` shows and changes how many: `tx 1` at the inner end, or a larger `rx` at the port",
            ),
            // Maps of another shape are of another version.
            Self::Refused { .. } | Self::Abi { .. } => {
                Some("take the lab down with `vethpath down`, then bring it up again")
            }
            Self::Kernel(error) => error.hint(),
        }
    }
}

/// Adds the operation and its object to an error of aya.
pub(super) trait Context<T> {
    /// Adds the operation and its object.
    fn doing(self, operation: &'static str, object: impl fmt::Display) -> Result<T>;
}

impl<T, E: std::error::Error> Context<T> for std::result::Result<T, E> {
    fn doing(self, operation: &'static str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|error| {
            // aya's errors have the cause and the verifier log in their sources.
            let mut cause = error.to_string();
            let mut source = error.source();
            while let Some(inner) = source {
                let text = inner.to_string();
                if !cause.ends_with(&text) {
                    cause = format!("{cause}: {text}");
                }
                source = inner.source();
            }
            Error::Refused { operation, object: object.to_string(), cause }
        })
    }
}
