//! A reason to distrust the figures, with advice.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{load::CONGESTION_CONTROL, workload::Spec};

/// A caveat about the figures.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Warning {
    /// Netfilter makes the plain bridge slower.
    #[error("bridge-nf-call-{0} is on where bridge {1} is: netfilter is part of what the plain bridge costs")]
    BridgeNf(&'static str, String),
    /// All other processes share the measured CPU.
    #[error("there is one CPU only: agent and bench run on the CPU that is measured")]
    OneCpu,
    /// A pair is not armed, so there is no fast path to measure.
    #[error("{pair} is not armed, so there is no fast path to measure: {reason}")]
    NotArmed {
        /// The pair.
        pair: String,
        /// The agent's reason.
        reason: String,
    },
    /// The hypervisor took CPU time.
    #[error("the hypervisor took {0:.1} % of the measured CPU's time for others")]
    Steal(f64),
    /// The programs log each slow frame.
    #[error(
        "this vethpath is built with the feature ebpf-log: its programs write a line for each slow frame"
    )]
    DebugLog,
    /// Built without optimisation.
    #[error("this vethpath is a debug build: its own work is part of every round trip")]
    DebugBuild,
    /// The baseline varied.
    #[error(
        "the machine was not quiet: in a quarter of the rounds the cable took {low:.1} us or less, in another {high:.1} us or more"
    )]
    Restless {
        /// The first quartile of the cable's medians, in microseconds.
        low: f64,
        /// The third.
        high: f64,
    },
    /// The CPU frequency may vary.
    #[error("the frequency of the measured CPU is governed by `{0}`: figures change with it")]
    Governor(String),
    /// TCP streams do not use the host's default congestion control.
    #[error("TCP streams were measured with {CONGESTION_CONTROL}, and not with `{0}` as is usual here")]
    CongestionControl(String),
    /// Other processes used the measured CPUs.
    #[error("other processes took {0:.0} % of the measured CPUs' time")]
    Neighbour(f64),
    /// The first round was an outlier.
    #[error("the first round was slow: {first:.1} us over the cable, where {usual:.1} us is usual")]
    SlowFirst {
        /// Its median, in microseconds.
        first: f64,
        /// The median of all, in microseconds.
        usual: f64,
    },
    /// There were too few rounds.
    #[error("too few rounds of {} ({rounds}): the interval means little", .case.name())]
    FewRounds {
        /// How many.
        rounds: usize,
        /// The case.
        case: Spec,
    },
    /// The time limit was reached before the interval was narrow enough.
    #[error("the interval of {} is still {width:.2} wide, and not {wanted:.2}", .case.name())]
    StillWide {
        /// The case.
        case: Spec,
        /// The width of the interval.
        width: f64,
        /// The target width.
        wanted: f64,
    },
    /// The bridge is as fast as the cable, or noise is larger than the difference.
    #[error("{}: the plain bridge cannot be distinguished from a cable, so its overhead is unknown", .0.name())]
    NoOverhead(Spec),
    /// A slice of the fast path had slow frames.
    #[error("round discarded: {slow} frames took the bridge and {fast} the fast path ({pairs})")]
    NotFast {
        /// Frames by the fast path.
        fast: u64,
        /// Frames by the bridge.
        slow: u64,
        /// The agent's state of the pairs.
        pairs: String,
    },
    /// A slice of XDP had frames that the tc programs took.
    #[error(
        "round discarded: {fast} frames took the fast path on XDP, and XDP redirected {redirected} alone"
    )]
    NotXdp {
        /// Frames by the fast path.
        fast: u64,
        /// Frames that the ports have sent.
        redirected: u64,
    },
    /// XDP was measured with sockets, not with frames that stay in XDP.
    #[error(
        "XDP was measured with sockets, which pay for it: their frames are copied and their checksums made"
    )]
    SocketsOnXdp,
    /// The lab's own fast path is XDP, not tc.
    #[error("the fast path of {0} is XDP in this lab")]
    FastIsXdp(String),
    /// A slice of the plain bridge had fast frames.
    #[error("round discarded: {fast} frames took the fast path while its programs were to be off")]
    NotPlain {
        /// Frames by the fast path.
        fast: u64,
    },
    /// A slice had no result.
    #[error("round discarded: nothing came over the {mode} in time ({})", .case.name())]
    Empty {
        /// The path.
        mode: &'static str,
        /// The case.
        case: Spec,
    },
    /// The lab's state has changed.
    #[error("{pair} was armed before and is not any more: {reason}")]
    NotArmedAgain {
        /// The pair.
        pair: String,
        /// The agent's reason.
        reason: String,
    },
}

impl Warning {
    /// The advice.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::BridgeNf(..) => "set it to 0 with sysctl in that namespace to compare with a bridge alone",
            Self::OneCpu => "measure on a machine with two or more",
            Self::NotArmed { .. } => {
                "`vethpath show` shows the state of each pair; `vethpath up` attaches programs that are off"
            }
            Self::Steal(_) | Self::Restless { .. } | Self::Neighbour(_) => {
                "measure again when the host is quiet, and compare the intervals"
            }
            Self::Governor(_) => "set it to `performance` (cpupower frequency-set -g performance) to measure",
            Self::CongestionControl(_) => {
                "nothing: a congestion control that paces would hide what the path can carry"
            }
            Self::SlowFirst { .. } => "measure longer: one round of many counts for little",
            Self::DebugLog => "build without that feature to measure",
            Self::DebugBuild => "build with --release to measure",
            Self::FewRounds { .. } | Self::NoOverhead(_) | Self::StillWide { .. } => {
                "measure longer: --seconds 60 or more, or less at once: --work"
            }
            Self::SocketsOnXdp => {
                "compare datapaths for frames that never become a socket's with `cargo bench --bench frames`"
            }
            Self::FastIsXdp(_) => {
                "set `datapath = \"tc\"` in the lab's file to measure the fast path for sockets"
            }
            Self::NotFast { .. } | Self::NotPlain { .. } | Self::NotXdp { .. } | Self::Empty { .. } => {
                "leave the lab alone while it is measured"
            }
            Self::NotArmedAgain { .. } => "`vethpath up` with the lab's file puts right what it can",
        }
    }

    /// Whether the warning is about a single round, which was discarded.
    #[must_use]
    pub const fn is_of_a_round(&self) -> bool {
        matches!(
            self,
            Self::NotFast { .. } | Self::NotPlain { .. } | Self::NotXdp { .. } | Self::Empty { .. }
        )
    }

    /// Machine-readable name.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::BridgeNf(..) => "bridge-nf-call",
            Self::OneCpu => "one-cpu",
            Self::NotArmed { .. } => "not-armed",
            Self::Steal(_) => "steal",
            Self::Restless { .. } => "restless",
            Self::DebugLog => "ebpf-log",
            Self::DebugBuild => "debug-build",
            Self::Governor(_) => "cpu-frequency",
            Self::CongestionControl(_) => "congestion-control",
            Self::Neighbour(_) => "neighbour",
            Self::SlowFirst { .. } => "slow-first-round",
            Self::FewRounds { .. } => "few-rounds",
            Self::StillWide { .. } => "still-wide",
            Self::NoOverhead(_) => "no-overhead",
            Self::NotFast { .. } => "not-fast",
            Self::NotPlain { .. } => "not-plain",
            Self::NotXdp { .. } => "not-xdp",
            Self::SocketsOnXdp => "sockets-on-xdp",
            Self::FastIsXdp(_) => "fast-is-xdp",
            Self::Empty { .. } => "empty",
            Self::NotArmedAgain { .. } => "not-armed-again",
        }
    }
}

/// The serialized form of a [`Warning`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caveat {
    /// Machine-readable kind.
    pub kind: String,
    /// The message.
    pub message: String,
    /// The advice.
    pub advice: String,
}

impl From<&Warning> for Caveat {
    fn from(warning: &Warning) -> Self {
        Self {
            kind: warning.kind().to_owned(),
            message: warning.to_string(),
            advice: warning.advice().to_owned(),
        }
    }
}
