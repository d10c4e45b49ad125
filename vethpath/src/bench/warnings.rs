//! What makes figures less than they seem, each with advice.

use thiserror::Error;

use super::{
    Mode, choose::Chosen, distribution::median_us, end, machine, schedule::Rounds, statistics::quartiles,
};
/// Fewer rounds than this make an interval that means little.
const FEW: usize = 5;

/// Stolen time, in percent, that is worth a word.
const MUCH_STOLEN: f64 = 1.0;

/// Quartiles of the cable's medians that are so much apart, as a part of the lower, are worth a word.
const RESTLESS: f64 = 0.1;

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
    /// Few rounds.
    #[error("only {0} rounds: the interval means little")]
    FewRounds(usize),
    /// The bridge is as fast as the cable, or noise is larger than the difference.
    #[error("the plain bridge cannot be told from a cable: nothing is known of its overhead")]
    NoOverhead,
    /// Slow frames in a slice of the fast path.
    #[error("a round was put aside: {slow} frames took the bridge and {fast} the fast path ({pairs})")]
    NotFast {
        /// Frames by the fast path.
        fast: u64,
        /// Frames by the bridge.
        slow: u64,
        /// What the agent says of the pairs.
        pairs: String,
    },
    /// Fast frames in a slice of the plain bridge.
    #[error("a round was put aside: {fast} frames took the fast path while its programs were to be off")]
    NotPlain {
        /// Frames by the fast path.
        fast: u64,
    },
    /// No round trip at all in a slice.
    #[error("a round was put aside: nothing was answered over the {mode} in time")]
    Empty {
        /// The path.
        mode: &'static str,
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
            Self::Steal(_) | Self::Restless { .. } => {
                "measure again when the host is quiet, and compare the intervals"
            }
            Self::DebugLog => "build without that feature to measure",
            Self::DebugBuild => "build with --release to measure",
            Self::FewRounds(_) | Self::NoOverhead => "measure longer: --seconds 20 or more",
            Self::NotFast { .. } | Self::NotPlain { .. } | Self::Empty { .. } => {
                "leave the lab alone while it is measured"
            }
            Self::NotArmedAgain { .. } => "`vethpath up` with the lab's file puts right what it can",
        }
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
            Self::FewRounds(_) => "few-rounds",
            Self::NoOverhead => "no-overhead",
            Self::NotFast { .. } => "not-fast",
            Self::NotPlain { .. } => "not-plain",
            Self::Empty { .. } => "empty",
            Self::NotArmedAgain { .. } => "not-armed-again",
        }
    }
}

/// What is so before anything is measured.
#[must_use]
pub fn of_host(chosen: &Chosen) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if cfg!(debug_assertions) {
        warnings.push(Warning::DebugBuild);
    }
    if cfg!(feature = "ebpf-log") {
        warnings.push(Warning::DebugLog);
    }
    if end::cpus().len() == 1 {
        warnings.push(Warning::OneCpu);
    }
    warnings.extend(bridge_nf(chosen));
    for side in chosen.sides() {
        if let Some(reason) = side.not_armed.clone() {
            warnings.push(Warning::NotArmed { pair: side.pair.name(), reason });
        }
    }
    warnings
}

/// What came to light while it was measured.
#[must_use]
pub fn of_run(chosen: &Chosen, rounds: &Rounds, stolen: f64) -> Vec<Warning> {
    let mut warnings = rounds.faults.clone();
    if chosen.is_armed() && rounds.good.len() < FEW {
        warnings.push(Warning::FewRounds(rounds.good.len()));
    }
    let cable = rounds.good.iter().filter_map(|round| round.get(&Mode::Cable));
    if let Some((low, high)) = quartiles(cable.map(|slice| median_us(&slice.histogram)).collect())
        && high - low > RESTLESS * low
    {
        warnings.push(Warning::Restless { low, high });
    }
    if stolen >= MUCH_STOLEN {
        warnings.push(Warning::Steal(stolen));
    }
    warnings
}

fn bridge_nf(chosen: &Chosen) -> Option<Warning> {
    // What cannot be read is nothing to warn of.
    let calls = machine::bridge_calls(chosen)?;
    let name = match chosen.from.address {
        std::net::IpAddr::V4(_) => calls.iptables.then_some("iptables")?,
        std::net::IpAddr::V6(_) => calls.ip6tables.then_some("ip6tables")?,
    };
    Some(Warning::BridgeNf(name, chosen.from.pair.bridge.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::Caveat;

    #[test]
    fn a_warning_says_what_and_advises() {
        let json = serde_json::to_value(Caveat::from(&Warning::FewRounds(2))).unwrap();
        let expected = serde_json::json!({
            "kind": "few-rounds",
            "message": "only 2 rounds: the interval means little",
            "advice": "measure longer: --seconds 20 or more",
        });
        assert_eq!(json, expected);
    }
}
