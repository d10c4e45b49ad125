//! Why nothing could be measured.

use std::io;

use thiserror::Error;

use crate::{
    datapath, kernel, state,
    topology::{LabName, NsName},
};

/// A failed `bench`. The lab's programs are attached again unless it says otherwise.
#[derive(Debug, Error)]
pub enum Error {
    /// Nothing in the lab to measure between.
    #[error("lab `{0}` has no two namespaces with addresses of one subnet on one bridge")]
    NoPairs(LabName),
    /// `--from` or `--to` names none of the lab's.
    #[error("lab `{lab}` has no namespace `{namespace}`")]
    NoNamespace {
        /// The lab.
        lab: LabName,
        /// What was asked for.
        namespace: NsName,
    },
    /// The two are not on one bridge, or not in one subnet.
    #[error("`{0}` and `{1}` have no addresses of one subnet on one bridge, or on bridges that trunks join")]
    NotNeighbours(NsName, NsName),
    /// Datagrams get lost, and not just a few.
    #[error("{to} does not answer {from}: {lost} of {asked} datagrams were lost over the {path}")]
    Lost {
        /// Who asked, with its address.
        from: String,
        /// Who should have answered, with its address.
        to: String,
        /// Datagrams without an answer.
        lost: u64,
        /// Datagrams sent.
        asked: u64,
        /// The cable, the plain bridge or the fast path.
        path: &'static str,
    },
    /// A socket was refused.
    #[error("cannot {operation} between {from} and {to}: {source}")]
    Socket {
        /// What was tried.
        operation: &'static str,
        /// Who asks, with its address.
        from: String,
        /// Who answers, with its address.
        to: String,
        /// The errno.
        source: io::Error,
    },
    /// A measuring thread could not be had, or has died.
    #[error("cannot run a thread in namespace {namespace}: {cause}")]
    Thread {
        /// Where.
        namespace: String,
        /// Why.
        cause: String,
    },
    /// The agent does not arm a pair whose program is attached.
    #[error("{pair} was armed before and is not any more: {state}")]
    NotArmed {
        /// The pair.
        pair: String,
        /// What the agent says.
        state: String,
    },
    /// A port keeps its program.
    #[error("the programs of lab `{0}` are still attached after they were detached")]
    StillAttached(LabName),
    /// No round is left to tell anything from.
    #[error("no round was as it should be: {0}")]
    NoRound(String),
    /// SIGINT, SIGTERM or SIGHUP.
    #[error("interrupted")]
    Interrupted,
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A program, link or map was refused.
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    /// Another vethpath is at work on the lab, or its state folder was refused.
    #[error(transparent)]
    State(#[from] state::Error),
}

impl Error {
    /// Whether the user's request is at fault, rather than the system.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(
            self,
            Self::NoPairs(_)
                | Self::NoNamespace { .. }
                | Self::NotNeighbours(..)
                | Self::State(state::Error::Busy(_))
        )
    }

    /// What may help.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoPairs(_) => "`bench` compares paths between two namespaces on a bridge",
            Self::NoNamespace { lab, .. } => {
                return Some(format!("`vethpath show {lab}` lists the lab's namespaces"));
            }
            Self::NotNeighbours(..) => "leave out --from and --to, and `bench` finds two that are",
            Self::Lost { .. } => "see whether ping works between the two, and what filters UDP there",
            Self::NotArmed { .. } | Self::NoRound(_) => "leave the lab alone while it is measured",
            Self::StillAttached(_) => "the next `vethpath up` of the lab's file attaches what is off",
            Self::State(state::Error::Busy(_)) => "wait until it is done",
            Self::Kernel(error) => return error.hint().map(str::to_owned),
            Self::Datapath(error) => return error.hint().map(str::to_owned),
            Self::Socket { .. } | Self::Thread { .. } | Self::Interrupted | Self::State(_) => return None,
        };
        Some(hint.to_owned())
    }
}
