//! A table whose columns are as wide as their cells. Those that do not fit are left out, the least important first.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
    text::Line,
};

/// The space between columns.
const GAP: u16 = 2;

/// The style of headings.
pub(super) const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// The upper rows of an area, and the rest.
pub(super) fn split_top(area: Rect, height: u16) -> (Rect, Rect) {
    let height = height.min(area.height);
    let top = Rect { height, ..area };
    (top, Rect { y: area.y + height, height: area.height - height, ..area })
}

/// The rest of an area, and its lower rows.
pub(super) fn split_bottom(area: Rect, height: u16) -> (Rect, Rect) {
    split_top(area, area.height - height.min(area.height))
}

/// A column.
#[derive(Clone, Debug)]
pub(super) struct GridColumn {
    /// Its heading.
    pub(super) title: String,
    /// The width without which it is left out.
    pub(super) least: u16,
    /// The width without which less important columns are left out.
    pub(super) good: u16,
    /// The width that it does not exceed.
    pub(super) most: u16,
    /// Whether it is aligned to the right.
    pub(super) is_number: bool,
    /// 0 for the column that is left out last.
    pub(super) rank: usize,
}

/// A row: a cell for each column.
pub(super) struct GridRow<'a> {
    pub(super) cells: Vec<Line<'a>>,
    pub(super) is_selected: bool,
}

/// Draws the heading, and as many rows as there is room for.
pub(super) fn grid(buffer: &mut Buffer, area: Rect, columns: &[GridColumn], rows: &[GridRow<'_>]) {
    if area.is_empty() {
        return;
    }
    let rows = &rows[..rows.len().min(usize::from(area.height - 1))];
    let widths = widths(area.width, columns, rows);
    let mut x = area.x;
    for (index, (column, width)) in columns.iter().zip(&widths).enumerate() {
        let Some(width) = *width else { continue };
        put(buffer, (x, area.y), width, &Line::styled(column.title.as_str(), BOLD), column.is_number);
        for (row, y) in rows.iter().zip(area.y + 1..) {
            if let Some(cell) = row.cells.get(index) {
                put(buffer, (x, y), width, cell, column.is_number);
            }
        }
        x += width + GAP;
    }
    for (_, y) in rows.iter().zip(area.y + 1..).filter(|(row, _)| row.is_selected) {
        // Colours would make spots in a reversed line.
        let line = Rect { y, height: 1, ..area };
        let style = Style::reset().add_modifier(Modifier::REVERSED);
        buffer.set_style(line, style);
    }
}

/// Writes a cell, cut to its width.
fn put(buffer: &mut Buffer, (x, y): (u16, u16), width: u16, cell: &Line<'_>, is_number: bool) {
    let needed = u16::try_from(cell.width()).unwrap_or(u16::MAX);
    let skip = if is_number { width.saturating_sub(needed) } else { 0 };
    buffer.set_line(x + skip, y, cell, width - skip);
    if needed > width && width > 0 {
        buffer[(x + width - 1, y)].set_char('~');
    }
}

/// The width of each column; `None` if it is left out.
fn widths(room: u16, columns: &[GridColumn], rows: &[GridRow<'_>]) -> Vec<Option<u16>> {
    let wanted = |index: usize| {
        let cells = rows.iter().filter_map(|row| row.cells.get(index)).map(Line::width);
        let widest = cells.chain([columns[index].title.len()]).max().unwrap_or_default();
        u16::try_from(widest).unwrap_or(u16::MAX).min(columns[index].most)
    };
    let mut by_rank: Vec<usize> = (0..columns.len()).collect();
    by_rank.sort_by_key(|index| columns[*index].rank);
    let mut widths: Vec<Option<u16>> = vec![None; columns.len()];
    // The first column needs no gap.
    let (mut left, mut good_left) = (room.saturating_add(GAP), room.saturating_add(GAP));
    for &index in &by_rank {
        let GridColumn { least, good, .. } = columns[index];
        if least.saturating_add(GAP) > good_left {
            break;
        }
        widths[index] = Some(least);
        left = left.saturating_sub(least + GAP);
        good_left = good_left.saturating_sub(good.max(least) + GAP);
    }
    for &index in &by_rank {
        if let Some(width) = &mut widths[index] {
            let more = wanted(index).max(columns[index].good).saturating_sub(*width).min(left);
            *width += more;
            left -= more;
        }
    }
    // Even the most important column may be wider than the terminal.
    if let (Some(&first), true) = (by_rank.first(), widths.iter().all(Option::is_none)) {
        widths[first] = Some(room);
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(title: &str, least: u16, most: u16, rank: usize) -> GridColumn {
        GridColumn { title: title.to_owned(), least, good: least, most, is_number: rank == 1, rank }
    }

    fn drawn(width: u16) -> Vec<String> {
        let columns = [column("NAME", 4, 20, 0), column("N", 5, 5, 1), column("WHY", 4, 99, 2)];
        let cells =
            |name: &str, number: &str, why: &str| [name, number, why].map(|s| Line::raw(s.to_owned()));
        let row = |cells: [Line<'static>; 3]| GridRow { cells: cells.to_vec(), is_selected: false };
        let rows = [row(cells("h1:eth0", "12", "a long reason")), row(cells("x", "34567", "y"))];
        let area = Rect::new(0, 0, width, 3);
        let mut buffer = Buffer::empty(area);
        grid(&mut buffer, area, &columns, &rows);
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..3).map(line).collect()
    }

    #[test]
    fn columns_are_left_out_and_cut_by_rank() {
        assert_eq!(drawn(40), ["NAME         N  WHY", "h1:eth0     12  a long reason", "x        34567  y"]);
        assert_eq!(drawn(22), ["NAME         N  WHY", "h1:eth0     12  a lon~", "x        34567  y"]);
        assert_eq!(drawn(14), ["NAME         N", "h1:eth0     12", "x        34567"]);
        assert_eq!(drawn(12), ["NAME       N", "h1:e~     12", "x      34567"]);
        assert_eq!(drawn(5), ["NAME", "h1:e~", "x"]);
        assert_eq!(drawn(2), ["N~", "h~", "x"]);
    }
}
