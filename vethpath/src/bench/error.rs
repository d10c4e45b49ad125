//! Why nothing could be measured.

use std::io;

use thiserror::Error;

use super::Shape;
use crate::{
    datapath, kernel, state,
    topology::{LabName, NsName},
};

/// A failed `bench`. The lab's programs are attached again unless it says otherwise.
#[derive(Debug, Error)]
pub enum Error {
    /// The lab went down meanwhile.
    #[error("no lab `{0}` is up")]
    NoLab(LabName),
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
    /// Two ends that spin on one CPU, or connections and streams that spin.
    #[error("{}", spinning(*.two))]
    Spinning {
        /// Whether there are two CPUs.
        two: bool,
    },
    /// A lab that cannot be thought up.
    #[error("there is no lab of the shape {0:?}")]
    Shape(Shape),
    /// `--cores cross` with one CPU.
    #[error("there is one CPU only, so nothing can be measured across CPUs")]
    OneCpu,
    /// Round trips get lost, and not just a few.
    #[error("{to} does not answer {from}: {lost} of {asked} round trips were lost over the {path}")]
    Lost {
        /// Who asked, with its address.
        from: String,
        /// Who should have answered, with its address.
        to: String,
        /// Those without an answer.
        lost: u64,
        /// All of them.
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
    #[error("no valid round: {0}")]
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
            Self::NoLab(_)
                | Self::NoPairs(_)
                | Self::NoNamespace { .. }
                | Self::NotNeighbours(..)
                | Self::Spinning { .. }
                | Self::OneCpu
                | Self::Shape(_)
        ) || matches!(self, Self::State(error) if error.is_request())
    }

    /// What may help.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoLab(_) => "`vethpath list` shows the labs that are up",
            Self::NoPairs(_) => "`bench` compares paths between two namespaces on a bridge",
            Self::NoNamespace { lab, .. } => {
                return Some(format!("`vethpath show {lab}` lists the lab's namespaces"));
            }
            Self::NotNeighbours(..) => "leave out --from and --to, and `bench` finds two that are",
            Self::Lost { .. } => "see whether ping works between the two, and what filters UDP or TCP there",
            Self::NotArmed { .. } | Self::NoRound(_) => "leave the lab alone while it is measured",
            Self::Spinning { two: true } => "measure round trips with `--wait spinning --cores cross`",
            Self::Spinning { two: false } => "spinning needs a second CPU: measure with `--wait blocking`",
            Self::OneCpu => "measure with `--cores same`, or allow this process a second CPU (taskset)",
            Self::StillAttached(_) => "the next `vethpath up` of the lab's file attaches what is off",
            Self::State(error) => return error.hint(),
            Self::Kernel(error) => return error.hint().map(str::to_owned),
            Self::Datapath(error) => return error.hint().map(str::to_owned),
            Self::Socket { .. } | Self::Thread { .. } | Self::Interrupted | Self::Shape(_) => return None,
        };
        Some(hint.to_owned())
    }
}

fn spinning(two: bool) -> &'static str {
    if two {
        "only round trips across CPUs can be measured spinning: of two ends that spin on one CPU each \
         waits for the other's time slice, which is far longer than the path"
    } else {
        "with one CPU nothing can be measured spinning: each end would wait for the other's time slice"
    }
}
