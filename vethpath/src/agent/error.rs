//! Why the agent exits or retries.

use thiserror::Error;

use crate::{kernel, state};

/// Why the agent exits, or what it retries each second. All frames take the slow path meanwhile.
#[derive(Debug, Error)]
pub enum Error {
    /// The lab already has an agent.
    #[error("the lab has an agent already")]
    Another,
    /// The lab's state folder or pins were removed, or belong to another lab of the same name by now.
    #[error("the lab's state folder or pins belong to another agent")]
    Replaced,
    /// The agent was started in other namespaces than the lab's.
    #[error("the lab lives in other namespaces")]
    Elsewhere,
    /// The lab is not up.
    #[error("the lab is not up")]
    NoLab,
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The state folder was refused.
    #[error(transparent)]
    State(#[from] state::Error),
}
