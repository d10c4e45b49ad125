//! The errors of a task, with hints and exit codes.

use std::{io, path::PathBuf, process::ExitStatus};

use thiserror::Error;

/// The name of the stage behind `cargo xtask test --kernel`.
pub(crate) const KERNELS: &str = "kernels";

/// Why a task stopped.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// A program could not be started.
    #[error("cannot run `{command}`")]
    Start {
        /// The command line.
        command: String,
        /// The system's error.
        source: io::Error,
    },
    /// A program failed and has printed the reason.
    #[error("`{command}` failed ({status})")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status.
        status: ExitStatus,
    },
    /// A requirement could not be installed.
    #[error("cannot install {names}")]
    Install {
        /// What was to be installed.
        names: String,
        /// The command that failed.
        #[source]
        source: Box<Error>,
    },
    /// A requirement is missing, and xtask must not or cannot install it.
    #[error("this machine lacks {names}, and {obstacle}")]
    Lacking {
        /// What is missing.
        names: String,
        /// Why it was not installed.
        obstacle: &'static str,
        /// How to install it by hand.
        hint: String,
    },
    /// The installation succeeded, but the probe does not find the requirement.
    #[error("{name} was installed, but {found}")]
    NotFound {
        /// What was installed.
        name: &'static str,
        /// What the probe found instead.
        found: String,
    },
    /// The chore needs root, since it changes the network of this machine.
    #[error("`cargo xtask {chore}` needs root: it makes network namespaces and loads eBPF programs")]
    NeedsRoot {
        /// The chore and its arguments.
        chore: String,
    },
    /// A stage of the tests failed.
    #[error("stage `{stage}` failed")]
    Stage {
        /// Its name.
        stage: &'static str,
        /// The command that failed.
        #[source]
        source: Box<Error>,
    },
    /// Integration tests failed; their output has been shown. Each with the reason.
    #[error("failed: {}", .0.join("\n  "))]
    TestsFailed(Vec<String>),
    /// No integration test matches.
    #[error("no integration test is selected by `{0}`")]
    NoTests(String),
    /// Cargo's output does not name the test binary.
    #[error("cargo names no binary of the integration tests")]
    NoTestBinary,
    /// The suite has none of the selected stages.
    #[error("this suite has no such stage")]
    NoStages,
    /// The tests passed but left resources behind.
    #[error("the tests left things behind: {}", .0.join(", "))]
    LeftBehind(Vec<String>),
    /// A system call failed.
    #[error("cannot {operation}")]
    System {
        /// The operation.
        operation: &'static str,
        /// The errno.
        source: nix::Error,
    },
    /// A file cannot be read or written.
    #[error("cannot read or write {}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A guest could not be prepared, failed, or timed out.
    #[error("{0}")]
    Guest(String),
    /// The figures are missing or invalid.
    #[error("cannot make figures: {0}")]
    Figures(String),
    /// SIGINT, SIGTERM or SIGHUP.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The hint for the user.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Install { .. } => Some(
                "its messages are above. Without network, connect and run `cargo xtask setup` again: \
                 it goes on where it stopped"
                    .to_owned(),
            ),
            Self::Lacking { hint, .. } => Some(hint.clone()),
            Self::NotFound { .. } => {
                Some("put the folder it was installed to into PATH, before any other copy of it".to_owned())
            }
            Self::NeedsRoot { chore } => Some(format!("sudo -E env PATH=\"$PATH\" cargo xtask {chore}")),
            Self::Stage { stage: KERNELS, .. } => {
                Some("run one alone with `cargo xtask test --kernel NAME`".to_owned())
            }
            Self::Stage { stage, .. } => Some(format!("run it alone with `cargo xtask test --only {stage}`")),
            Self::LeftBehind(_) => Some("`vethpath list` and `vethpath down LAB` remove labs".to_owned()),
            Self::Figures(_) => Some("`cargo xtask figures`, as root, measures again".to_owned()),
            Self::Start { .. }
            | Self::Failed { .. }
            | Self::TestsFailed(_)
            | Self::NoTests(_)
            | Self::NoTestBinary
            | Self::NoStages
            | Self::System { .. }
            | Self::Guest(_)
            | Self::File { .. }
            | Self::Interrupted => None,
        }
    }

    /// 1: the checked code or the request is wrong; 2: the machine is; 130: interrupted.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Failed { .. }
            | Self::TestsFailed(_)
            | Self::NoTests(_)
            | Self::NoStages
            | Self::Stage { .. }
            | Self::LeftBehind(_) => 1,
            Self::Interrupted => 130,
            _ => 2,
        }
    }
}
