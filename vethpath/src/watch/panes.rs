//! What else there is to see: the detail of a pair, trunks, the traffic matrix, events.

use std::collections::HashMap;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::Widget,
};
use vethpath_common::Reason;

use super::{
    app::{App, Units},
    columns::{alarm, bars, spark, total},
    grid::{BOLD, GridColumn, GridRow, grid, split_bottom, split_top},
    model::Directed,
};
use crate::{
    output::{self, grouped, share, short},
    stats::{Pair, Rate, State, UNSEEN},
};

fn text(title: &str, least: u16, most: u16, rank: usize) -> GridColumn {
    GridColumn { title: title.to_owned(), least, good: least, most, is_number: false, rank }
}

fn number(title: impl Into<String>, width: u16, rank: usize) -> GridColumn {
    GridColumn { title: title.into(), least: width, good: width, most: width, is_number: true, rank }
}

/// Writes a line, and returns the rest of the area.
fn line(buffer: &mut Buffer, area: Rect, line: Line<'_>) -> Rect {
    let (top, rest) = split_top(area, 1);
    line.render(top, buffer);
    rest
}

/// A line across the area with a title in it.
fn rule(app: &App, title: &str, width: u16) -> Line<'static> {
    let dash = if app.look.blocks { "─" } else { "-" };
    let rest = usize::from(width).saturating_sub(title.chars().count() + 4);
    Line::from(vec![
        Span::raw(format!("{dash}{dash} ")),
        Span::styled(title.to_owned(), BOLD),
        Span::raw(" "),
        Span::raw(dash.repeat(rest)),
    ])
}

/// A pair: where it is, what it carries, why it is slow, and what happened to it.
pub(super) fn detail(app: &App, pair: &Pair, area: Rect, buffer: &mut Buffer) {
    let model = app.shown();
    let facts = model.facts.get(&pair.name);
    let mut rest = line(buffer, area, rule(app, &output::label(pair), area.width));
    let style = if pair.state == State::Armed { Style::new() } else { alarm(app.look) };
    let state = output::printable(&pair.state.to_string()).into_owned();
    let place = facts.map(|facts| facts.place.as_str()).filter(|place| *place != "host");
    let place = place.map_or(String::new(), |place| format!(" in {place}"));
    rest = line(
        buffer,
        rest,
        Line::from(vec![
            Span::styled(state, style),
            Span::raw(format!("; port {} on {}{place}", pair.port, pair.bridge)),
        ]),
    );
    if let Some(facts) = facts {
        let addresses =
            if facts.addresses.is_empty() { "no address".to_owned() } else { facts.addresses.join(" ") };
        rest = line(buffer, rest, Line::raw(format!("{addresses} {}", facts.mac)));
    }
    let rates = model.growth.get(&pair.name);
    let traffic = &pair.traffic;
    let now = rates.cloned().unwrap_or_default();
    let flow = |word: &str, rate: Rate, count: crate::stats::Count, fast: String| {
        Line::raw(format!(
            "{word:8} {:>5} b/s {:>5} p/s; in all {} B, {} packets, {fast} fast",
            short(rate.bytes * 8.0),
            short(rate.packets),
            total(count, false),
            grouped(count.packets),
        ))
    };
    let fast_tx = output::percent(traffic.fast.tx.packets, traffic.tx.packets);
    let fast_rx = output::percent(traffic.fast.rx.packets, traffic.rx.packets);
    rest = line(buffer, rest, flow("sent", now.tx, traffic.tx, fast_tx));
    rest = line(buffer, rest, flow("received", now.rx, traffic.rx, fast_rx));
    for one in pair.rtt.iter().flatten() {
        let times = [one.srtt_us, one.var_us, one.worst_us].map(output::milliseconds);
        let text = format!(
            "TCP      {} ms to {}, mean deviation {} ms; worst of {}: {} ms",
            times[0],
            output::printable(&one.peer),
            times[1],
            one.connections,
            times[2]
        );
        rest = line(buffer, rest, Line::raw(text));
    }
    let width = usize::from(area.width).saturating_sub(9).min(60);
    rest = line(buffer, rest, Line::raw(format!("traffic  {}", bars(app, &pair.name, width))));
    let slow = spark(app.look, model.history(&pair.name).map(|point| point.slow), width);
    if !slow.trim().is_empty() {
        rest = line(buffer, rest, Line::raw(format!("slow     {slow}")));
    }
    let events: Vec<Line<'_>> = model
        .events
        .iter()
        .rev()
        .filter(|event| event.pairs.contains(&pair.name))
        .take(usize::from(rest.height / 3).max(1))
        .map(|event| Line::raw(format!("{}  {}", event.time, event.what)))
        .collect();
    let height = if events.is_empty() { 0 } else { u16::try_from(events.len()).unwrap_or(0) + 1 };
    let (middle, mut below) = split_bottom(rest, height.min(rest.height.saturating_sub(2)));
    reasons(pair, &now, middle, buffer);
    if below.height > 1 {
        below = line(buffer, below, rule(app, "latest events of this pair, UTC", area.width));
        let room = usize::from(below.height);
        for event in events.into_iter().take(room) {
            below = line(buffer, below, event);
        }
    }
}

/// Why packets of a pair were slow: now and since the start, with their parts of all that it sent.
fn reasons(pair: &Pair, now: &crate::stats::PairRates, area: Rect, buffer: &mut Buffer) {
    let traffic = &pair.traffic;
    let sent = traffic.tx.packets;
    let columns = [
        text("SLOW BY", 8, 20, 0),
        number("NOW/s", 6, 1),
        number("OF SENT", 7, 2),
        number("IN ALL", 11, 3),
        number("OF SENT", 7, 4),
    ];
    let mut found: Vec<(&'static str, f64, u64)> = traffic
        .slow
        .iter()
        .map(|(reason, packets)| (*reason, now.slow.get(reason).copied().unwrap_or_default(), *packets))
        .collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.2.cmp(&a.2)));
    let mut meanings: Vec<Line<'_>> =
        found.iter().map(|(reason, ..)| Line::raw(format!("{reason}: {}", meaning(reason)))).collect();
    let rows: Vec<GridRow<'_>> = found
        .into_iter()
        .map(|(reason, rate, packets)| GridRow {
            cells: vec![
                Line::raw(reason),
                Line::raw(short(rate)),
                Line::raw(share(rate, now.tx.packets.max(rate))),
                Line::raw(grouped(packets)),
                Line::raw(output::percent(packets, sent)),
            ],
            is_selected: false,
        })
        .collect();
    if rows.is_empty() {
        Line::raw("nothing that it sent was slow").render(area, buffer);
        return;
    }
    // The first reason is explained in any case, others where there is room.
    let room = usize::from(area.height).saturating_sub(rows.len() + 1).max(1);
    meanings.truncate(room);
    let (table, mut below) = split_bottom(area, u16::try_from(meanings.len()).unwrap_or(1));
    let (table, gap) = split_top(table, u16::try_from(rows.len() + 1).unwrap_or(u16::MAX));
    grid(buffer, table, &columns, &rows);
    below = Rect { y: gap.y, height: gap.height + below.height, ..below };
    for meaning in meanings {
        below = line(buffer, below, meaning);
    }
}

fn meaning(name: &str) -> &'static str {
    let reason = Reason::ALL.into_iter().find(|reason| reason.name() == name);
    match reason {
        Some(reason) => reason.meaning(),
        None if name == UNSEEN => {
            "No program saw it: sent while none was attached, or before the port was known."
        }
        None => "",
    }
}

/// A row for each trunk.
pub(super) fn trunks(app: &mut App, area: Rect, buffer: &mut Buffer) {
    let columns = [
        text("TRUNK", 8, 28, 0),
        number(format!("TX {}", app.unit()), 8, 2),
        number(format!("RX {}", app.unit()), 8, 3),
        number("FAST TX", 7, 4),
        number("FAST RX", 7, 5),
        number("TX pkts", 7, 6),
        number("RX pkts", 7, 7),
        number("TX B", 7, 8),
        number("RX B", 7, 9),
        text("PORT", 8, 15, 10),
        text("FAR PORT", 8, 15, 11),
        text("STATE", 8, 80, 1),
    ];
    let trunks = &app.shown().stats.trunks;
    if trunks.is_empty() {
        Line::raw("the lab has no trunks").render(area, buffer);
        return;
    }
    let page = usize::from(area.height.saturating_sub(1));
    let offset = app.offset.min(trunks.len().saturating_sub(page));
    let row = |trunk: &crate::stats::Trunk| {
        let rates = app.shown().trunks.get(&trunk.name);
        let rate = |of: fn(&Directed) -> Rate| rates.map_or("-".to_owned(), |(all, _)| app.rate(of(all)));
        let fast = |of: fn(&Directed) -> Rate| {
            rates.map_or("-".to_owned(), |(all, fast)| share(of(fast).packets, of(all).packets))
        };
        let style = if trunk.state == State::Armed { Style::new() } else { alarm(app.look) };
        GridRow {
            cells: vec![
                Line::raw(trunk.name.clone()),
                Line::raw(rate(|rates| rates.tx)),
                Line::raw(rate(|rates| rates.rx)),
                Line::raw(fast(|rates| rates.tx)),
                Line::raw(fast(|rates| rates.rx)),
                Line::raw(total(trunk.total.tx, true)),
                Line::raw(total(trunk.total.rx, true)),
                Line::raw(total(trunk.total.tx, false)),
                Line::raw(total(trunk.total.rx, false)),
                Line::raw(trunk.port.to_string()),
                Line::raw(trunk.far_port.to_string()),
                Line::styled(output::printable(&trunk.state.to_string()).into_owned(), style),
            ],
            is_selected: false,
        }
    };
    let rows: Vec<GridRow<'_>> = trunks.iter().skip(offset).take(page).map(row).collect();
    grid(buffer, area, &columns, &rows);
    (app.offset, app.page) = (offset, page.max(1));
}

/// The traffic matrix of the fast path: senders are rows, receivers columns, both the pairs with the most traffic in it.
pub(super) fn matrix(app: &mut App, area: Rect, buffer: &mut Buffer) {
    const BLOCKS: [&str; 5] = ["· ", "░░", "▒▒", "▓▓", "██"];
    const ASCII: [&str; 5] = [". ", "::", "==", "##", "@@"];
    let Some(cells) = busy_cells(app) else {
        Line::raw("reading the matrix ...").render(area, buffer);
        return;
    };
    let value = |rate: &Rate| if app.units == Units::Packets { rate.packets } else { rate.bytes };
    let mut of_pair: HashMap<&str, f64> = HashMap::new();
    for ((from, to), rate) in &cells {
        for name in [from, to] {
            *of_pair.entry(name).or_default() += value(rate);
        }
    }
    let is_wanted = |name: &str| name.to_lowercase().contains(&app.filter.to_lowercase());
    let mut names: Vec<(&str, f64)> = of_pair.into_iter().filter(|(name, _)| is_wanted(name)).collect();
    names.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    if names.is_empty() {
        Line::raw("no fast frames in the last interval").render(area, buffer);
        return;
    }
    let widest = names.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let label = widest.min(usize::from(area.width) / 3);
    let most = cells.values().map(value).fold(0.0, f64::max);
    let (legend, rest) = split_bottom(area, 1);
    let page = usize::from(legend.height.saturating_sub(2));
    let offset = app.offset.min(names.len().saturating_sub(page.max(1)));
    let columns = (usize::from(area.width).saturating_sub(label + 15)) / 3;
    let levels = if app.look.blocks { BLOCKS } else { ASCII };
    let title = format!("fast path, {}: rows send to columns", app.unit());
    let mut body = line(buffer, legend, Line::styled(title, BOLD));
    let heads: String =
        (1..=names.len().min(columns)).map(|number| format!("{:>2} ", number % 100)).collect();
    body = line(buffer, body, Line::styled(format!("{:>width$}{heads}", "", width = label + 14), BOLD));
    for (index, (from, _)) in names.iter().enumerate().skip(offset).take(page) {
        let sum: Rate = cells
            .iter()
            .filter(|((sender, _), _)| sender == from)
            .fold(Rate::default(), |sum, (_, rate)| sum.plus(*rate));
        let head = format!("{:>3} {} {:>7}  ", (index + 1) % 1000, fitted(from, label), app.rate(sum));
        let mut row = Line::raw(head);
        for (to, _) in names.iter().take(columns) {
            let rate = cells.get(&(*from, *to));
            let text = rate.map_or(levels[0], |rate| levels[heat(value(rate), most)]);
            row.push_span(Span::raw(format!("{text} ")));
        }
        body = line(buffer, body, row);
    }
    let scale = format!(
        "{} 0  {} to 1/1000 of the most  {} 1/100  {} 1/10  {} more",
        levels[0], levels[1], levels[2], levels[3], levels[4]
    );
    Line::raw(scale).render(rest, buffer);
    (app.offset, app.page) = (offset, page.max(1));
}

/// The cells with traffic in the last interval. `None` before the second matrix.
fn busy_cells(app: &App) -> Option<HashMap<(&str, &str), Rate>> {
    let model = app.shown();
    model.flows.as_ref()?;
    if !model.has_flow_rates() {
        return None;
    }
    Some(model.flow_rates.iter().map(|((from, to), rate)| ((from.as_str(), to.as_str()), *rate)).collect())
}

/// 1 to 4 by orders of magnitude below the most.
fn heat(value: f64, most: f64) -> usize {
    match value / most {
        part if part > 0.1 => 4,
        part if part > 0.01 => 3,
        part if part > 0.001 => 2,
        _ => 1,
    }
}

/// A text in exactly this width.
fn fitted(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return format!("{text:width$}");
    }
    text.chars().take(width.saturating_sub(1)).chain(['~']).collect()
}

fn event_line(event: &super::model::Line, look: super::app::Look) -> Line<'static> {
    let style = if event.what.starts_with("not armed") { alarm(look) } else { Style::new() };
    Line::from(vec![
        Span::raw(format!("{}  ", event.time)),
        Span::styled(event.subject.clone(), BOLD),
        Span::raw("  "),
        Span::styled(event.what.clone(), style),
    ])
}

/// All events that are kept, the newest last.
pub(super) fn events(app: &mut App, area: Rect, buffer: &mut Buffer) {
    let mut rest = line(buffer, area, rule(app, "events, UTC", area.width));
    let lines = app.lines();
    if lines.is_empty() {
        Line::raw("no events").render(rest, buffer);
        return;
    }
    let page = usize::from(rest.height);
    let offset = app.offset.min(lines.len().saturating_sub(page));
    let end = lines.len() - offset;
    let drawn: Vec<_> =
        lines[end.saturating_sub(page)..end].iter().map(|event| event_line(event, app.look)).collect();
    for event in drawn {
        rest = line(buffer, rest, event);
    }
    (app.offset, app.page) = (offset, page.max(1));
}

/// The last events, the newest last.
pub(super) fn latest_events(app: &App, area: Rect, buffer: &mut Buffer) {
    let mut rest = line(buffer, area, rule(app, "latest events, UTC", area.width));
    let lines = app.lines();
    for event in &lines[lines.len().saturating_sub(usize::from(rest.height))..] {
        rest = line(buffer, rest, event_line(event, app.look));
    }
}
