//! The common style of tables: no lines, two blanks between columns, headings in capitals.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets::NOTHING};

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

/// Renders a table as text, with a trailing newline.
pub fn render(columns: &[Column], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    let heading = |column: &Column| match column {
        Column::Text(heading) | Column::Number(heading) | Column::Wrapped(heading, _) => *heading,
    };
    table.set_header(columns.iter().map(heading).collect::<Vec<_>>());
    let safe = |cell: String| super::printable(&cell).into_owned();
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
