//! A ratio in each round, with its median and its interval.

use plotters::style::text_anchor::HPos;

use super::{
    frame::{Layout, Result, chart},
    ink::Ink,
    ticks,
};

/// The median of the rounds.
#[derive(Clone, Copy, Debug)]
pub struct Band {
    /// The median.
    pub value: f64,
    /// Its 95 % interval.
    pub interval: (f64, f64),
}

/// Draws a dot for each round around their median. `even` is the ratio without a difference.
///
/// # Errors
/// Only errors of the drawing crate.
pub fn rounds(ratios: &[f64], band: Option<Band>, even: f64) -> Result<String> {
    // Outlying rounds do not compress the chart. They are drawn at the edge.
    let mut sorted = ratios.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |part: usize| sorted.get(sorted.len().saturating_sub(1) * part / 100).copied().unwrap_or(even);
    let (low, high) = (at(2).min(even), at(98).max(even));
    let room = (0.12 * (high - low)).max(0.01);
    let last = f64::from(u32::try_from(ratios.len()).unwrap_or(u32::MAX));
    let (bottom, top) = (low - room, high + room);
    let layout =
        Layout { x: (0.0, last + 1.0), y: (bottom, top), height: 460, left: 110, right: 36, top: 16 };
    chart(layout, |frame| {
        let marks = ticks::linear(bottom, top, 5.0);
        let step = marks.windows(2).map(|pair| pair[1] - pair[0]).fold(1.0, f64::min);
        frame.y_axis(marks.iter().map(|&mark| (mark, ticks::plain(mark, step))).collect())?;
        let marks = ticks::linear(1.0, last.max(1.0), 7.0).into_iter().filter(|mark| mark.fract() == 0.0);
        frame.x_axis(marks.map(|mark| (mark, format!("{mark:.0}"))).collect(), "round")?;
        let (left, right) = (0.0, last + 1.0);
        frame.line(vec![(left, even), (right, even)], Ink::Bridge, 3)?;
        let (x, y) = frame.at(right, even);
        frame.words("as the plain bridge", (x - 6, y - 20), HPos::Right, Ink::Bridge, false)?;
        if let Some(Band { value, interval: (low, high) }) = band {
            frame.area([(left, low), (right, high)], Ink::Fast, 0.25)?;
            frame.line(vec![(left, value), (right, value)], Ink::Fast, 4)?;
        }
        for (index, &ratio) in ratios.iter().enumerate() {
            let round = f64::from(u32::try_from(index).unwrap_or(u32::MAX)) + 1.0;
            frame.dot((round, ratio.clamp(bottom, top)), 6, Ink::Text, 0.45)?;
        }
        Ok(())
    })
}
