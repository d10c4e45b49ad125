//! From a terminal's screen to an SVG: text with the few attributes that the view uses.

use std::fmt::Write as _;

/// The size of a character in units.
const CELL: (f64, f64) = (8.4, 18.0);

/// The margin around the screen in units.
const MARGIN: f64 = 10.0;

/// A light theme, as GitHub's.
const BACKGROUND: &str = "#ffffff";
const FOREGROUND: &str = "#1f2328";
const RED: &str = "#cf222e";

/// The attributes of text (ECMA-48, SGR).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Style {
    bold: bool,
    underlined: bool,
    reversed: bool,
    red: bool,
}

impl Style {
    /// After the parameters of a sequence.
    fn with(self, parameters: &str) -> Self {
        // The first of the terminal's own colours, by its index.
        let Some(parameters) = parameters.strip_suffix("38;5;1") else { return self.with_each(parameters) };
        let before = parameters.strip_suffix(';').map_or(self, |before| self.with_each(before));
        Self { red: true, ..before }
    }

    fn with_each(mut self, parameters: &str) -> Self {
        for parameter in parameters.split(';') {
            match parameter {
                "" | "0" => self = Self::default(),
                "1" => self.bold = true,
                "4" => self.underlined = true,
                "7" => self.reversed = true,
                "31" => self.red = true,
                "22" => self.bold = false,
                "24" => self.underlined = false,
                "27" => self.reversed = false,
                "39" => self.red = false,
                _ => {}
            }
        }
        self
    }
}

/// Renders what `tmux capture-pane -e -p` prints of a terminal of this size.
pub(super) fn render(screen: &str, width: u16, height: u16) -> String {
    let (w, h) = (f64::from(width) * CELL.0 + 2.0 * MARGIN, f64::from(height) * CELL.1 + 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w:.0} {h:.0}\" width=\"{w:.0}\" height=\"{h:.0}\" \
         font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{BACKGROUND}\" stroke=\"#d0d7de\"/>\n"
    );
    let mut style = Style::default();
    for (y, line) in screen.lines().take(height.into()).enumerate() {
        let mut x = 0;
        for (of, text) in runs(line, &mut style) {
            run(&mut svg, (x, y), of, &text);
            x += text.chars().count();
        }
    }
    svg + "</svg>\n"
}

/// A line's parts with their styles. `style` is that of the end of the line before, and becomes that of this one.
fn runs(line: &str, style: &mut Style) -> Vec<(Style, String)> {
    let mut runs: Vec<(Style, String)> = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find('\u{1b}').unwrap_or(rest.len());
        if end > 0 {
            runs.push((*style, rest[..end].to_owned()));
        }
        rest = &rest[end..];
        let Some(sequence) = rest.strip_prefix("\u{1b}[") else {
            // Another kind of sequence, such as a choice of the character set: three bytes.
            rest = rest.get(3..).unwrap_or_default();
            continue;
        };
        let Some(last) = sequence.find(|c: char| c.is_ascii_alphabetic()) else { break };
        if sequence[last..].starts_with('m') {
            *style = style.with(&sequence[..last]);
        }
        rest = &sequence[last + 1..];
    }
    runs
}

#[expect(clippy::cast_precision_loss, reason = "a screen has a few hundred columns")]
fn run(svg: &mut String, (x, y): (usize, usize), style: Style, text: &str) {
    let length = text.chars().count() as f64 * CELL.0;
    let (left, top) = (MARGIN + x as f64 * CELL.0, MARGIN + y as f64 * CELL.1);
    let color = if style.red { RED } else { FOREGROUND };
    let (fill, behind) = if style.reversed { (BACKGROUND, Some(color)) } else { (color, None) };
    // Writing to a string does not fail.
    if let Some(behind) = behind {
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"{}\" fill=\"{behind}\"/>",
            CELL.1
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let weight = if style.bold { " font-weight=\"bold\"" } else { "" };
    let line = if style.underlined { " text-decoration=\"underline\"" } else { "" };
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // The length keeps columns aligned whatever font there is.
    let _ = writeln!(
        svg,
        "<text x=\"{left:.1}\" y=\"{:.1}\" textLength=\"{length:.1}\" lengthAdjust=\"spacingAndGlyphs\" \
         xml:space=\"preserve\" fill=\"{fill}\"{weight}{line}>{text}</text>",
        top + CELL.1 * 0.75
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_become_attributes() {
        let svg = render("a\u{1b}[1m\u{1b}[38;5;1mb<\u{1b}[0m c\n\u{1b}[7mrow\u{1b}[0m", 10, 2);
        assert_eq!(svg.matches("<text").count(), 4);
        assert!(svg.contains("fill=\"#cf222e\" font-weight=\"bold\">b&lt;</text>"), "{svg}");
        assert!(svg.contains("x=\"35.2\"") && svg.contains("> c</text>"), "{svg}");
        assert!(svg.contains("fill=\"#ffffff\">row</text>"), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }
}
