//! The model of `bench --json`, serialized and deserialized. See `docs/performance.md`.

use serde::{Deserialize, Serialize};

use vethpath_figures::statistics::{self, Interval};

use super::{
    distribution::Distribution,
    machine::Machine,
    mode::{Mode, PerMode},
    warning::Caveat,
    workload::{Better, Placement, Spec, Unit, Wait, Workload},
};

/// The version of this model. It increases when a field is removed or changes its meaning. In version 1 UDP round trips
/// used connected sockets, and packet rates used the sender's time only.
pub const VERSION: u32 = 3;

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
    pub work: Workload,
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

/// A fixed report for the tests of the renderers.
#[cfg(test)]
pub(crate) mod samples {
    use super::{
        Case, Caveat, Distribution, Ended, Interval, Machine, Mode, Placement, Rate, Report, Results, Spec,
        VERSION, Wait, Why, Workload,
    };
    use crate::bench::{warning::Warning, workload::Cores};

    fn distribution(p50_us: f64) -> Distribution {
        Distribution {
            p50_us,
            p90_us: p50_us + 1.0,
            p99_us: p50_us + 9.0,
            p99_9_us: p50_us + 20.0,
            min_us: p50_us - 1.0,
            max_us: p50_us + 100.0,
            mean_us: p50_us + 0.25,
            n: 2000,
            lost: 0,
            round_p50_us: vec![p50_us + 0.1; 2],
            histogram: vec![(p50_us, 1000), (p50_us + 0.1, 900), (p50_us + 100.0, 100)],
        }
    }

    fn rate(median: f64) -> Rate {
        Rate { median, rounds: vec![median, median * 1.01], sent: 5000, received: 5000, loss: 0.0 }
    }

    fn case(spec: Spec, results: Results) -> Case {
        let Spec { work, size, wait, cores } = spec;
        Case {
            work,
            size,
            wait,
            placement: Placement { cores, from_cpu: 1, to_cpu: usize::from(cores == Cores::Same) },
            unit: work.unit(),
            better: work.better(),
            rounds: 2,
            ended: Ended { why: Why::Narrow, width: Some(0.08), wanted: 0.1 },
            results,
            fast_to_bridge: Some(Interval { value: 0.822, low: 0.81, high: 0.83 }),
            fast_to_cable: Some(Interval { value: 1.05, low: 1.04, high: 1.06 }),
            overhead_removed: Some(Interval { value: 0.821, low: 0.78, high: 0.86 }),
            xdp_to_bridge: None,
            xdp_to_cable: None,
            xdp_overhead_removed: None,
        }
    }

    /// A run with a latency and a rate.
    pub(crate) fn report() -> Report {
        let latency = [(Mode::Cable, 10.1), (Mode::Bridge, 12.9), (Mode::Fast, 10.6)];
        let latency = latency.map(|(mode, p50_us)| (mode, distribution(p50_us)));
        let rates = [(Mode::Cable, 600e3), (Mode::Bridge, 400e3), (Mode::Fast, 550e3)];
        let rates = rates.map(|(mode, median)| (mode, rate(median)));
        let stream = Spec { work: Workload::UdpRate, size: 64, wait: Wait::Blocking, cores: Cores::Cross };
        let round_trips = case(Spec::UDP, Results::Latency(latency.clone().into_iter().collect()));
        Report {
            version: VERSION,
            lab: "lab".into(),
            from: "ns0".into(),
            to: "ns1".into(),
            bridges: 1,
            rounds: 2,
            ended: round_trips.ended,
            warnings: vec![Caveat::from(&Warning::OneCpu)],
            machine: Machine { cpus: 2, vethpath: "0.1.0".into(), ..Machine::default() },
            udp_rr: Some(latency.iter().map(|(mode, d)| (*mode, d.brief())).collect()),
            tcp_rr: None,
            overhead_removed: round_trips.overhead_removed,
            cases: vec![round_trips, case(stream, Results::Rate(rates.into_iter().collect()))],
        }
    }

    /// The same report with XDP.
    pub(crate) fn with_xdp() -> Report {
        let mut report = report();
        let case = &mut report.cases[0];
        let Results::Latency(latency) = &case.results else { return report };
        let all = latency.iter().map(|(mode, d)| (mode, d.clone())).chain([(Mode::Xdp, distribution(12.5))]);
        case.results = Results::Latency(all.collect());
        case.xdp_to_bridge = Some(Interval { value: 0.969, low: 0.96, high: 0.98 });
        case.xdp_to_cable = Some(Interval { value: 1.237, low: 1.23, high: 1.25 });
        case.xdp_overhead_removed = Some(Interval { value: 0.143, low: 0.12, high: 0.16 });
        report
    }
}
