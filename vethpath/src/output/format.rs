//! What printers share: numbers, escaping for a terminal, the style of tables, and the line about a lab's agent.

use std::borrow::Cow;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets::NOTHING};

use crate::{stats::Agent, topology::LabName};

/// A whole number with thousands separators: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate with three digits: `0`, `7.25`, `873`, `12.3k`, `4.56M`.
pub fn short(number: f64) -> String {
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    let mut number = number;
    let mut unit = 0;
    // A number that would be rounded up to 1000 is 1.00 of the next unit.
    while number >= 999.5 && unit + 1 < UNITS.len() {
        number /= 1000.0;
        unit += 1;
    }
    let places = match number {
        0.0 => 0,
        n if n < 9.995 => 2,
        n if n < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.places$}{}", UNITS[unit])
}

/// A part of a total in percent, rounded down so that 100 means all of it. `-` if the total is 0.
pub fn percent(part: u64, total: u64) -> String {
    match (u128::from(part) * 1000).checked_div(total.into()) {
        None => "-".to_owned(),
        Some(tenths) => format!("{}.{}%", tenths / 10, tenths % 10),
    }
}

/// Milliseconds as seconds: `3 s`, `1.2 s`.
pub fn seconds(milliseconds: u64) -> String {
    match (milliseconds / 1000, milliseconds % 1000 / 100) {
        (seconds, 0) => format!("{seconds} s"),
        (seconds, tenths) => format!("{seconds}.{tenths} s"),
    }
}

/// `1 bridge`, `2 bridges`. For nouns whose plural is regular.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Escapes characters that would move the cursor, change colours or reorder the surrounding text: all control
/// characters except newline, and those that set the text direction.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_harmful(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// The same on one line: newlines are escaped too.
#[must_use]
pub fn one_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

/// A pair for people: its name, or what is behind a guest port with the port's name beside it.
#[must_use]
pub fn pair(name: &str, behind: Option<&str>) -> String {
    behind.map_or_else(|| name.to_owned(), |behind| format!("{} ({name})", one_line(behind)))
}

fn is_harmful(character: char) -> bool {
    let directs =
        matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    directs || (character.is_control() && character != '\n')
}

/// The maximum width of a table in characters. Cells of wrapping columns are broken to fit.
pub const WIDTH: u16 = 100;

/// A column.
#[derive(Clone, Copy, Debug)]
pub enum Column {
    /// Text that is not wrapped.
    Text(&'static str),
    /// A number, right-aligned.
    Number(&'static str),
    /// Text that may be wrapped into lines of at least this width.
    Wrapped(&'static str, u16),
}

/// Joins words of one cell that must stay on one line. It is printed as a blank.
pub const GLUE: char = '\u{a0}';

/// Renders a table as text, with a trailing newline: no lines, two blanks between columns, headings in capitals.
pub fn render(columns: &[Column], rows: Vec<Vec<String>>) -> String {
    render_within(WIDTH, columns, rows)
}

/// The same with another maximum width.
pub fn render_within(width: u16, columns: &[Column], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    let heading = |column: &Column| match column {
        Column::Text(heading) | Column::Number(heading) | Column::Wrapped(heading, _) => *heading,
    };
    table.set_header(columns.iter().map(heading).collect::<Vec<_>>());
    let safe = |cell: String| printable(&cell).into_owned();
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(safe).collect::<Vec<_>>()));
    for (index, column) in columns.iter().enumerate() {
        let Some(of_table) = table.column_mut(index) else { continue };
        of_table.set_padding((0, if index + 1 < columns.len() { 2 } else { 0 }));
        match column {
            Column::Text(_) => {
                of_table.set_constraint(ColumnConstraint::ContentWidth);
            }
            Column::Number(_) => {
                of_table.set_constraint(ColumnConstraint::ContentWidth);
                of_table.set_cell_alignment(CellAlignment::Right);
            }
            Column::Wrapped(_, least) => {
                of_table.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(*least)));
            }
        }
    }
    table.trim_fmt().replace(GLUE, " ") + "\n"
}

/// The line that states a lab's name and its agent's status, and one for packets of each kind that rules drop. Each has
/// a trailing newline.
pub fn headline(lab: &LabName, of: &Agent) -> String {
    format!("lab {lab}: {}", agent(of))
}

/// The same without the lab's name.
pub fn agent(agent: &Agent) -> String {
    let Agent { alive, pid, lease_ms, lease_left_ms, drops, .. } = agent;
    let text = match (alive, pid, lease_left_ms) {
        (true, Some(pid), _) => format!("agent alive (pid {pid}), lease {}", seconds(*lease_ms)),
        (true, None, _) => format!("agent alive, lease {}", seconds(*lease_ms)),
        (false, _, 0) => "agent dead: plain bridge; `vethpath up` brings it back".to_owned(),
        (false, _, left) => format!("agent dead: plain bridge when the lease ends in {}", seconds(*left)),
    };
    let drops = drops.iter().map(|drop| format!("{}\n", printable(drop)));
    std::iter::once(format!("{text}\n")).chain(drops).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn thousands_are_separated() {
        let of = [0, 12, 999, 1000, 12_345, 123_456, 1_234_567].map(grouped);
        assert_eq!(of, ["0", "12", "999", "1,000", "12,345", "123,456", "1,234,567"]);
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn rates_have_three_digits() {
        let of = [0.0, 7.251, 12.34, 873.4, 999.6, 12_345.0, 999_600.0, 4.561e6, 1e16].map(short);
        assert_eq!(of, ["0", "7.25", "12.3", "873", "1.00k", "12.3k", "1.00M", "4.56M", "10000T"]);
    }

    #[test]
    fn a_hundred_percent_is_all() {
        assert_eq!(percent(0, 0), "-");
        assert_eq!(percent(0, 7), "0.0%");
        assert_eq!(percent(9_999, 10_000), "99.9%");
        assert_eq!(percent(u64::MAX, u64::MAX), "100.0%");
    }

    #[test]
    fn leases_are_seconds() {
        assert_eq!([3_000, 1_290, 40].map(seconds), ["3 s", "1.2 s", "0 s"]);
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|n| count(n, "pair")), ["0 pairs", "1 pair", "2 pairs"]);
    }

    #[test]
    fn harmful_characters_are_shown_and_not_obeyed() {
        assert_eq!(printable("\u{1b}[2J\u{7}\u{9b}1m\r\t"), r"\u{1b}[2J\u{7}\u{9b}1m\r\t");
        assert_eq!(printable("a\u{202e}b"), r"a\u{202e}b");
    }

    #[test]
    fn plain_text_is_left_alone() {
        for text in ["", "eth0", "two\nlines", "caf\u{e9} \u{4e2d} \u{1f600} \u{a0}|"] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn columns_are_aligned_and_long_text_is_broken() {
        let columns = [Column::Text("NAME"), Column::Number("COUNT"), Column::Wrapped("WHY", 10)];
        let long = "a word and another ".repeat(8);
        let row = |name: &str, count: &str, why: &str| [name, count, why].map(str::to_owned).to_vec();
        let text = render(&columns, vec![row("a", "1", "short"), row("longer", "12,345", long.trim())]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "NAME     COUNT  WHY");
        assert_eq!(lines[1], "a            1  short");
        assert!(lines[2].starts_with("longer  12,345  a word and another"), "{text}");
        assert!(lines[3].starts_with("                "), "{text}");
        assert!(lines.iter().all(|line| line.len() <= WIDTH.into()), "{text}");
        assert!(lines.iter().all(|line| !line.ends_with(' ')), "{text}");
    }

    fn line(alive: bool, lease_left_ms: u64) -> String {
        let (pid, lease_ms) = if alive { (Some(4242), 3000) } else { (None, 0) };
        let agent =
            Agent { alive, pid, lease_ms, lease_left_ms, capabilities: Vec::new(), drops: BTreeSet::new() };
        headline(&"lab".parse().unwrap(), &agent)
    }

    #[test]
    fn a_dead_agent_is_reported_with_what_that_means() {
        assert_eq!(line(true, 2_500), "lab lab: agent alive (pid 4242), lease 3 s\n");
        assert_eq!(line(false, 1_234), "lab lab: agent dead: plain bridge when the lease ends in 1.2 s\n");
        assert_eq!(line(false, 0), "lab lab: agent dead: plain bridge; `vethpath up` brings it back\n");
    }
}
