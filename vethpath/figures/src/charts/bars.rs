//! Bars from zero, one for each path, with its interval and the figures of its rounds.

use plotters::style::text_anchor::HPos;

use super::{
    frame::{BOTTOM, Layout, Result, chart},
    ink::Ink,
    ticks,
};

/// A bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Its label on the left.
    pub name: String,
    /// Its colour.
    pub ink: Ink,
    /// Its length.
    pub value: f64,
    /// Its 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// The figures of its rounds, drawn as dots.
    pub dots: Vec<f64>,
    /// The figure as text.
    pub words: String,
}

const THICK: u32 = 84;
const TOP: u32 = 8;

/// Draws the bars. `unit` is the unit of the axis, and `say` formats a figure in it.
///
/// # Errors
/// Only errors of the drawing crate.
pub fn bars(bars: &[Bar], unit: &str, say: impl Fn(f64) -> String) -> Result<String> {
    let sure = |bar: &Bar| bar.interval.map_or(bar.value, |(_, high)| high.max(bar.value));
    let longest = bars.iter().map(sure).fold(0.0, f64::max);
    let longest = if longest > 0.0 { longest } else { 1.0 };
    // Outlying rounds do not compress the bars. They are drawn at the edge.
    let dots = bars.iter().flat_map(|bar| &bar.dots).copied().fold(longest, f64::max);
    let edge = 1.03 * dots.min(1.2 * longest);
    let count = u32::try_from(bars.len()).unwrap_or(0);
    let layout = Layout {
        x: (0.0, edge),
        y: (0.0, f64::from(count)),
        height: TOP + THICK * count + BOTTOM,
        left: 190,
        right: 190,
        top: TOP,
    };
    chart(layout, |frame| {
        let marks = ticks::linear(0.0, edge, 6.0);
        frame.x_axis(marks.into_iter().map(|mark| (mark, say(mark))).collect(), unit)?;
        for (from_below, bar) in bars.iter().rev().enumerate() {
            let middle = f64::from(u32::try_from(from_below).unwrap_or(0)) + 0.5;
            frame.area([(0.0, middle - 0.32), (bar.value, middle + 0.32)], bar.ink, 0.8)?;
            for (index, &dot) in bar.dots.iter().enumerate() {
                // Spread the dots of similar rounds, in the order of the rounds.
                let spread = [-0.2, 0.06, -0.07, 0.19][index % 4];
                frame.dot((dot.min(edge), middle + spread), 4, Ink::Text, 0.35)?;
            }
            if let Some(interval) = bar.interval {
                frame.interval(interval, middle, 0.14, Ink::Text)?;
            }
            let (left, y) = frame.at(0.0, middle);
            frame.words(&bar.name, (left - 14, y), HPos::Right, Ink::Text, false)?;
            let (end, _) = frame.at(edge, middle);
            frame.words(&bar.words, (end + 16, y), HPos::Left, Ink::Text, true)?;
        }
        Ok(())
    })
}
