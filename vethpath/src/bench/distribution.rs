//! Statistics of round-trip times. Pure.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use vethpath_figures::statistics::{median, rounded};

/// Significant bits of a time that define its bucket: times of one bucket are within 0.8 % of each other.
const KEPT_BITS: u32 = 8;

/// Round-trip times of one mode, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p99_9_us: f64,
    /// The shortest.
    pub min_us: f64,
    /// The longest.
    pub max_us: f64,
    /// Mean.
    pub mean_us: f64,
    /// How many were measured.
    pub n: u64,
    /// Datagrams without a reply, which were sent again.
    pub lost: u64,
    /// The median of each round, in the order of the rounds.
    pub round_p50_us: Vec<f64>,
    /// The histogram as (time, count), by ascending time. Each time stands for those within 0.4 % of it. The counts sum
    /// up to `n`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub histogram: Vec<(f64, u64)>,
}

impl Distribution {
    /// From a histogram in nanoseconds, the median of each round in microseconds, and the number of lost datagrams.
    #[must_use]
    pub fn of(all: &Histogram<u64>, round_p50_us: Vec<f64>, lost: u64) -> Self {
        let at = |quantile| microseconds(all.value_at_quantile(quantile));
        Self {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            min_us: if all.is_empty() { 0.0 } else { microseconds(all.min()) },
            max_us: microseconds(all.max()),
            mean_us: rounded(all.mean() / 1000.0),
            n: all.len(),
            lost,
            round_p50_us,
            histogram: buckets(all),
        }
    }

    /// The median of the rounds' medians. An outlier round moves it less than it moves the median of all round trips.
    #[must_use]
    pub fn middle(&self) -> f64 {
        median(self.round_p50_us.clone()).map_or(self.p50_us, rounded)
    }

    /// Without the histogram, which only charts need.
    #[must_use]
    pub fn brief(&self) -> Self {
        Self { histogram: Vec::new(), round_p50_us: self.round_p50_us.clone(), ..*self }
    }
}

/// The median of a histogram of nanoseconds, in microseconds.
#[must_use]
pub fn median_us(histogram: &Histogram<u64>) -> f64 {
    microseconds(histogram.value_at_quantile(0.5))
}

fn buckets(all: &Histogram<u64>) -> Vec<(f64, u64)> {
    let mut buckets = BTreeMap::new();
    for recorded in all.iter_recorded() {
        *buckets.entry(bucket(recorded.value_iterated_to())).or_insert(0) += recorded.count_at_value();
    }
    buckets.into_iter().map(|(nanoseconds, count)| (microseconds(nanoseconds), count)).collect()
}

/// The middle of the bucket that contains a number of nanoseconds.
fn bucket(nanoseconds: u64) -> u64 {
    let dropped = (u64::BITS - nanoseconds.leading_zeros()).saturating_sub(KEPT_BITS);
    let low = (nanoseconds >> dropped) << dropped;
    low + (1 << dropped) / 2
}

fn microseconds(nanoseconds: u64) -> f64 {
    // Exact to three digits; far below 2^53.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of at most a second")]
    rounded(nanoseconds as f64 / 1000.0)
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
        let d = Distribution::of(&histogram(1..=2000), vec![0.5, 1.6], 3);
        assert_eq!((d.p50_us, d.p90_us, d.p99_us, d.p99_9_us), (1.0, 1.8, 1.98, 1.998));
        assert_eq!((d.min_us, d.max_us, d.mean_us, d.n, d.lost), (0.001, 2.0, 1.001, 2000, 3));
        assert_eq!((d.round_p50_us.as_slice(), d.middle()), ([0.5, 1.6].as_slice(), 1.05));
        assert_eq!(Distribution::of(&histogram([]), vec![], 0).n, 0);
    }

    #[test]
    fn the_compact_histogram_has_all_round_trips_near_their_times() {
        let d = Distribution::of(&histogram((1..=5000).map(|n| n * 7)), vec![], 0);
        assert_eq!(d.histogram.iter().map(|(_, count)| count).sum::<u64>(), 5000);
        assert!(d.histogram.is_sorted_by(|(a, _), (b, _)| a < b));
        assert!(d.histogram.len() < 1000, "{}", d.histogram.len());
        for time in [1_u64, 255, 256, 4999, 5_000, 123_456, 999_999_999] {
            let off = bucket(time).abs_diff(time);
            assert!(off * 250 <= time, "{time} is in the bucket of {}", bucket(time));
        }
        assert!(d.brief().histogram.is_empty());
    }
}
