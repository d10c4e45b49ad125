//! Accumulates the results of a case. Pure.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use vethpath_figures::statistics::{Interval, median, overhead_removed, ratio};

use super::{
    distribution::Distribution,
    measurement::Measurement,
    mode::{Mode, PerMode},
    report::{Ended, Rate, Results, Why},
    workload::{Better, Spec},
};

/// Target width of the interval of the overhead removed.
const NARROW_OVERHEAD: f64 = 0.05;

/// Target width of the interval of fast path to bridge, for rates.
const NARROW_RATIO: f64 = 0.03;

/// A case and its results.
#[derive(Clone, Debug)]
pub struct Tally {
    /// The case.
    pub spec: Spec,
    /// Valid rounds.
    pub rounds: usize,
    /// Why measuring ended; `None` until then.
    pub ended: Option<Ended>,
    modes: BTreeMap<Mode, Sum>,
}

/// The sums of one mode.
#[derive(Clone, Debug, Default)]
struct Sum {
    histogram: Option<Histogram<u64>>,
    /// The figure of each round.
    figures: Vec<f64>,
    sent: u64,
    received: u64,
}

impl Tally {
    /// An empty tally.
    #[must_use]
    pub fn new(spec: Spec) -> Self {
        Self { spec, rounds: 0, ended: None, modes: BTreeMap::new() }
    }

    /// Adds a round. Every slice must have a figure.
    pub fn add(&mut self, slices: impl Iterator<Item = (Mode, Measurement)>) {
        self.rounds += 1;
        for (mode, measured) in slices {
            let sum = self.modes.entry(mode).or_default();
            sum.figures.extend(measured.figure(self.spec.work));
            sum.sent += measured.sent;
            sum.received += measured.received;
            match (&mut sum.histogram, measured.histogram) {
                (Some(all), Some(more)) => {
                    // They have the same bounds, so this cannot fail.
                    let _ = all.add(more);
                }
                (all @ None, more) => *all = more,
                (Some(_), None) => {}
            }
        }
    }

    /// The figures of a mode, one for each round.
    #[must_use]
    pub fn figures(&self, mode: Mode) -> &[f64] {
        self.modes.get(&mode).map(|sum| &sum.figures[..]).unwrap_or_default()
    }

    /// A mode's figure divided by another's.
    #[must_use]
    pub fn ratio(&self, of: Mode, to: Mode) -> Option<Interval> {
        ratio(self.figures(of), self.figures(to))
    }

    /// The part of the bridge's overhead that a mode removes, of the time per round trip, connection, bit or datagram.
    #[must_use]
    pub fn overhead_removed(&self, by: Mode) -> Option<Interval> {
        let times = |mode| -> Vec<f64> {
            let figures = self.figures(mode).iter();
            match self.spec.work.better() {
                Better::Lower => figures.copied().collect(),
                Better::Higher => figures.map(|figure| 1.0 / figure).collect(),
            }
        };
        overhead_removed(&times(Mode::Cable), &times(Mode::Bridge), &times(by))
    }

    /// The width of the interval that decides whether to continue.
    #[must_use]
    pub fn width(&self) -> Option<f64> {
        let interval = if self.spec.work.is_latency() {
            self.overhead_removed(Mode::Fast)
        } else {
            self.ratio(Mode::Fast, Mode::Bridge)
        };
        interval.map(|interval| interval.high - interval.low)
    }

    /// Its target width.
    #[must_use]
    pub fn wanted(&self) -> f64 {
        if self.spec.work.is_latency() { NARROW_OVERHEAD } else { NARROW_RATIO }
    }

    /// Ends the case if its interval has reached the target width.
    pub fn end_if_narrow(&mut self) {
        let (width, wanted) = (self.width(), self.wanted());
        if width.is_some_and(|width| width <= wanted) {
            self.ended = Some(Ended { why: Why::Narrow, width, wanted });
        }
    }

    /// The results for the report.
    #[must_use]
    pub fn results(&self) -> Results {
        if self.spec.work.is_latency() {
            Results::Latency(self.per_mode(Sum::distribution))
        } else {
            Results::Rate(self.per_mode(|sum| Some(sum.rate())))
        }
    }

    fn per_mode<T>(&self, figure: impl Fn(&Sum) -> Option<T>) -> PerMode<T> {
        self.modes.iter().filter_map(|(&mode, sum)| Some((mode, figure(sum)?))).collect()
    }
}

impl Sum {
    fn distribution(&self) -> Option<Distribution> {
        let all = self.histogram.as_ref()?;
        Some(Distribution::of(all, self.figures.clone(), self.sent - self.received))
    }

    fn rate(&self) -> Rate {
        let lost = self.sent - self.received.min(self.sent);
        #[expect(clippy::cast_precision_loss, reason = "a part of a whole")]
        let loss = if self.sent == 0 { 0.0 } else { lost as f64 / self.sent as f64 };
        Rate {
            median: median(self.figures.clone()).unwrap_or_default(),
            rounds: self.figures.clone(),
            sent: self.sent,
            received: self.received,
            loss,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::Workload;

    fn counted(within: u64) -> Measurement {
        let second = Duration::from_secs(1);
        Measurement { within, sent: 2000, received: 1500, window: second, ..Measurement::counted() }
    }

    #[test]
    fn the_overhead_of_rates_is_of_the_time_each_takes() {
        let mut tally = Tally::new(Spec { work: Workload::UdpRate, ..Spec::UDP });
        for _ in 0..20 {
            // 1 ms, 2 ms, 1.25 ms.
            let slices = [(Mode::Cable, 1000), (Mode::Bridge, 500), (Mode::Fast, 800)];
            tally.add(slices.into_iter().map(|(mode, within)| (mode, counted(within))));
        }
        assert_eq!(tally.overhead_removed(Mode::Fast).unwrap().value, 0.75);
        assert_eq!(tally.ratio(Mode::Fast, Mode::Bridge).unwrap().value, 1.6);
        assert_eq!(tally.ratio(Mode::Fast, Mode::Cable).unwrap().value, 0.8);
        let Results::Rate(rates) = tally.results() else { panic!("a rate") };
        let fast = rates.get(Mode::Fast).unwrap();
        assert_eq!((fast.median, fast.loss, fast.rounds.len()), (800.0, 0.25, 20));
        tally.end_if_narrow();
        assert_eq!(tally.ended.unwrap().why, Why::Narrow);
    }
}
