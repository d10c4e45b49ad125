//! The positions of an axis's ticks.

/// Round numbers from `low` to `high`, approximately `about` of them.
pub(super) fn linear(low: f64, high: f64, about: f64) -> Vec<f64> {
    let wanted = (high - low) / about;
    if !(wanted.is_finite() && wanted > 0.0) {
        return vec![low];
    }
    let power = 10_f64.powf(wanted.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = step.into_iter().find(|&step| step >= wanted).unwrap_or(wanted);
    let first = (low / step).ceil();
    let tick = |index: u32| (first + f64::from(index)) * step;
    (0..1000).map(tick).take_while(|&tick| tick <= high + step * 1e-9).collect()
}

/// Round numbers from `low` to `high` (above zero) on a logarithmic axis. A wider range has fewer per decade.
pub(super) fn logarithmic(low: f64, high: f64) -> Vec<f64> {
    let decades = (high / low).log10();
    let steps: &[f64] = match decades {
        d if d < 0.5 => return linear(low, high, 6.0),
        d if d < 1.1 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
        d if d < 2.2 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let powers = (-6..10).map(|power| 10_f64.powi(power));
    let all = powers.flat_map(|power| steps.iter().map(move |step| step * power));
    all.filter(|tick| (low..=high).contains(tick)).collect()
}

/// A number with the digits that ticks at intervals of `step` need.
pub(super) fn plain(value: f64, step: f64) -> String {
    let places = [1.0, 0.1, 0.01].iter().position(|&place| step >= place * 0.999).unwrap_or(3);
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_numbers() {
        let near = |of: Vec<f64>, to: &[f64]| {
            assert_eq!(of.len(), to.len(), "{of:?}");
            of.iter().zip(to).for_each(|(a, b)| assert!((a - b).abs() < 1e-9, "{of:?}"));
        };
        near(linear(0.0, 12.9, 5.0), &[0.0, 5.0, 10.0]);
        near(linear(0.78, 0.86, 4.0), &[0.78, 0.8, 0.82, 0.84, 0.86]);
        near(linear(1.0, 1.0, 4.0), &[1.0]);
        near(logarithmic(4.0, 30.0), &[4.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0]);
        near(logarithmic(4.0, 90_000.0), &[10.0, 100.0, 1000.0, 10_000.0]);
        near(logarithmic(5.0, 6.0), &[5.0, 5.2, 5.4, 5.6, 5.8, 6.0]);
    }

    #[test]
    fn a_mark_has_the_digits_it_needs() {
        assert_eq!([plain(5.0, 5.0), plain(0.5, 0.5), plain(0.78, 0.02)], ["5", "0.5", "0.78"]);
    }
}
