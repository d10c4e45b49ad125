//! Statistics of rounds, with confidence intervals. Pure.

use serde::{Deserialize, Serialize};

/// Bootstrap resamples per interval.
const RESAMPLES: usize = 1000;

/// One in this many resamples is cut off at each end: 95 %.
const TAIL: usize = 40;

/// A fixed seed, so that the same rounds give the same interval.
const SEED: u64 = 0x7665_7468;

/// A figure with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The figure.
    pub value: f64,
    /// The interval's low end.
    pub low: f64,
    /// Its high end.
    pub high: f64,
}

/// The part of the bridge's overhead over a cable that the fast path removes: `(bridge - fast) / (bridge - cable)`,
/// from the medians of each round. Numerator and denominator are medians of the rounds' differences, so that a slowdown
/// of a whole round cancels out. The interval is by bootstrap: rounds are drawn with replacement, all modes of a round
/// together. `None` if the bridge is not slower than a cable.
#[must_use]
pub fn overhead_removed(cable: &[f64], bridge: &[f64], fast: &[f64]) -> Option<Interval> {
    let rounds = cable.len().min(bridge.len()).min(fast.len());
    let removed = |drawn: &[usize]| {
        let below_bridge =
            |mode: &[f64]| median(drawn.iter().map(|&round| bridge[round] - mode[round]).collect());
        let (removed, overhead) = (below_bridge(fast)?, below_bridge(cable)?);
        (overhead > 0.0).then(|| removed / overhead)
    };
    interval(rounds, removed)
}

/// The median of the rounds' ratios of one mode's figure to another's. `None` without rounds.
#[must_use]
pub fn ratio(of: &[f64], to: &[f64]) -> Option<Interval> {
    interval(of.len().min(to.len()), |drawn| {
        let ratio = median(drawn.iter().map(|&round| of[round] / to[round]).collect())?;
        ratio.is_finite().then_some(ratio)
    })
}

/// The median of the rounds' figures. `None` without rounds.
#[must_use]
pub fn middle(rounds: &[f64]) -> Option<Interval> {
    interval(rounds.len(), |drawn| median(drawn.iter().map(|&round| rounds[round]).collect()))
}

/// Returns `figure` of all rounds, and the interval that contains it in 95 % of the resamples (of the same size, with
/// replacement).
fn interval(rounds: usize, figure: impl Fn(&[usize]) -> Option<f64>) -> Option<Interval> {
    let value = figure(&(0..rounds).collect::<Vec<_>>())?;
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut draw = || (0..rounds).map(|_| rng.usize(..rounds)).collect::<Vec<_>>();
    let mut resamples: Vec<f64> = (0..RESAMPLES).filter_map(|_| figure(&draw())).collect();
    // A resample without a figure (such as a bridge as fast as a cable) could be anything, so it counts beyond both
    // ends. If there are more of them than are cut off, the interval is unbounded.
    let beyond = RESAMPLES - resamples.len();
    let tail = (RESAMPLES / TAIL).checked_sub(beyond)?;
    resamples.sort_by(f64::total_cmp);
    let (low, high) = (resamples[tail], resamples[resamples.len() - 1 - tail]);
    Some(Interval { value: rounded(value), low: rounded(low), high: rounded(high) })
}

/// The first and the third quartile.
#[must_use]
pub fn quartiles(mut values: Vec<f64>) -> Option<(f64, f64)> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some((values[last / 4], values[last - last / 4]))
}

/// The middle value, or the mean of the two middle ones.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some(f64::midpoint(values[middle - 1], upper)) }
}

/// Rounded to three decimals, the histogram's precision.
#[must_use]
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

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
    fn draws_without_a_figure_are_beyond_both_ends() {
        // The first call is for all rounds. Each draw then returns its number.
        let with = |without: usize| {
            let calls = Cell::new(0);
            interval(1, |_| match calls.replace(calls.get() + 1) {
                0 => Some(500.0),
                draw if draw <= without => None,
                draw => Some(f64::from(u32::try_from(draw).unwrap())),
            })
        };
        let at = |low, high| Some(Interval { value: 500.0, low, high });
        assert_eq!(with(0), at(26.0, 975.0));
        // Of 21 to 1000, five are cut off at each end.
        assert_eq!(with(20), at(26.0, 995.0));
        assert_eq!(with(25), at(26.0, 1000.0));
        assert_eq!(with(26), None);
    }

    #[test]
    fn a_ratio_is_of_rounds() {
        let ratio_of = |of: &[f64], to: &[f64]| ratio(of, to).unwrap();
        let half = ratio_of(&[5.0, 6.0, 7.0], &[10.0, 12.0, 14.0]);
        assert_eq!(half, Interval { value: 0.5, low: 0.5, high: 0.5 });
        assert_eq!(ratio(&[], &[]), None);
        assert_eq!(ratio(&[1.0; 3], &[0.0; 3]), None);
    }

    #[test]
    fn the_middle_of_rounds_is_between_them() {
        let Interval { value, low, high } = middle(&[5.0, 5.1, 4.9, 5.0, 9.0]).unwrap();
        assert!(value == 5.0 && (4.9..=5.0).contains(&low) && (5.0..=9.0).contains(&high));
        assert_eq!(middle(&[]), None);
    }

    #[test]
    fn medians_and_quartiles() {
        assert_eq!(quartiles((1..=9).map(f64::from).rev().collect()), Some((3.0, 7.0)));
        assert_eq!(quartiles(vec![1.0]), Some((1.0, 1.0)));
        assert_eq!(quartiles(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }
}
