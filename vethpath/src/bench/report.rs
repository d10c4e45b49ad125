//! The model of `bench --json`, serialized and deserialized. See `docs/performance.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use vethpath_figures::statistics::{self, Interval};

use super::{
    distribution::Distribution,
    machine::Machine,
    modes::Mode,
    warnings::Warning,
    work::{Better, Cores, Spec, Unit, Wait, Work},
};

/// The version of this model. It increases when a field is removed or changes its meaning. In version 1 UDP round trips
/// used connected sockets, and packet rates used the sender's time only.
pub const VERSION: u32 = 3;

/// One figure for each mode that was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PerMode<T>(BTreeMap<Mode, T>);

impl<T> PerMode<T> {
    /// The figure of a mode. A pair that is not armed has none for the fast path.
    #[must_use]
    pub fn get(&self, mode: Mode) -> Option<&T> {
        self.0.get(&mode)
    }

    /// All figures, in the order cable, bridge, fast, XDP.
    pub fn iter(&self) -> impl Iterator<Item = (Mode, &T)> {
        self.0.iter().map(|(&mode, figure)| (mode, figure))
    }

    /// The figures converted by a function.
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

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`] of the program that wrote it.
    pub version: u32,
    /// The lab.
    pub lab: String,
    /// The client namespace.
    pub from: String,
    /// The server namespace.
    pub to: String,
    /// How many bridges a frame crosses between the two.
    pub bridges: usize,
    /// How many rounds there were; a case may have fewer.
    pub rounds: usize,
    /// Why measuring ended.
    pub ended: Ended,
    /// Caveats about the figures.
    pub warnings: Vec<Caveat>,
    /// The machine, and the command line.
    pub machine: Machine,
    /// UDP round trips of 64 bytes, blocking, both ends on one CPU: one of the cases, without its histograms. `None` if
    /// it was not requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp_rr: Option<PerMode<Distribution>>,
    /// The same over TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_rr: Option<PerMode<Distribution>>,
    /// For the first case: the part of the bridge's overhead over a cable that the fast path removes. `None` if it
    /// cannot be determined.
    pub overhead_removed: Option<Interval>,
    /// All measured cases. The first one is the headline result.
    pub cases: Vec<Case>,
}

/// Why measuring ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// The reason.
    pub why: Why,
    /// The width of the interval at the end, if there was one: of `overhead_removed` for latencies, of fast/bridge for
    /// rates.
    pub width: Option<f64>,
    /// The target width.
    pub wanted: f64,
}

/// See [`Ended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The interval reached the target width.
    Narrow,
    /// The time limit was reached.
    Time,
}

/// One kind of work, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// The kind of work.
    pub work: Work,
    /// Bytes of a message, datagram or write.
    pub size: usize,
    /// How the ends waited.
    pub wait: Wait,
    /// Where they ran.
    pub placement: Placement,
    /// The unit of the figures.
    pub unit: Unit,
    /// Which of two figures is better.
    pub better: Better,
    /// How many rounds the figures are from.
    pub rounds: usize,
    /// Why measuring ended.
    pub ended: Ended,
    /// The figures: `latency` or `rate`.
    #[serde(flatten)]
    pub results: Results,
    /// The fast path's figure divided by the bridge's: the median of the rounds' ratios.
    pub fast_to_bridge: Option<Interval>,
    /// The fast path's figure divided by the cable's.
    pub fast_to_cable: Option<Interval>,
    /// The part of the bridge's overhead over a cable that the fast path removes, of the time per round trip,
    /// connection, bit or datagram. `None` if it cannot be determined.
    pub overhead_removed: Option<Interval>,
    /// The figure of XDP divided by the bridge's, if it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xdp_to_bridge: Option<Interval>,
    /// The figure of XDP divided by the cable's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xdp_to_cable: Option<Interval>,
    /// Like `overhead_removed`, for XDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xdp_overhead_removed: Option<Interval>,
}

impl Case {
    /// The case without the CPU numbers.
    #[must_use]
    pub fn spec(&self) -> Spec {
        Spec { work: self.work, size: self.size, wait: self.wait, cores: self.placement.cores }
    }

    /// The figure of each mode in the case's unit: the median of the rounds' medians, or of their rates. Ratios are
    /// computed per round too.
    #[must_use]
    pub fn figures(&self) -> PerMode<f64> {
        match &self.results {
            Results::Latency(latency) => latency.map(Distribution::middle),
            Results::Rate(rate) => rate.map(|rate| rate.median),
        }
    }

    /// The figure of a mode, with the interval from its rounds.
    #[must_use]
    pub fn interval(&self, mode: Mode) -> Option<Interval> {
        let value = *self.figures().get(mode)?;
        let rounds = statistics::middle(self.by_round().get(mode)?);
        let (low, high) = rounds.map_or((value, value), |rounds| (rounds.low, rounds.high));
        Some(Interval { value, low: low.min(value), high: high.max(value) })
    }

    /// The figure of a mode divided by the cable's.
    #[must_use]
    pub fn to_cable(&self, mode: Mode) -> Option<Interval> {
        let rounds = self.by_round();
        statistics::ratio(rounds.get(mode)?, rounds.get(Mode::Cable)?)
    }

    /// The fast path's figure divided by the plain bridge's, for each round.
    #[must_use]
    pub fn ratios(&self) -> Vec<f64> {
        let rounds = self.by_round();
        let (Some(fast), Some(bridge)) = (rounds.get(Mode::Fast), rounds.get(Mode::Bridge)) else {
            return Vec::new();
        };
        fast.iter().zip(*bridge).map(|(fast, bridge)| fast / bridge).filter(|r| r.is_finite()).collect()
    }

    /// The figures of each round.
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
    /// Whether they share one CPU.
    pub cores: Cores,
    /// The CPU of the client or sender.
    pub from_cpu: usize,
    /// The CPU of the other end.
    pub to_cpu: usize,
}

/// The figures of a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Results {
    /// Round-trip times.
    Latency(PerMode<Distribution>),
    /// Rates per second.
    Rate(PerMode<Rate>),
}

/// A rate per second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// The median of the rounds.
    pub median: f64,
    /// Each round's rate, in order.
    pub rounds: Vec<f64>,
    /// Connections, bytes or datagrams sent, including warm-ups.
    pub sent: u64,
    /// How many of them arrived.
    pub received: u64,
    /// The fraction that did not arrive, from 0 to 1.
    pub loss: f64,
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
