//! What was found: the model of `bench --json`, written and read. See `docs/performance.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    distribution::Distribution,
    machine::Machine,
    modes::Mode,
    statistics::{self, Interval},
    warnings::Warning,
    work::{Better, Cores, Spec, Unit, Wait, Work},
};

/// The version of this model. It grows when something is taken away or means something else: in version 1 UDP round
/// trips were between connected sockets, and packet rates by the time of the sender alone.
pub const VERSION: u32 = 3;

/// One figure for each mode that was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PerMode<T>(BTreeMap<Mode, T>);

impl<T> PerMode<T> {
    /// The figure of a mode. A pair that is not armed has none of the fast path.
    #[must_use]
    pub fn get(&self, mode: Mode) -> Option<&T> {
        self.0.get(&mode)
    }

    /// All, slowest hardware first: cable, bridge, fast, XDP.
    pub fn iter(&self) -> impl Iterator<Item = (Mode, &T)> {
        self.0.iter().map(|(&mode, figure)| (mode, figure))
    }

    /// The same with other figures.
    #[must_use]
    pub fn map<U>(&self, figure: impl Fn(&T) -> U) -> PerMode<U> {
        self.iter().map(|(mode, of)| (mode, figure(of))).collect()
    }
}

impl<T> FromIterator<(Mode, T)> for PerMode<T> {
    fn from_iter<I: IntoIterator<Item = (Mode, T)>>(figures: I) -> Self {
        Self(figures.into_iter().collect())
    }
}

/// What a run has found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`], when it was written.
    pub version: u32,
    /// The lab.
    pub lab: String,
    /// The namespace that asked.
    pub from: String,
    /// The one that answered.
    pub to: String,
    /// How many bridges a frame crosses between the two.
    pub bridges: usize,
    /// How many rounds there were; a case may have fewer.
    pub rounds: usize,
    /// Why there were no more.
    pub ended: Ended,
    /// What makes the figures less than they seem.
    pub warnings: Vec<Caveat>,
    /// Where it was measured, and how it was asked for.
    pub machine: Machine,
    /// Round trips of UDP datagrams with 64 bytes, blocking, both ends on one CPU: one of the cases,
    /// without its histograms. `None` if it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp_rr: Option<PerMode<Distribution>>,
    /// The same over TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_rr: Option<PerMode<Distribution>>,
    /// Of the first case: the part of the bridge's overhead over a cable that the fast path removes;
    /// `None` where it cannot be told.
    pub overhead_removed: Option<Interval>,
    /// Everything that was measured, the case that the answer is of first.
    pub cases: Vec<Case>,
}

/// Why there were no more rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Why.
    pub why: Why,
    /// How wide the interval was by then, if there was one: of `overhead_removed` for latencies, of
    /// fast/bridge for rates.
    pub width: Option<f64>,
    /// How wide it might be.
    pub wanted: f64,
}

/// See [`Ended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The interval was narrow enough.
    Narrow,
    /// The time was over.
    Time,
}

/// One kind of work, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// What was done.
    pub work: Work,
    /// Bytes of a message, datagram or write.
    pub size: usize,
    /// How the ends waited.
    pub wait: Wait,
    /// Where they ran.
    pub placement: Placement,
    /// What the figures are in.
    pub unit: Unit,
    /// Which of two is the better one.
    pub better: Better,
    /// How many rounds the figures are of.
    pub rounds: usize,
    /// Why there were no more.
    pub ended: Ended,
    /// The figures: `latency` or `rate`.
    #[serde(flatten)]
    pub results: Results,
    /// The fast path's figure as a part of the bridge's: the median of the rounds' ratios.
    pub fast_to_bridge: Option<Interval>,
    /// The fast path's figure as a part of the cable's.
    pub fast_to_cable: Option<Interval>,
    /// The part of the bridge's overhead over a cable that the fast path removes, of the time that
    /// each round trip, connection, bit or datagram takes. `None` where it cannot be told.
    pub overhead_removed: Option<Interval>,
    /// The figure of XDP as a part of the bridge's, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xdp_to_bridge: Option<Interval>,
    /// The figure of XDP as a part of the cable's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xdp_to_cable: Option<Interval>,
    /// As `overhead_removed`, by XDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xdp_overhead_removed: Option<Interval>,
}

impl Case {
    /// What it is, without the CPUs.
    #[must_use]
    pub fn spec(&self) -> Spec {
        Spec { work: self.work, size: self.size, wait: self.wait, cores: self.placement.cores }
    }

    /// The figure of each mode in the case's unit: the median of the rounds' medians, or of their rates. Ratios
    /// are of rounds too.
    #[must_use]
    pub fn figures(&self) -> PerMode<f64> {
        match &self.results {
            Results::Latency(latency) => latency.map(Distribution::middle),
            Results::Rate(rate) => rate.map(|rate| rate.median),
        }
    }

    /// The figure of a mode, with the interval that its rounds tell.
    #[must_use]
    pub fn interval(&self, mode: Mode) -> Option<Interval> {
        let value = *self.figures().get(mode)?;
        let rounds = statistics::middle(self.by_round().get(mode)?);
        let (low, high) = rounds.map_or((value, value), |rounds| (rounds.low, rounds.high));
        Some(Interval { value, low: low.min(value), high: high.max(value) })
    }

    /// The figure of a mode as a part of the cable's.
    #[must_use]
    pub fn to_cable(&self, mode: Mode) -> Option<Interval> {
        let rounds = self.by_round();
        statistics::ratio(rounds.get(mode)?, rounds.get(Mode::Cable)?)
    }

    /// The fast path's figure as a part of the plain bridge's, in each round.
    #[must_use]
    pub fn ratios(&self) -> Vec<f64> {
        let rounds = self.by_round();
        let (Some(fast), Some(bridge)) = (rounds.get(Mode::Fast), rounds.get(Mode::Bridge)) else {
            return Vec::new();
        };
        fast.iter().zip(*bridge).map(|(fast, bridge)| fast / bridge).filter(|r| r.is_finite()).collect()
    }

    /// The figure of each round.
    #[must_use]
    pub fn by_round(&self) -> PerMode<&[f64]> {
        match &self.results {
            Results::Latency(latency) => {
                latency.iter().map(|(mode, d)| (mode, &d.round_p50_us[..])).collect()
            }
            Results::Rate(rate) => rate.iter().map(|(mode, rate)| (mode, &rate.rounds[..])).collect(),
        }
    }
}

/// The CPUs of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Whether they are one.
    pub cores: Cores,
    /// Of the end that asks or sends.
    pub from_cpu: usize,
    /// Of the other one.
    pub to_cpu: usize,
}

/// The figures of a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Results {
    /// Times of round trips.
    Latency(PerMode<Distribution>),
    /// So much in a second.
    Rate(PerMode<Rate>),
}

/// How much was done in a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// The median of the rounds.
    pub median: f64,
    /// Each round, in order.
    pub rounds: Vec<f64>,
    /// Connections, bytes or datagrams sent, warm-ups included.
    pub sent: u64,
    /// Those of them that arrived.
    pub received: u64,
    /// The part of them that did not arrive, from 0 to 1.
    pub loss: f64,
}

/// A [`Warning`] as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caveat {
    /// For programs.
    pub kind: String,
    /// What is so.
    pub message: String,
    /// What to do about it.
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
