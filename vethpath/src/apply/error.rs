//! Why a lab could not be brought up or taken down.

use thiserror::Error;

use crate::{
    datapath, kernel,
    plan::Collision,
    state,
    topology::{LabName, NsName},
};

/// A failed `up` or `down`. What the run had done is undone unless it says otherwise.
#[derive(Debug, Error)]
pub enum Error {
    /// Names are taken.
    #[error("{}", list(.0))]
    Collisions(Vec<Collision>),
    /// A namespace cannot be adopted.
    #[error("cannot adopt {path} as namespace `{namespace}`: {cause}")]
    Adopt {
        /// Its name in the lab.
        namespace: NsName,
        /// What the file says.
        path: String,
        /// What is wrong with that.
        cause: String,
    },
    /// The lab is up from another file.
    #[error("lab `{0}` is up with another topology")]
    Changed(LabName),
    /// No such lab.
    #[error("no lab `{0}` is up")]
    NoLab(LabName),
    /// A setting of the file does not exist, or cannot have that value.
    #[error("{0}")]
    Setting(#[source] kernel::Error),
    /// The kernel has no XDP that can be relied on.
    #[error("the file asks for XDP, and this kernel does not tell which devices take XDP frames: {0}")]
    NoXdp(#[source] kernel::ExchangeError),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A program, link or map was refused.
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    /// The state folder was refused.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The agent did not come up.
    #[error("the agent of lab `{lab}` did not come up: {cause}")]
    Agent {
        /// The lab.
        lab: LabName,
        /// What it said.
        cause: String,
    },
    /// SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// Something went wrong and could not be undone wholly.
    #[error("{cause}\nand what had been done could not all be undone: {left}")]
    NotUndone {
        /// The first fault.
        cause: Box<Error>,
        /// The faults of undoing.
        left: String,
    },
}

impl Error {
    /// What writing a setting of the file has come to.
    pub(super) fn of_setting(error: kernel::Error) -> Self {
        if error.is_missing() || error.is_invalid() || error.is_forbidden() {
            Self::Setting(error)
        } else {
            error.into()
        }
    }

    /// Whether the user's request is at fault, rather than the system.
    #[must_use]
    pub fn is_request(&self) -> bool {
        match self {
            Self::Collisions(_)
            | Self::Adopt { .. }
            | Self::Setting(_)
            | Self::Changed(_)
            | Self::NoLab(_)
            | Self::State(state::Error::Busy(_)) => true,
            Self::NotUndone { cause, .. } => cause.is_request(),
            _ => false,
        }
    }

    /// What may help.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Collisions(all) => {
                let way = if all.iter().any(Collision::is_in_the_file) {
                    "rename it in the file, or remove what is there"
                } else {
                    "remove what is there"
                };
                Some(format!("{way}; vethpath never touches what is not its own"))
            }
            Self::Setting(error) => Some(if error.is_missing() {
                "look for its name with `sysctl -a`, in a namespace like that one: not every setting is in each"
                    .to_owned()
            } else {
                "give it a value that this kernel takes; some settings cannot be written in a namespace"
                    .to_owned()
            }),
            Self::Adopt { .. } => Some(
                "adopt the pid of a process that runs in a network namespace of its own, or the path of one"
                    .to_owned(),
            ),
            Self::Changed(lab) => {
                Some(format!("`vethpath down {lab}` first, then up again with the new file"))
            }
            Self::NoLab(_) => Some("`vethpath list` shows the labs that are up".to_owned()),
            Self::NoXdp(_) => Some(
                "use Linux 6.3 or later, or write datapath = \"tc\", which is the faster one for sockets"
                    .to_owned(),
            ),
            Self::Kernel(error) => error.hint().map(str::to_owned),
            Self::Datapath(error) => error.hint().map(str::to_owned),
            Self::State(state::Error::Busy(_)) => Some("wait until it is done".to_owned()),
            Self::State(state::Error::Journal { .. }) => {
                Some("use the vethpath that brought the lab up, or give `down` the lab's file".to_owned())
            }
            Self::State(_) | Self::Interrupted => None,
            Self::Agent { .. } => Some("`vethpath doctor` shows what may be missing".to_owned()),
            Self::NotUndone { .. } => Some("`vethpath down` tries again".to_owned()),
        }
    }
}

fn list(collisions: &[Collision]) -> String {
    collisions.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
