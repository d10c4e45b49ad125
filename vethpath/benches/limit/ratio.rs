//! A median of ratios, one for each round, and how sure it is.

use std::fmt;

/// A median with its 95 % interval.
pub(crate) struct Ratio {
    value: f64,
    low: f64,
    high: f64,
}

impl Ratio {
    /// Of at least one number. The interval is that between order statistics: it needs no assumption
    /// about how the numbers are spread.
    pub(crate) fn of(ratios: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = ratios.collect();
        sorted.sort_by(f64::total_cmp);
        // 0.98 times the root, rounded up.
        let (half, reach) = (sorted.len() / 2, sorted.len().isqrt() + 1);
        let last = sorted.len() - 1;
        Self {
            value: median(&sorted),
            low: sorted[half.saturating_sub(reach)],
            high: sorted[(half + reach).min(last)],
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:.4} ({:.4} to {:.4})", self.value, self.low, self.high)
    }
}

/// The middle one of at least one number.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}
