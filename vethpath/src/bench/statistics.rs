//! From round trips to figures. Pure.

use hdrhistogram::Histogram;
use serde::Serialize;

/// How often the rounds are drawn anew for the interval.
const RESAMPLES: usize = 1000;

/// The interval leaves out one resample in so many at each side: 95 %.
const TAIL: usize = 40;

/// Resamples are drawn alike each time, so that the same rounds give the same interval.
const SEED: u64 = 0x7665_7468;

/// Round trip times of one mode, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Distribution {
    /// Median.
    pub p50_us: f64,
    /// Nine in ten were not longer.
    pub p90_us: f64,
    /// 99 in 100 were not longer.
    pub p99_us: f64,
    /// Mean.
    pub mean_us: f64,
    /// How many were measured.
    pub n: u64,
    /// Datagrams that had no answer, and were asked again.
    pub lost: u64,
    /// The median of each round, in the order of the rounds.
    pub round_p50_us: Vec<f64>,
}

impl Distribution {
    /// Over all rounds: their histograms in nanoseconds, and how many datagrams were lost.
    #[must_use]
    pub fn of(rounds: &[&Histogram<u64>], lost: u64) -> Self {
        let mut all = rounds.first().map_or_else(empty, |first| Histogram::new_from(first));
        for round in rounds {
            // They are made alike, so nothing can be out of range.
            let _ = all.add(*round);
        }
        Self {
            p50_us: at(&all, 0.5),
            p90_us: at(&all, 0.9),
            p99_us: at(&all, 0.99),
            mean_us: microseconds(all.mean()),
            n: all.len(),
            lost,
            round_p50_us: rounds.iter().map(|round| at(round, 0.5)).collect(),
        }
    }
}

/// A figure, and the 95 % interval that it is likely to be in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The figure.
    pub value: f64,
    /// The interval's low end.
    pub low: f64,
    /// Its high end.
    pub high: f64,
}

/// The part of the bridge's overhead over a cable that the fast path removes:
/// `(bridge - fast) / (bridge - cable)`, from the medians of each round. Above and below the line is
/// the median of the rounds' differences, so that what slows a whole round down cancels out. The
/// interval is by bootstrap: rounds are drawn with replacement, all modes of a round together.
/// `None` where the bridge cannot be told from a cable.
#[must_use]
pub fn overhead_removed(cable: &[f64], bridge: &[f64], fast: &[f64]) -> Option<Interval> {
    let rounds = cable.len().min(bridge.len()).min(fast.len());
    let removed = |drawn: &[usize]| {
        let below_bridge =
            |mode: &[f64]| median(drawn.iter().map(|&round| bridge[round] - mode[round]).collect());
        let (removed, overhead) = (below_bridge(fast)?, below_bridge(cable)?);
        (overhead > 0.0).then(|| removed / overhead)
    };
    let value = removed(&(0..rounds).collect::<Vec<_>>())?;
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut draw = || (0..rounds).map(|_| rng.usize(..rounds)).collect::<Vec<_>>();
    let mut resamples: Vec<f64> = (0..RESAMPLES).filter_map(|_| removed(&draw())).collect();
    // Where some have no overhead to speak of, the interval has no end.
    if resamples.len() < RESAMPLES - RESAMPLES / TAIL {
        return None;
    }
    resamples.sort_by(f64::total_cmp);
    let tail = resamples.len() / TAIL;
    let (low, high) = (resamples[tail], resamples[resamples.len() - 1 - tail]);
    Some(Interval { value: rounded(value), low: rounded(low), high: rounded(high) })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some(f64::midpoint(values[middle - 1], upper)) }
}

fn at(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    // Exact to three digits; far below 2^53.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of at most a second")]
    microseconds(histogram.value_at_quantile(quantile) as f64)
}

fn microseconds(nanoseconds: f64) -> f64 {
    rounded(nanoseconds / 1000.0)
}

/// To three decimals: the histogram has no more.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn empty() -> Histogram<u64> {
    // The least that there is; it cannot be refused.
    Histogram::new(0).unwrap_or_else(|_| unreachable!("a histogram without limits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        values.into_iter().for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    #[test]
    fn quantiles_are_those_of_all_rounds() {
        let (fast, slow) = (histogram(1..=1000), histogram(1001..=2000));
        let d = Distribution::of(&[&fast, &slow], 3);
        assert_eq!((d.p50_us, d.p90_us, d.p99_us), (1.0, 1.8, 1.98));
        assert_eq!((d.mean_us, d.n, d.lost), (1.001, 2000, 3));
        assert_eq!(d.round_p50_us, [0.5, 1.5]);
        assert_eq!(Distribution::of(&[], 0).n, 0);
    }

    #[test]
    fn the_overhead_is_what_the_medians_say() {
        let one = overhead_removed(&[10.0; 5], &[14.0; 5], &[11.0; 5]).unwrap();
        assert_eq!(one, Interval { value: 0.75, low: 0.75, high: 0.75 });
        let slower = overhead_removed(&[10.0; 5], &[12.0; 5], &[13.0; 5]).unwrap();
        assert_eq!(slower.value, -0.5, "a fast path that is slower is said to be so");
    }

    #[test]
    fn what_slows_whole_rounds_down_cancels_out() {
        let drift = |at: f64| [0.0, 5.0, 1.0, 9.0, 3.0].map(|slower| at + slower);
        let removed = overhead_removed(&drift(10.0), &drift(14.0), &drift(11.0)).unwrap();
        assert_eq!(removed, Interval { value: 0.75, low: 0.75, high: 0.75 });
    }

    #[test]
    fn the_interval_holds_the_value_and_widens_with_noise() {
        let cable = [10.0, 10.1, 9.9, 10.0, 10.2, 9.8, 10.0, 10.1];
        let bridge = [13.0, 13.1, 12.9, 13.2, 12.8, 13.0, 13.1, 12.9];
        let calm = [10.5, 10.6, 10.5, 10.4, 10.5, 10.6, 10.5, 10.4];
        let wild = [10.5, 11.6, 9.5, 12.4, 10.5, 11.6, 9.9, 10.4];
        let calm = overhead_removed(&cable, &bridge, &calm).unwrap();
        let wild = overhead_removed(&cable, &bridge, &wild).unwrap();
        for interval in [calm, wild] {
            assert!(interval.low <= interval.value && interval.value <= interval.high, "{interval:?}");
        }
        assert!(wild.high - wild.low > calm.high - calm.low, "{calm:?} {wild:?}");
    }

    #[test]
    fn nothing_is_said_of_a_bridge_like_a_cable() {
        assert_eq!(overhead_removed(&[10.0; 4], &[10.0; 4], &[10.0; 4]), None);
        assert_eq!(overhead_removed(&[10.0, 10.0, 12.0], &[11.0, 9.0, 13.0], &[10.0; 3]), None);
        assert_eq!(overhead_removed(&[], &[], &[]), None);
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }
}
