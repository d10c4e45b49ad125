//! Names that somebody else has taken.

use thiserror::Error;

use crate::topology::{LabName, NsName, Place};

/// Something that is not ours has a name that the lab wants.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Collision {
    /// A namespace.
    #[error("namespace `{name}` already exists and is {}", of_whom(.owner.as_ref()))]
    Namespace {
        /// Its name.
        name: NsName,
        /// The lab that has made it, if one has.
        owner: Option<LabName>,
    },
    /// A link.
    #[error("interface `{name}` already exists in {place} and is {}", of_whom(.owner.as_ref()))]
    Link {
        /// Where.
        place: Place,
        /// Its name.
        name: String,
        /// The lab that has made it, if one has.
        owner: Option<LabName>,
    },
    /// A link with a name that no file has: that of a port.
    #[error(
        "interface `{name}` already exists in {place} and is not this lab's; the port of {of} needs that name"
    )]
    Port {
        /// Where.
        place: Place,
        /// Its name.
        name: String,
        /// The pair or trunk, such as `pair ns0:eth0`.
        of: String,
    },
}

impl Collision {
    /// Whether the file has the name, and can have another.
    #[must_use]
    pub fn is_in_the_file(&self) -> bool {
        !matches!(self, Self::Port { .. })
    }

    /// The other lab that has the name.
    #[must_use]
    pub fn owner(&self) -> Option<&LabName> {
        match self {
            Self::Namespace { owner, .. } | Self::Link { owner, .. } => owner.as_ref(),
            Self::Port { .. } => None,
        }
    }
}

fn of_whom(owner: Option<&LabName>) -> String {
    owner.map_or("not this lab's".to_owned(), |owner| format!("lab `{owner}`'s, not this lab's"))
}
