//! Charts of figures with their intervals: a bar for each path, a row for each case, a dot for each round.

use plotters::style::text_anchor::HPos;

use super::frame::{BOTTOM, Ink, Layout, Result, WIDTH, chart, linear_ticks, tick_label};
use crate::statistics::Interval;

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
    pub interval: Option<Interval>,
    /// The figures of its rounds, drawn as dots.
    pub dots: Vec<f64>,
    /// The figure as text.
    pub words: String,
}

/// The height of a bar and of a row, and the top margin, in units.
const BAR: u32 = 84;
const ROW: u32 = 96;
const TOP: u32 = 8;

/// Draws the bars. `unit` is the unit of the axis, and `say` formats a figure in it.
///
/// # Errors
/// Only errors of the drawing crate.
pub fn bars(bars: &[Bar], unit: &str, say: impl Fn(f64) -> String) -> Result<String> {
    let sure = |bar: &Bar| bar.interval.map_or(bar.value, |interval| interval.high.max(bar.value));
    let longest = bars.iter().map(sure).fold(0.0, f64::max);
    let longest = if longest > 0.0 { longest } else { 1.0 };
    // Outlying rounds do not compress the bars. They are drawn at the edge.
    let dots = bars.iter().flat_map(|bar| &bar.dots).copied().fold(longest, f64::max);
    let edge = 1.03 * dots.min(1.2 * longest);
    let count = u32::try_from(bars.len()).unwrap_or(0);
    let layout = Layout {
        x: (0.0, edge),
        y: (0.0, f64::from(count)),
        height: TOP + BAR * count + BOTTOM,
        left: 190,
        right: 190,
        top: TOP,
    };
    chart(layout, |frame| {
        let marks = linear_ticks(0.0, edge, 6.0);
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

/// One figure.
#[derive(Clone, Debug)]
pub struct Row {
    /// The label above it.
    pub name: String,
    /// The figure, with its 95 % interval.
    pub figure: Interval,
    /// Its colour.
    pub ink: Ink,
}

/// Units of margin on either side.
const SIDE: u32 = 36;

/// Maximum width of a letter of a figure's text, and the gap between text and interval, in units.
const LETTER: i32 = 16;
const GAP: i32 = 18;

/// Maximum width of the text of an end, on either side of it, in units.
const END: i32 = 160;

/// The ends of the axis, each with its label. The axis is longer where a figure is beyond them.
const ENDS: [(f64, &str); 2] = [(0.0, "0: as the plain bridge"), (1.0, "1: as a cable")];

impl Row {
    /// The figure as text.
    fn words(&self) -> String {
        let Interval { value, low, high } = self.figure;
        format!("{value:.2} ({low:.2} to {high:.2})")
    }

    /// Maximum width of that text, in units.
    fn width(&self) -> i32 {
        i32::try_from(self.words().chars().count()).map_or(i32::MAX, |letters| letters.saturating_mul(LETTER))
    }
}

/// Draws the removed parts of the bridges' overhead, one below another, on one axis.
///
/// # Errors
/// Only errors of the drawing crate.
pub fn forest(rows: &[Row]) -> Result<String> {
    let [(low, low_label), (high, high_label)] = ENDS;
    let least = rows.iter().map(|row| row.figure.low).fold(low, f64::min);
    let most = rows.iter().map(|row| row.figure.high).fold(high, f64::max);
    let room = 0.04 * (most - least);
    let count = u32::try_from(rows.len()).unwrap_or(0);
    // A text is placed beside its interval. If one of them has no room there, all are placed in a column.
    let across = |x: f64| f64::from(WIDTH - 2 * SIDE) * (x - least + room) / (most - least + 2.0 * room);
    let has_room = |row: &Row| {
        let words = f64::from(GAP + row.width());
        words <= across(row.figure.low) || words <= across(most + room) - across(row.figure.high)
    };
    let column =
        if rows.iter().all(has_room) { 0 } else { GAP + rows.iter().map(Row::width).max().unwrap_or(0) };
    let layout = Layout {
        x: (least - room, most + room),
        y: (0.0, f64::from(count)),
        height: TOP + ROW * count + BOTTOM,
        left: SIDE,
        right: SIDE + column.unsigned_abs(),
        top: TOP,
    };
    chart(layout, |frame| {
        let marks = linear_ticks(least, most, 6.0);
        let step = marks.windows(2).map(|pair| pair[1] - pair[0]).fold(1.0, f64::min);
        frame.x_axis(marks.iter().map(|&mark| (mark, tick_label(mark, step))).collect(), "")?;
        // Outwards if there is room, so that the two labels do not overlap when they are close.
        let across = |x| frame.at(x, 0.0).0;
        let low_side = if across(low) - across(least) > END { HPos::Right } else { HPos::Left };
        let high_side = if across(most) - across(high) > END { HPos::Left } else { HPos::Right };
        for (end, words, side) in [(low, low_label, low_side), (high, high_label, high_side)] {
            let (x, y) = frame.at(end, 0.0);
            frame.words(words, (x, y + 60), side, Ink::Faint, false)?;
            for row in 0..count {
                // Not through the names, which are in the upper half of each row.
                let row = f64::from(row);
                frame.line(vec![(end, row), (end, row + 0.5)], Ink::Faint, 3)?;
            }
        }
        for (from_below, row) in rows.iter().rev().enumerate() {
            let y = f64::from(u32::try_from(from_below).unwrap_or(0)) + 0.25;
            frame.interval(row.figure, y, 0.12, row.ink)?;
            frame.dot((row.figure.value, y), 9, row.ink, 1.0)?;
            let (left, above) = frame.at(least - room, y + 0.45);
            frame.words(&row.name, (left, above), HPos::Left, Ink::Text, false)?;
            let (right, _) = frame.at(most + room, y);
            let (after, beside) = frame.at(row.figure.high, y);
            if column > 0 {
                frame.words(&row.words(), (right + column, beside), HPos::Right, Ink::Text, true)?;
            } else if after + GAP + row.width() <= right {
                frame.words(&row.words(), (after + GAP, beside), HPos::Left, Ink::Text, true)?;
            } else {
                let (before, _) = frame.at(row.figure.low, y);
                frame.words(&row.words(), (before - GAP, beside), HPos::Right, Ink::Text, true)?;
            }
        }
        Ok(())
    })
}

/// The ratio without a difference.
const EVEN: f64 = 1.0;

/// Draws a dot for each round around their median, which is given with its 95 % interval.
///
/// # Errors
/// Only errors of the drawing crate.
pub fn rounds(ratios: &[f64], median: Option<Interval>) -> Result<String> {
    // Outlying rounds do not compress the chart. They are drawn at the edge.
    let mut sorted = ratios.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |part: usize| sorted.get(sorted.len().saturating_sub(1) * part / 100).copied().unwrap_or(EVEN);
    let (low, high) = (at(2).min(EVEN), at(98).max(EVEN));
    let room = (0.12 * (high - low)).max(0.01);
    let last = f64::from(u32::try_from(ratios.len()).unwrap_or(u32::MAX));
    let (bottom, top) = (low - room, high + room);
    let layout =
        Layout { x: (0.0, last + 1.0), y: (bottom, top), height: 460, left: 110, right: 36, top: 16 };
    chart(layout, |frame| {
        let marks = linear_ticks(bottom, top, 5.0);
        let step = marks.windows(2).map(|pair| pair[1] - pair[0]).fold(1.0, f64::min);
        frame.y_axis(marks.iter().map(|&mark| (mark, tick_label(mark, step))).collect())?;
        let marks = linear_ticks(1.0, last.max(1.0), 7.0).into_iter().filter(|mark| mark.fract() == 0.0);
        frame.x_axis(marks.map(|mark| (mark, format!("{mark:.0}"))).collect(), "round")?;
        let (left, right) = (0.0, last + 1.0);
        frame.line(vec![(left, EVEN), (right, EVEN)], Ink::Bridge, 3)?;
        let (x, y) = frame.at(right, EVEN);
        frame.words("as the plain bridge", (x - 6, y - 20), HPos::Right, Ink::Bridge, false)?;
        if let Some(Interval { value, low, high }) = median {
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
