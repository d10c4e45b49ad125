//! Errors of `bench`.

use std::io;

use thiserror::Error;

use super::temporary_lab::ShapeError;
use crate::{
    kernel::{self, engine},
    state,
    topology::{IfName, LabName, NsName},
};

/// A failed `bench`. The lab's programs have been attached again unless the variant states otherwise.
#[derive(Debug, Error)]
pub enum Error {
    /// The lab does not exist, or was removed in the meantime.
    #[error("no lab `{0}` is up")]
    NoLab(LabName),
    /// The lab has no two namespaces to measure between.
    #[error("lab `{0}` has no two namespaces with addresses of one subnet on one bridge")]
    NoPairs(LabName),
    /// `--from` or `--to` is not a namespace of the lab.
    #[error("lab `{lab}` has no namespace `{namespace}`")]
    NoNamespace {
        /// The lab.
        lab: LabName,
        /// The requested name.
        namespace: NsName,
    },
    /// The two namespaces are not in one segment, or not in one subnet.
    #[error("`{0}` and `{1}` have no addresses of one subnet on one bridge, or on bridges that trunks join")]
    NotNeighbours(NsName, NsName),
    /// A bridge has no two ports of other programs to measure between.
    #[error("bridge {bridge} has no two accelerated ports with addresses of one subnet behind them")]
    NoGuests {
        /// The bridge.
        bridge: IfName,
    },
    /// `--from` or `--to` is neither a namespace, nor the pid of a process, nor a container.
    #[error("there is no network namespace `{0}`, no process with that pid, and no container of that name")]
    NoSuchNamespace(String),
    /// `--from` or `--to` is a container without a namespace of its own, or an engine does not answer.
    #[error(transparent)]
    Container(#[from] engine::Error),
    /// The two namespaces are not both behind that bridge.
    #[error(
        "`{from}` and `{to}` have no addresses of one subnet behind accelerated ports of bridge {bridge}"
    )]
    NotOnBridge {
        /// The client.
        from: String,
        /// The server.
        to: String,
        /// The bridge.
        bridge: IfName,
    },
    /// Without the agent, nobody knows the ports.
    #[error("the agent of lab `{0}` does not answer")]
    NoAgent(LabName),
    /// Spinning was requested for ends on one CPU, or for connections or streams.
    #[error("{}", spinning(*.two))]
    Spinning {
        /// Whether there are at least two CPUs.
        two: bool,
    },
    /// No lab can be generated in this shape.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// `--cores cross` with one CPU.
    #[error("there is one CPU only, so nothing can be measured across CPUs")]
    OneCpu,
    /// Too many round trips were lost.
    #[error("{to} does not answer {from}: {lost} of {sent} round trips were lost over the {path}")]
    Lost {
        /// The client, with its address.
        from: String,
        /// The server, with its address.
        to: String,
        /// Round trips without a reply.
        lost: u64,
        /// All round trips.
        sent: u64,
        /// The cable, the plain bridge, the fast path or XDP.
        path: &'static str,
    },
    /// A socket operation failed.
    #[error("cannot {operation} between {from} and {to}: {source}")]
    Socket {
        /// The operation.
        operation: &'static str,
        /// The client, with its address.
        from: String,
        /// The server, with its address.
        to: String,
        /// The errno.
        source: io::Error,
    },
    /// A measuring thread could not be started, or has died.
    #[error("cannot run a thread in namespace {namespace}: {cause}")]
    Thread {
        /// Its namespace.
        namespace: String,
        /// The cause.
        cause: String,
    },
    /// A pair is not armed though its program is attached.
    #[error("{pair} was armed before and is not any more: {state}")]
    NotArmed {
        /// The pair.
        pair: String,
        /// The agent's reason.
        state: String,
    },
    /// A port still has its program after the detach.
    #[error("the programs of lab `{0}` are still attached after they were detached")]
    StillAttached(LabName),
    /// No valid round is left.
    #[error("no valid round: {0}")]
    NoRound(String),
    /// SIGINT, SIGTERM or SIGHUP.
    #[error("interrupted")]
    Interrupted,
    /// A kernel operation failed.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// Another vethpath process holds the lab's lock, or the state folder cannot be used.
    #[error(transparent)]
    State(#[from] state::Error),
}

impl Error {
    /// Whether the error is in the user's request rather than in the system.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(
            self,
            Self::NoLab(_)
                | Self::NoPairs(_)
                | Self::NoNamespace { .. }
                | Self::NotNeighbours(..)
                | Self::NoGuests { .. }
                | Self::NoSuchNamespace(_)
                | Self::NotOnBridge { .. }
                | Self::Spinning { .. }
                | Self::OneCpu
                | Self::Shape(_)
        ) || matches!(self, Self::State(error) if error.is_request())
            || matches!(self, Self::Container(error) if error.is_request())
    }

    /// The hint for the user.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoLab(_) => "`vethpath list` shows the labs that are up",
            Self::NoPairs(_) => "`bench` compares paths between two namespaces on a bridge",
            Self::NoNamespace { lab, .. } => {
                return Some(format!("`vethpath show {lab}` lists the lab's namespaces"));
            }
            Self::NotNeighbours(..) => "leave out --from and --to, and `bench` finds two that are",
            Self::NoGuests { .. } | Self::NotOnBridge { .. } => {
                "`vethpath accelerate BRIDGE` shows the bridge's ports, and what is behind them"
            }
            Self::NoSuchNamespace(_) => {
                "`docker ps` or `podman ps` lists containers that run; an engine without a socket is not asked, and \
                 `podman inspect --format '{{.State.Pid}}' NAME` prints a pid"
            }
            Self::NoAgent(_) => "the next `vethpath up` or `vethpath accelerate` starts it",
            Self::Lost { .. } => "see whether ping works between the two, and what filters UDP or TCP there",
            Self::NotArmed { .. } | Self::NoRound(_) => "leave the lab alone while it is measured",
            Self::Spinning { two: true } => "measure round trips with `--wait spinning --cores cross`",
            Self::Spinning { two: false } => "spinning needs a second CPU: measure with `--wait blocking`",
            Self::OneCpu => "measure with `--cores same`, or allow this process a second CPU (taskset)",
            Self::StillAttached(_) => "the next `vethpath up` of the lab's file attaches what is off",
            Self::State(error) => return error.hint(),
            Self::Container(error) => return error.hint(),
            Self::Kernel(error) => return error.hint().map(str::to_owned),
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
