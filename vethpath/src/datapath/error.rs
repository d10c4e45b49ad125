//! What can go wrong with programs, links and maps.

use std::fmt;

use thiserror::Error;

/// The result of everything in this layer.
pub type Result<T> = std::result::Result<T, Error>;

/// What is done where maps of another version show by their shape.
pub(super) const OPEN_MAP: &str = "open map";

/// A refused operation on a program, link or map.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel, or aya, refused.
    #[error("cannot {operation} {object}: {cause}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// aya's account of it, with the verifier's log where there is one.
        cause: String,
    },
    /// `veth_xdp_set` in drivers/net/veth.c wants a receive queue for each queue of the other end.
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
    /// What may help, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Refused { operation, .. } if *operation != OPEN_MAP => {
                Some("`vethpath doctor` shows what this kernel lacks")
            }
            Self::Queues { .. } => Some(
                "`ethtool -L` shows and changes how many: `tx 1` at the inner end, or a larger `rx` at the port",
            ),
            // Of another shape, which a change of the version comes with.
            Self::Refused { .. } | Self::Abi { .. } => {
                Some("take the lab down with `vethpath down`, then bring it up again")
            }
            Self::Kernel(error) => error.hint(),
        }
    }
}

/// Gives an error of aya its operation and object.
pub(super) trait Context<T> {
    /// Names what was tried, on what.
    fn doing(self, operation: &'static str, object: impl fmt::Display) -> Result<T>;
}

impl<T, E: std::error::Error> Context<T> for std::result::Result<T, E> {
    fn doing(self, operation: &'static str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|error| {
            // aya's errors keep the cause, and the verifier's log, in their sources.
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
