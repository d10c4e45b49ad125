//! Colours, for white and for black backgrounds.

use plotters::style::RGBColor;

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
