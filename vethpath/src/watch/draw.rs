//! From the view's state to a frame.

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
    text::{Line, Span, Text},
    widgets::{Clear, Paragraph, Widget, Wrap},
};

use super::{
    app::{App, Pane},
    columns::{Column, alarm},
    grid::{BOLD, GridColumn, GridRow, grid, split_bottom, split_top},
    keys::KEYS,
    panes,
};
use crate::{output, stats::Summary};

/// The height from which events are shown below the table.
const TALL: u16 = 32;

/// The height from which the detail leaves room for the table above it.
const HIGH: u16 = 20;

impl App {
    /// Draws the view.
    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let buffer = frame.buffer_mut();
        if area.height < 4 || area.width < 10 {
            Line::raw("vethpath: the terminal is too small").render(area, buffer);
            return;
        }
        let summary = self.summary();
        let lines = u16::try_from(wrapped_lines(&summary, area.width)).unwrap_or(1);
        let top = lines.min(if area.height < 16 { 1 } else { 3 });
        let (head, rest) = split_top(area, top);
        Paragraph::new(summary).style(BOLD).wrap(Wrap { trim: true }).render(head, buffer);
        let (status, rest) = split_top(rest, 1);
        let rows = self.rows();
        self.status(rows.len()).render(status, buffer);
        let (body, bottom) = split_bottom(rest, 1);
        self.bottom(bottom.width).render(bottom, buffer);
        self.body(&rows, body, buffer);
        if self.has_help {
            help(area, buffer);
        }
    }

    fn summary(&self) -> String {
        let stats = &self.shown().stats;
        let summary = output::summary(&Summary::of(stats, Some(&self.shown().growth)));
        output::printable(&format!("{}: {summary}", stats.lab)).into_owned()
    }

    /// Which part of the data is shown, in so many rows, and how; and what is wrong with the data.
    fn status(&self, rows: usize) -> Line<'static> {
        let mut parts = Vec::new();
        let mut add = |text: String, style: Style| {
            if !parts.is_empty() {
                parts.push(Span::raw("  "));
            }
            parts.push(Span::styled(text, style));
        };
        let alarm = alarm(self.look);
        if self.is_frozen() {
            add("FROZEN".to_owned(), alarm);
        }
        if let Some(late) = self.late {
            add(format!("no reply for {:.1} s", late.as_secs_f64()), alarm);
        }
        let agent = &self.shown().stats.agent;
        if !agent.alive {
            let left = std::time::Duration::from_millis(agent.lease_left_ms).as_secs();
            let what = if left > 0 {
                format!("agent silent, lease {left} s")
            } else {
                "agent silent: plain bridge".to_owned()
            };
            add(what, alarm);
        }
        if let Some(drops) = agent.drops.first() {
            add(output::printable(drops).into_owned(), alarm);
        }
        let all = self.shown().stats.pairs.len();
        add(
            if rows == all { output::count(all, "pair") } else { format!("{rows} of {all} pairs") },
            Style::new(),
        );
        if self.is_typing || !self.filter.is_empty() {
            let cursor = if self.is_typing { "_" } else { "" };
            let filter = output::printable(&self.filter).into_owned();
            add(format!("filter: {filter}{cursor}"), BOLD);
        }
        add(
            format!("by {}{}", self.sort.name(), if self.is_reversed { ", reversed" } else { "" }),
            Style::new(),
        );
        add(format!("every {}", seconds(self.interval)), Style::new());
        for (number, pane) in Pane::ALL.iter().enumerate() {
            let style =
                if *pane == self.pane { BOLD.add_modifier(Modifier::UNDERLINED) } else { Style::new() };
            add(format!("{} {}", number + 1, pane.name()), style);
        }
        Line::from(parts)
    }

    /// The keys, as many as fit.
    fn bottom(&self, width: u16) -> Line<'static> {
        if self.is_typing {
            return Line::raw("type a text; Enter keeps the filter, Esc ends it");
        }
        let mut line = Line::default();
        for key in KEYS.iter().filter(|key| !key.word.is_empty()) {
            let gap = if line.spans.is_empty() { "" } else { "  " };
            let more = [Span::raw(gap), Span::styled(key.keys, BOLD), Span::raw(" "), Span::raw(key.word)];
            let needed: usize = more.iter().map(Span::width).sum();
            if line.width() + needed > usize::from(width) {
                break;
            }
            line.spans.extend(more);
        }
        line
    }

    fn body(&mut self, rows: &[usize], area: Rect, buffer: &mut Buffer) {
        match self.pane {
            Pane::Pairs => self.pairs_and_more(rows, area, buffer),
            Pane::Trunks => panes::trunks(self, area, buffer),
            Pane::Matrix => panes::matrix(self, area, buffer),
            Pane::Events => panes::events(self, area, buffer),
        }
    }

    fn pairs_and_more(&mut self, rows: &[usize], area: Rect, buffer: &mut Buffer) {
        if !self.has_detail {
            let events = if area.height >= TALL { area.height / 5 } else { 0 };
            let (table, below) = split_bottom(area, events);
            self.table(rows, table, buffer);
            if events > 0 {
                panes::latest_events(self, below, buffer);
            }
            return;
        }
        let detail = if area.height >= HIGH { area.height - area.height / 3 } else { area.height };
        let (table, detail) = split_bottom(area, detail);
        self.table(rows, table, buffer);
        if let Some(index) = rows.get(self.selected_row(rows)) {
            panes::detail(self, &self.shown().stats.pairs[*index], detail, buffer);
        }
    }

    /// The table of pairs, scrolled so that the selected one is visible.
    fn table(&mut self, rows: &[usize], area: Rect, buffer: &mut Buffer) {
        if area.height < 2 {
            return;
        }
        if rows.is_empty() {
            let text = if self.shown().stats.pairs.is_empty() {
                "no interface of the lab is on a bridge"
            } else {
                "no pair matches the filter"
            };
            Line::raw(text).render(area, buffer);
            return;
        }
        self.page = usize::from(area.height - 1);
        let selected = self.selected_row(rows);
        let last_offset = rows.len().saturating_sub(self.page);
        let least = (selected + 1).saturating_sub(self.page);
        self.offset = self.offset.clamp(least, selected).min(last_offset);
        let columns: Vec<GridColumn> =
            Column::wanted(self).map(|column| column.grid(self, area.width)).collect();
        let visible = rows.iter().enumerate().skip(self.offset).take(self.page);
        let visible: Vec<GridRow<'_>> = visible
            .map(|(row, index)| {
                let pair = &self.shown().stats.pairs[*index];
                let cells = Column::wanted(self).map(|column| column.cell(self, area.width, pair)).collect();
                GridRow { cells, is_selected: row == selected }
            })
            .collect();
        grid(buffer, area, &columns, &visible);
    }
}

/// The number of lines that a text has when its words are wrapped.
fn wrapped_lines(text: &str, width: u16) -> usize {
    let width = usize::from(width);
    let mut lines = 1;
    let mut column = 0;
    for word in text.split(' ').map(|word| word.chars().count()) {
        let needed = if column == 0 { word } else { column + 1 + word };
        (lines, column) = if needed > width && column > 0 { (lines + 1, word) } else { (lines, needed) };
    }
    lines
}

/// `1 s`, `0.5 s`.
fn seconds(time: std::time::Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// The keys, over everything else.
fn help(area: Rect, buffer: &mut Buffer) {
    let lines: Vec<Line<'_>> = KEYS
        .iter()
        .map(|key| Line::from(vec![Span::styled(format!("{:>8}  ", key.keys), BOLD), Span::raw(key.help)]))
        .collect();
    Clear.render(area, buffer);
    let mut text = Text::from(vec![Line::styled("vethpath stats --watch: keys", BOLD), Line::default()]);
    text.extend(lines);
    text.extend([
        Line::default(),
        Line::raw("FAST: packets sent by the fast path, in percent of the last interval; FAST ALL: since the start."),
        Line::raw("SLOW/s: packets per second that went by the bridge. STATE: armed, or why not; and the main reason"),
        Line::raw("for what is slow, with its part of that. HISTORY: the last minutes, each row with its own scale."),
        Line::raw("RTT: smoothed round-trip time of TCP, as the kernel measures it, to the host for which it is longest."),
    ]);
    Paragraph::new(text).wrap(Wrap { trim: false }).render(area, buffer);
}
