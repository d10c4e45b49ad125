//! What ends an agent.

use std::io;

use thiserror::Error;

use crate::{agent::privileges::PrivilegeError, datapath, kernel, state};

/// Why an agent ends in failure. The lease then runs out, and the bridge goes on.
#[derive(Debug, Error)]
pub enum Error {
    /// The lab has an agent.
    #[error("the lab has an agent already")]
    Another,
    /// The lab's state folder or its pins were removed, or another lab of the name has taken them.
    #[error("the lab's state folder or its pins are not this agent's any more")]
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
    /// A program or map was refused.
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    /// The state folder was refused.
    #[error(transparent)]
    State(#[from] state::Error),
    /// Privileges could not be given up.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// The socket, a signal or a clock was refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}
