//! Distributions of times: cumulative (CDF), and as a histogram.

use super::frame::{Frame, Ink, Layout, Result, chart, linear_ticks, logarithmic_ticks, tick_label};

/// The times of one path.
#[derive(Clone, Debug)]
pub struct Series<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its colour.
    pub ink: Ink,
    /// Times in microseconds, ascending and above zero, with the number of each.
    pub histogram: &'a [(f64, u64)],
}

/// Columns of a histogram over its whole width.
const COLUMNS: u32 = 90;

/// A time in a histogram stands for all times within this fraction of it.
const NEAR: f64 = 0.004;

/// The fraction of the slowest path's times that is shown. The rest would take most of the width.
const SHOWN: f64 = 0.99;

/// The quantile below which nothing is shown.
const SHORTEST: f64 = 0.001;

const HEIGHT: u32 = 520;
const TOP: u32 = 60;
const LEFT: u32 = 110;

/// The fraction of round trips that took no longer than a time, over the logarithm of the time, up to the slowest
/// path's p99.
///
/// # Errors
/// Only errors of the drawing crate.
pub fn cumulative(series: &[Series<'_>]) -> Result<String> {
    let (low, high) = reach(series);
    let layout = Layout {
        x: (low.log10(), high.log10()),
        y: (0.0, 1.0),
        height: HEIGHT,
        left: LEFT,
        right: 36,
        top: TOP,
    };
    chart(layout, |frame| {
        times(frame, (low, high))?;
        let parts = [0.0, 0.25, 0.5, 0.75, 0.9, 1.0];
        frame.y_axis(parts.map(|part| (part, format!("{:.0} %", 100.0 * part))).into())?;
        for one in series {
            let total = total(one.histogram);
            let mut so_far = 0.0;
            let mut line = vec![(low.log10(), 0.0)];
            for &(time, count) in one.histogram {
                so_far += number(count);
                if time > high {
                    break;
                }
                line.push((time.log10(), so_far / total));
            }
            frame.line(line, one.ink, 4)?;
        }
        frame.legend(&names(series))
    })
}

/// The histogram of round trip times, over the logarithm of the time, up to the slowest path's p99.
///
/// # Errors
/// Only errors of the drawing crate.
pub fn density(series: &[Series<'_>]) -> Result<String> {
    let (low, high) = reach(series);
    let (from, to) = (low.log10(), high.log10());
    let step = (to - from) / f64::from(COLUMNS);
    let columns: Vec<_> = series.iter().map(|one| columns(one.histogram, from, step)).collect();
    let most = columns.iter().flatten().copied().fold(0.0, f64::max);
    let layout = Layout {
        x: (from, to),
        y: (0.0, most.max(1e-6) * 1.05),
        height: HEIGHT,
        left: LEFT,
        right: 36,
        top: TOP,
    };
    chart(layout, |frame| {
        times(frame, (low, high))?;
        let marks = linear_ticks(0.0, most, 4.0);
        let finest = marks.get(1).copied().unwrap_or(1.0) * 100.0;
        frame.y_axis(marks.iter().map(|&m| (m, format!("{} %", tick_label(100.0 * m, finest)))).collect())?;
        for (one, columns) in series.iter().zip(&columns) {
            let edge = |column: usize| from + step * number(column as u64);
            let steps = columns.iter().enumerate();
            let line: Vec<_> =
                steps.flat_map(|(column, &part)| [(edge(column), part), (edge(column + 1), part)]).collect();
            frame.below(&line, one.ink, 0.2)?;
            frame.line(line, one.ink, 3)?;
        }
        frame.legend(&names(series))
    })
}

/// The fraction of all times in each column. The first column includes times to the left of it. Each time is spread
/// over the range that it stands for, since columns may be as narrow as that.
fn columns(histogram: &[(f64, u64)], from: f64, step: f64) -> Vec<f64> {
    let all = total(histogram);
    let column = |time: f64| ((time.log10() - from) / step).max(0.0);
    let spread = |&(time, count): &(f64, u64)| {
        let (low, high) = (column(time * (1.0 - NEAR)), column(time * (1.0 + NEAR)));
        (low, high.max(low + f64::EPSILON), number(count) / all)
    };
    let spread: Vec<_> = histogram.iter().map(spread).collect();
    let part = |index: u32| {
        let (left, right) = (f64::from(index), f64::from(index) + 1.0);
        let within = |&(low, high, part): &(f64, f64, f64)| {
            part * (high.min(right) - low.max(left)).max(0.0) / (high - low)
        };
        spread.iter().map(within).sum()
    };
    (0..COLUMNS).map(part).collect()
}

fn times(frame: &Frame<'_>, (low, high): (f64, f64)) -> Result<()> {
    let marks = logarithmic_ticks(low, high);
    let step = marks.windows(2).map(|pair| pair[1] - pair[0]).fold(1.0, f64::min);
    frame.x_axis(marks.iter().map(|&mark| (mark.log10(), tick_label(mark, step))).collect(), "microseconds")
}

/// From a little below the lowest 0.1 % quantile to a little above the highest p99.
fn reach(series: &[Series<'_>]) -> (f64, f64) {
    let low = series.iter().filter_map(|one| quantile(one.histogram, SHORTEST));
    let high = series.iter().filter_map(|one| quantile(one.histogram, SHOWN));
    let (low, high) = (low.fold(f64::MAX, f64::min), high.fold(0.0, f64::max));
    if low > 0.0 && low < f64::MAX { (low * 0.95, (high * 1.02).max(low * 1.1)) } else { (1.0, 10.0) }
}

/// The time that this fraction of all times does not exceed.
fn quantile(histogram: &[(f64, u64)], part: f64) -> Option<f64> {
    let wanted = part * total(histogram);
    let mut so_far = 0.0;
    let reached = histogram.iter().find(|(_, count)| {
        so_far += number(*count);
        so_far >= wanted
    });
    reached.map(|&(time, _)| time)
}

fn total(histogram: &[(f64, u64)]) -> f64 {
    histogram.iter().map(|&(_, count)| number(count)).sum()
}

#[expect(clippy::cast_precision_loss, reason = "no chart shows the difference")]
fn number(count: u64) -> f64 {
    count as f64
}

fn names<'a>(series: &[Series<'a>]) -> Vec<(&'a str, Ink)> {
    series.iter().map(|one| (one.name, one.ink)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: [(f64, u64); 3] = [(5.0, 500), (10.0, 499), (5000.0, 1)];

    #[test]
    fn the_slowest_hundredth_does_not_squeeze_the_rest() {
        let series = [Series { name: "cable", ink: Ink::Cable, histogram: &TIMES }];
        let (low, high) = reach(&series);
        assert!((4.0..5.0).contains(&low) && (10.0..11.0).contains(&high), "{low} {high}");
        assert_eq!(reach(&[]), (1.0, 10.0));
    }

    #[test]
    fn columns_hold_the_parts_of_all() {
        let columns = columns(&TIMES, 0.694, 0.01);
        assert!((columns[0] - 0.5).abs() < 1e-9 && (columns[30] - 0.499).abs() < 1e-9, "{columns:?}");
        let left_of_all = super::columns(&TIMES, 1.5, 0.01);
        assert!((left_of_all[0] - 0.999).abs() < 1e-9, "{left_of_all:?}");
    }

    #[test]
    fn narrow_columns_between_times_are_not_empty() {
        // The maximum distance of adjacent times: 0.8 %.
        let times: Vec<_> = (0..40).map(|n| (5.0 * 1.0078_f64.powi(n), 100)).collect();
        let columns = columns(&times, 0.7, 0.0021);
        assert!(columns[1..60].iter().all(|part| *part > 0.005), "{columns:?}");
    }

    #[test]
    fn a_chart_of_nothing_is_a_chart() {
        for svg in [cumulative(&[]).unwrap(), density(&[]).unwrap()] {
            assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
        }
    }
}
