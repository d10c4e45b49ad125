//! Common parts of all charts: a plane with axes and labels, the ticks of an axis, and colours.

use plotters::{
    coord::{Shift, types::RangedCoordf64},
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use thiserror::Error;

use crate::statistics::Interval;

/// The width of a chart in units. Pages scale it.
pub(super) const WIDTH: u32 = 1000;

/// The text size in units. It is readable when the chart is as wide as a phone.
const TEXT: f64 = 27.0;

/// A chart could not be drawn.
#[derive(Debug, Error)]
#[error("cannot draw a chart: {0}")]
pub struct Error(String);

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for Error {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}

pub(super) type Result<T> = std::result::Result<T, Error>;

type Root<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plane<'a> = DrawingArea<SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A plane of the ranges `x` and `y`, and the margins around it in units.
pub(super) struct Layout {
    /// From the left to the right edge.
    pub(super) x: (f64, f64),
    /// From the lower to the upper edge.
    pub(super) y: (f64, f64),
    /// The height of the whole chart.
    pub(super) height: u32,
    /// The left margin, for names.
    pub(super) left: u32,
    /// The right margin, for figures.
    pub(super) right: u32,
    /// The top margin.
    pub(super) top: u32,
}

/// The bottom margin, for tick labels and their unit.
pub(super) const BOTTOM: u32 = 84;

/// A plane to draw on.
pub(super) struct Frame<'a> {
    root: Root<'a>,
    plane: Plane<'a>,
    layout: Layout,
}

/// Draws a chart and returns it as SVG text.
pub(super) fn chart(layout: Layout, draw: impl FnOnce(&Frame<'_>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, layout.height)).into_drawing_area();
        let plane = root.margin(layout.top, BOTTOM, layout.left, layout.right);
        let (width, height) = plane.dim_in_pixel();
        let (width, height) = (edge(width), edge(height));
        let (left, top) = (edge(layout.left), edge(layout.top));
        let plane = plane.apply_coord_spec(Cartesian2d::<RangedCoordf64, RangedCoordf64>::new(
            layout.x.0..layout.x.1,
            layout.y.0..layout.y.1,
            (left..left + width, top + height..top),
        ));
        draw(&Frame { root: root.clone(), plane, layout })?;
        root.present()?;
    }
    Ok(svg)
}

fn edge(units: u32) -> i32 {
    i32::try_from(units).unwrap_or(i32::MAX)
}

impl Frame<'_> {
    /// The position of a point, in units.
    pub(super) fn at(&self, x: f64, y: f64) -> (i32, i32) {
        self.plane.map_coordinate(&(x, y))
    }

    /// Draws text at a point. `side` is the side of the text where the point is.
    pub(super) fn words(&self, words: &str, at: (i32, i32), side: HPos, ink: Ink, bold: bool) -> Result<()> {
        let style = if bold { FontStyle::Bold } else { FontStyle::Normal };
        let font = FontDesc::new(FontFamily::SansSerif, TEXT, style);
        let colour = ink.colour();
        let style = TextStyle::from(font).color(&colour).pos(Pos::new(side, VPos::Center));
        Ok(self.root.draw(&Text::new(words.to_owned(), at, style))?)
    }

    /// A line through points.
    pub(super) fn line(&self, points: Vec<(f64, f64)>, ink: Ink, width: u32) -> Result<()> {
        Ok(self.plane.draw(&PathElement::new(points, ink.colour().stroke_width(width)))?)
    }

    /// A filled area between two corners.
    pub(super) fn area(&self, corners: [(f64, f64); 2], ink: Ink, opacity: f64) -> Result<()> {
        Ok(self.plane.draw(&Rectangle::new(corners, ink.colour().mix(opacity).filled()))?)
    }

    /// The area between a line and the lower edge.
    pub(super) fn below(&self, line: &[(f64, f64)], ink: Ink, opacity: f64) -> Result<()> {
        let (Some(first), Some(last)) = (line.first(), line.last()) else { return Ok(()) };
        let low = self.layout.y.0;
        let mut points = vec![(first.0, low)];
        points.extend_from_slice(line);
        points.push((last.0, low));
        Ok(self.plane.draw(&Polygon::new(points, ink.colour().mix(opacity)))?)
    }

    /// A dot.
    pub(super) fn dot(&self, at: (f64, f64), radius: i32, ink: Ink, opacity: f64) -> Result<()> {
        Ok(self.plane.draw(&Circle::new(at, radius, ink.colour().mix(opacity).filled()))?)
    }

    /// Draws an interval at a height, with marks at its ends.
    pub(super) fn interval(
        &self,
        Interval { low, high, .. }: Interval,
        y: f64,
        half: f64,
        ink: Ink,
    ) -> Result<()> {
        self.line(vec![(low, y), (high, y)], ink, 3)?;
        for end in [low, high] {
            self.line(vec![(end, y - half), (end, y + half)], ink, 3)?;
        }
        Ok(())
    }

    /// Draws the ticks of the horizontal axis with their labels, and the unit.
    pub(super) fn x_axis(&self, marks: Vec<(f64, String)>, unit: &str) -> Result<()> {
        let (low, high) = self.layout.y;
        for (x, words) in marks {
            self.line(vec![(x, low), (x, high)], Ink::Grid, 2)?;
            let (across, down) = self.at(x, low);
            self.words(&words, (across, down + 24), HPos::Center, Ink::Faint, false)?;
        }
        let (right, down) = self.at(self.layout.x.1, low);
        self.words(unit, (right, down + 60), HPos::Right, Ink::Faint, false)
    }

    /// Draws the ticks of the vertical axis with their labels.
    pub(super) fn y_axis(&self, marks: Vec<(f64, String)>) -> Result<()> {
        let (left, right) = self.layout.x;
        for (y, words) in marks {
            self.line(vec![(left, y), (right, y)], Ink::Grid, 2)?;
            let (across, down) = self.at(left, y);
            self.words(&words, (across - 14, down), HPos::Right, Ink::Faint, false)?;
        }
        Ok(())
    }

    /// Draws the legend, a row of names with their colours above the plane.
    pub(super) fn legend(&self, names: &[(&str, Ink)]) -> Result<()> {
        let (mut across, top) = self.at(self.layout.x.0, self.layout.y.1);
        for (name, ink) in names {
            let (x, y) = (across, top - 28);
            let swatch = Rectangle::new([(x, y - 11), (x + 22, y + 11)], ink.colour().filled());
            self.root.draw(&swatch)?;
            self.words(name, (x + 32, y), HPos::Left, Ink::Text, false)?;
            across += 70 + 14 * i32::try_from(name.chars().count()).unwrap_or(0);
        }
        Ok(())
    }
}

/// Round numbers from `low` to `high`, approximately `about` of them.
pub(super) fn linear_ticks(low: f64, high: f64, about: f64) -> Vec<f64> {
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
pub(super) fn logarithmic_ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = (high / low).log10();
    let steps: &[f64] = match decades {
        d if d < 0.5 => return linear_ticks(low, high, 6.0),
        d if d < 1.1 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
        d if d < 2.2 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let powers = (-6..10).map(|power| 10_f64.powi(power));
    let all = powers.flat_map(|power| steps.iter().map(move |step| step * power));
    all.filter(|tick| (low..=high).contains(tick)).collect()
}

/// A number with the digits that ticks at intervals of `step` need.
pub(super) fn tick_label(value: f64, step: f64) -> String {
    let places = [1.0, 0.1, 0.01].iter().position(|&place| step >= place * 0.999).unwrap_or(3);
    format!("{value:.places$}")
}

/// The colour of an element. The paths' colours can be distinguished by colour-blind readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// The cable.
    Cable,
    /// The plain bridge.
    Bridge,
    /// The fast path by tc programs.
    Fast,
    /// The fast path by XDP.
    Xdp,
    /// Text and figures.
    Text,
    /// Less important text.
    Faint,
    /// Grid lines in the background.
    Grid,
}

impl Ink {
    const ALL: [Self; 7] =
        [Self::Cable, Self::Bridge, Self::Fast, Self::Xdp, Self::Text, Self::Faint, Self::Grid];

    /// The colours for a white and for a black background.
    const fn shades(self) -> (u32, u32) {
        match self {
            Self::Cable => (0x6E_77_81, 0x9D_A7_B3),
            Self::Bridge => (0xC4_57_00, 0xF0_88_3E),
            Self::Fast => (0x09_69_DA, 0x58_A6_FF),
            Self::Xdp => (0x1A_7F_37, 0x3F_B9_50),
            Self::Text => (0x1F_23_28, 0xE6_ED_F3),
            Self::Faint => (0x57_60_6A, 0x8B_94_9E),
            Self::Grid => (0xD8_DE_E4, 0x30_36_3D),
        }
    }

    /// The colour in a chart, for a white background.
    pub(super) const fn colour(self) -> RGBColor {
        let [_, red, green, blue] = self.shades().0.to_be_bytes();
        RGBColor(red, green, blue)
    }
}

/// CSS rules that switch every chart to the colours for black if the reader prefers a dark scheme.
#[must_use]
pub fn dark_mode() -> String {
    let rule = |ink: Ink| {
        let (white, black) = ink.shades();
        format!(
            "[fill=\"#{white:06X}\"]{{fill:#{black:06X}}}[stroke=\"#{white:06X}\"]{{stroke:#{black:06X}}}"
        )
    };
    let rules: String = Ink::ALL.into_iter().map(rule).collect();
    format!("@media (prefers-color-scheme: dark){{{rules}}}")
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
        near(linear_ticks(0.0, 12.9, 5.0), &[0.0, 5.0, 10.0]);
        near(linear_ticks(0.78, 0.86, 4.0), &[0.78, 0.8, 0.82, 0.84, 0.86]);
        near(linear_ticks(1.0, 1.0, 4.0), &[1.0]);
        near(logarithmic_ticks(4.0, 30.0), &[4.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0]);
        near(logarithmic_ticks(4.0, 90_000.0), &[10.0, 100.0, 1000.0, 10_000.0]);
        near(logarithmic_ticks(5.0, 6.0), &[5.0, 5.2, 5.4, 5.6, 5.8, 6.0]);
    }

    #[test]
    fn a_mark_has_the_digits_it_needs() {
        assert_eq!(
            [tick_label(5.0, 5.0), tick_label(0.5, 0.5), tick_label(0.78, 0.02)],
            ["5", "0.5", "0.78"]
        );
    }
}
