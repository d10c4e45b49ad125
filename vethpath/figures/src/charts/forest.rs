//! Figures with their intervals, one below another, on one axis.

use plotters::style::text_anchor::HPos;

use super::{
    frame::{BOTTOM, Layout, Result, WIDTH, chart},
    ink::Ink,
    ticks,
};

/// One figure.
#[derive(Clone, Debug)]
pub struct Row {
    /// The label above it.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its 95 % interval.
    pub interval: (f64, f64),
    /// The figure as text.
    pub words: String,
    /// Its colour.
    pub ink: Ink,
}

const THICK: u32 = 96;
const TOP: u32 = 8;

/// Units of margin on either side.
const SIDE: u32 = 36;

/// Maximum width of a letter of a figure's text, and the gap between text and interval, in units.
const LETTER: i32 = 16;
const GAP: i32 = 18;

/// Maximum width of the text of an end, on either side of it, in units.
const END: i32 = 160;

/// Maximum width of a figure's text, in units.
fn width(row: &Row) -> i32 {
    i32::try_from(row.words.chars().count()).map_or(i32::MAX, |letters| letters.saturating_mul(LETTER))
}

/// Draws figures on an axis from `low` to `high`, or as far as they reach. `ends` are the labels of these two.
///
/// # Errors
/// Only errors of the drawing crate.
pub fn forest(rows: &[Row], (low, high): (f64, f64), ends: (&str, &str)) -> Result<String> {
    let least = rows.iter().map(|row| row.interval.0).fold(low, f64::min);
    let most = rows.iter().map(|row| row.interval.1).fold(high, f64::max);
    let room = 0.04 * (most - least);
    let count = u32::try_from(rows.len()).unwrap_or(0);
    // A text is placed beside its interval. If one of them has no room there, all are placed in a column.
    let across = |x: f64| f64::from(WIDTH - 2 * SIDE) * (x - least + room) / (most - least + 2.0 * room);
    let has_room = |row: &Row| {
        let words = f64::from(GAP + width(row));
        words <= across(row.interval.0) || words <= across(most + room) - across(row.interval.1)
    };
    let column = if rows.iter().all(has_room) { 0 } else { GAP + rows.iter().map(width).max().unwrap_or(0) };
    let layout = Layout {
        x: (least - room, most + room),
        y: (0.0, f64::from(count)),
        height: TOP + THICK * count + BOTTOM,
        left: SIDE,
        right: SIDE + column.unsigned_abs(),
        top: TOP,
    };
    chart(layout, |frame| {
        let marks = ticks::linear(least, most, 6.0);
        let step = marks.windows(2).map(|pair| pair[1] - pair[0]).fold(1.0, f64::min);
        frame.x_axis(marks.iter().map(|&mark| (mark, ticks::plain(mark, step))).collect(), "")?;
        // Outwards if there is room, so that the two labels do not overlap when they are close.
        let across = |x| frame.at(x, 0.0).0;
        let low_side = if across(low) - across(least) > END { HPos::Right } else { HPos::Left };
        let high_side = if across(most) - across(high) > END { HPos::Left } else { HPos::Right };
        for (end, words, side) in [(low, ends.0, low_side), (high, ends.1, high_side)] {
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
            frame.interval(row.interval, y, 0.12, row.ink)?;
            frame.dot((row.value, y), 9, row.ink, 1.0)?;
            let (left, above) = frame.at(least - room, y + 0.45);
            frame.words(&row.name, (left, above), HPos::Left, Ink::Text, false)?;
            let (right, _) = frame.at(most + room, y);
            let (after, beside) = frame.at(row.interval.1, y);
            if column > 0 {
                frame.words(&row.words, (right + column, beside), HPos::Right, Ink::Text, true)?;
            } else if after + GAP + width(row) <= right {
                frame.words(&row.words, (after + GAP, beside), HPos::Left, Ink::Text, true)?;
            } else {
                let (before, _) = frame.at(row.interval.0, y);
                frame.words(&row.words, (before - GAP, beside), HPos::Right, Ink::Text, true)?;
            }
        }
        Ok(())
    })
}
