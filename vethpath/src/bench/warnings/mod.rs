//! What makes figures less than they seem, each with advice.

use thiserror::Error;

use super::{
    Mode,
    choose::Chosen,
    cpus::Use,
    load::CONGESTION_CONTROL,
    machine::Machine,
    schedule::Rounds,
    statistics::{median, quartiles},
    work::{Spec, Work},
};
use crate::topology::Datapath;

/// Fewer rounds than this make an interval that means little.
const FEW: usize = 5;

/// Stolen time, in percent, that is worth a word.
const MUCH_STOLEN: f64 = 1.0;

/// Quartiles of the cable's medians that are so much apart, as a part of the lower, are worth a word.
const RESTLESS: f64 = 0.1;

/// Time of the measured CPUs that others used, in percent, that is worth a word. The agent alone takes
/// some: it looks at the lab anew each time that programs come or go.
const MUCH_BY_OTHERS: f64 = 15.0;

/// How many times slower than usual the first round is, to be worth a word.
const SLOW: f64 = 1.5;

/// The governor that changes nothing.
const STEADY: &str = "performance";

/// Something that the reader of the figures should know.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Warning {
    /// The plain bridge is slower for it.
    #[error("bridge-nf-call-{0} is on where bridge {1} is: netfilter is part of what the plain bridge costs")]
    BridgeNf(&'static str, String),
    /// Everything else runs on the measured CPU too.
    #[error("there is one CPU only: agent and bench run on the CPU that is measured")]
    OneCpu,
    /// No fast path to measure.
    #[error("{pair} is not armed, so there is no fast path to measure: {reason}")]
    NotArmed {
        /// The pair.
        pair: String,
        /// What the agent says.
        reason: String,
    },
    /// The hypervisor interfered.
    #[error("the hypervisor took {0:.1} % of the measured CPU's time for others")]
    Steal(f64),
    /// A line of log for each frame.
    #[error(
        "this vethpath is built with the feature ebpf-log: its programs write a line for each slow frame"
    )]
    DebugLog,
    /// Without optimisation.
    #[error("this vethpath is a debug build: its own work is part of every round trip")]
    DebugBuild,
    /// The floor itself was not the same all the time.
    #[error(
        "the machine was not quiet: in a quarter of the rounds the cable took {low:.1} us or less, in another {high:.1} us or more"
    )]
    Restless {
        /// The first quartile of the cable's medians, in microseconds.
        low: f64,
        /// The third.
        high: f64,
    },
    /// The clock of the CPU is not steady.
    #[error("the frequency of the measured CPU is governed by `{0}`: figures change with it")]
    Governor(String),
    /// Streams are not measured with the host's own congestion control.
    #[error("TCP streams were measured with {CONGESTION_CONTROL}, and not with `{0}` as is usual here")]
    CongestionControl(String),
    /// Others had work for the measured CPUs.
    #[error("other processes took {0:.0} % of the measured CPUs' time")]
    Neighbour(f64),
    /// The first round was unlike all others.
    #[error("the first round was slow: {first:.1} us over the cable, where {usual:.1} us is usual")]
    SlowFirst {
        /// Its figure, in microseconds.
        first: f64,
        /// The median of all, in microseconds.
        usual: f64,
    },
    /// Few rounds.
    #[error("too few rounds of {} ({rounds}): the interval means little", .case.name())]
    FewRounds {
        /// How many.
        rounds: usize,
        /// Of what.
        case: Spec,
    },
    /// The time was over too early.
    #[error("the interval of {} is still {width:.2} wide, and not {wanted:.2}", .case.name())]
    StillWide {
        /// Of what.
        case: Spec,
        /// From its low to its high end.
        width: f64,
        /// What ends a case before the time is over.
        wanted: f64,
    },
    /// The bridge is as fast as the cable, or noise is larger than the difference.
    #[error("{}: the plain bridge cannot be told from a cable, so nothing is known of its overhead", .0.name())]
    NoOverhead(Spec),
    /// Slow frames in a slice of the fast path.
    #[error("round discarded: {slow} frames took the bridge and {fast} the fast path ({pairs})")]
    NotFast {
        /// Frames by the fast path.
        fast: u64,
        /// Frames by the bridge.
        slow: u64,
        /// What the agent says of the pairs.
        pairs: String,
    },
    /// Frames in a slice of XDP that the tc programs took.
    #[error(
        "round discarded: {fast} frames took the fast path on XDP, and XDP redirected {redirected} alone"
    )]
    NotXdp {
        /// Frames by the fast path.
        fast: u64,
        /// Frames that the ports have sent.
        redirected: u64,
    },
    /// What XDP is for was not measured.
    #[error(
        "XDP was measured with sockets, which pay for it: their frames are copied and their checksums made"
    )]
    SocketsOnXdp,
    /// The lab's own fast path is not the tc programs'.
    #[error("the fast path of {0} is XDP in this lab")]
    FastIsXdp(String),
    /// Fast frames in a slice of the plain bridge.
    #[error("round discarded: {fast} frames took the fast path while its programs were to be off")]
    NotPlain {
        /// Frames by the fast path.
        fast: u64,
    },
    /// No round trip at all in a slice.
    #[error("round discarded: nothing came over the {mode} in time ({})", .case.name())]
    Empty {
        /// The path.
        mode: &'static str,
        /// What was measured.
        case: Spec,
    },
    /// The lab is not as it was.
    #[error("{pair} was armed before and is not any more: {reason}")]
    NotArmedAgain {
        /// The pair.
        pair: String,
        /// What the agent says.
        reason: String,
    },
}

impl Warning {
    /// What to do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::BridgeNf(..) => "set it to 0 with sysctl in that namespace to compare with a bridge alone",
            Self::OneCpu => "measure on a machine with two or more",
            Self::NotArmed { .. } => {
                "`vethpath show` tells the state of each pair; `vethpath up` attaches programs that are off"
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

    /// Whether it is of one round, which was put aside.
    #[must_use]
    pub const fn is_of_a_round(&self) -> bool {
        matches!(
            self,
            Self::NotFast { .. } | Self::NotPlain { .. } | Self::NotXdp { .. } | Self::Empty { .. }
        )
    }

    /// For programs.
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

/// What is so before anything is measured.
#[must_use]
pub fn of_host(chosen: &Chosen, cases: &[Spec], machine: &Machine) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if cfg!(debug_assertions) {
        warnings.push(Warning::DebugBuild);
    }
    if cfg!(feature = "ebpf-log") {
        warnings.push(Warning::DebugLog);
    }
    if machine.cpus == 1 {
        warnings.push(Warning::OneCpu);
    }
    let governor = machine.governor.clone().filter(|governor| governor != STEADY);
    warnings.extend(governor.map(Warning::Governor));
    warnings.extend(bridge_nf(chosen, machine));
    if cases.iter().any(|case| case.work == Work::TcpStream) {
        let other = machine.congestion_control.clone().filter(|name| name != CONGESTION_CONTROL);
        warnings.extend(other.map(Warning::CongestionControl));
    }
    for side in chosen.sides() {
        if let Some(reason) = side.not_armed.clone() {
            warnings.push(Warning::NotArmed { pair: side.pair.name(), reason });
        } else if side.pair.datapath == Datapath::Xdp {
            warnings.push(Warning::FastIsXdp(side.pair.name()));
        }
    }
    warnings
}

/// What came to light while it was measured.
#[must_use]
pub fn of_run(chosen: &Chosen, rounds: &Rounds, used: Use) -> Vec<Warning> {
    let mut warnings = rounds.faults.clone();
    if chosen.is_armed() {
        let few = rounds.tallies.iter().filter(|tally| tally.rounds < FEW);
        warnings.extend(few.map(|tally| Warning::FewRounds { rounds: tally.rounds, case: tally.spec }));
    }
    let steady = rounds.tallies.iter().find(|tally| tally.spec.work.is_latency());
    if let Some(figures) = steady.map(|tally| tally.figures(Mode::Cable)) {
        warnings.extend(slow_first(figures));
        if let Some((low, high)) = quartiles(figures.to_vec())
            && high - low > RESTLESS * low
        {
            warnings.push(Warning::Restless { low, high });
        }
    }
    if used.stolen >= MUCH_STOLEN {
        warnings.push(Warning::Steal(used.stolen));
    }
    if used.by_others >= MUCH_BY_OTHERS {
        warnings.push(Warning::Neighbour(used.by_others));
    }
    warnings
}

fn slow_first(figures: &[f64]) -> Option<Warning> {
    let (&first, usual) = (figures.first()?, median(figures.to_vec())?);
    let is_slow = figures.len() >= FEW && first > usual * SLOW;
    is_slow.then_some(Warning::SlowFirst { first, usual })
}

fn bridge_nf(chosen: &Chosen, machine: &Machine) -> Option<Warning> {
    let name = if chosen.from.address.is_ipv4() { "iptables" } else { "ip6tables" };
    // What cannot be read is nothing to warn of.
    let is_on = machine.bridge_nf_call.get(name).copied().unwrap_or_default();
    is_on.then(|| Warning::BridgeNf(name, chosen.from.pair.bridge.to_string()))
}

#[cfg(test)]
mod tests;
