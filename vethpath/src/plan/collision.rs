//! Names that are in use by objects that are not the lab's.

use thiserror::Error;

use crate::topology::{LabName, NsName, Place};

/// An object that is not the lab's has a name that the lab needs.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Collision {
    /// A namespace.
    #[error("namespace `{name}` already exists and is {}", of_whom(.owner.as_ref()))]
    Namespace {
        /// Its name.
        name: NsName,
        /// The lab that it belongs to, if any.
        owner: Option<LabName>,
    },
    /// A link.
    #[error("interface `{name}` already exists in {place} and is {}", of_whom(.owner.as_ref()))]
    Link {
        /// Its place.
        place: Place,
        /// Its name.
        name: String,
        /// The lab that it belongs to, if any.
        owner: Option<LabName>,
    },
    /// A link with the derived name of a port, which is not in the file.
    #[error(
        "interface `{name}` already exists in {place} and is not this lab's; the port of {of} needs that name"
    )]
    Port {
        /// Its place.
        place: Place,
        /// Its name.
        name: String,
        /// The pair or trunk, such as `pair ns0:eth0`.
        of: String,
    },
}

impl Collision {
    /// Whether the name is in the file and can be changed there.
    #[must_use]
    pub fn is_in_the_file(&self) -> bool {
        !matches!(self, Self::Port { .. })
    }

    /// The other lab that uses the name.
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
