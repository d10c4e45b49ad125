//! The columns of the table of pairs.

use ratatui::{
    style::{Color, Modifier, Style},
    text::Line,
};

use super::{
    app::{App, Look, Units},
    grid::GridColumn,
    model::Point,
};
use crate::{
    output::{self, share, short},
    stats::{Count, Pair, PairRates, Rate, State},
};

/// A column of the table of pairs. A further one is a variant here, its place in [`Column::ALL`] and in
/// [`Column::RANKS`], and a line in each of the matches below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// The name.
    Pair,
    /// The rate sent, in the present units.
    Tx,
    /// The rate received, in the present units.
    Rx,
    /// The part of the sent packets that was fast in the last interval.
    Fast,
    /// Slow packets per second.
    Slow,
    /// The round-trip time of its TCP connections to the host for which it is the longest.
    Rtt,
    /// The traffic of the last minutes.
    History,
    /// Sent since the lab came up.
    TxTotal,
    /// Received since the lab came up.
    RxTotal,
    /// The rate sent, in packets, or in bits where the units are packets.
    OtherTx,
    /// The rate received, likewise.
    OtherRx,
    /// Sent since the lab came up, in packets, or in bytes where the units are packets.
    OtherTxTotal,
    /// Received since the lab came up, likewise.
    OtherRxTotal,
    /// The part of the sent packets that was fast since the lab came up.
    FastTotal,
    /// The bridge.
    Bridge,
    /// The port's device name.
    Port,
    /// Whether it is armed, or why not; and the main reason for what is slow.
    State,
}

impl Column {
    /// From left to right.
    pub(super) const ALL: [Self; 17] = [
        Self::Pair,
        Self::Tx,
        Self::Rx,
        Self::OtherTx,
        Self::OtherRx,
        Self::TxTotal,
        Self::RxTotal,
        Self::OtherTxTotal,
        Self::OtherRxTotal,
        Self::Bridge,
        Self::Port,
        Self::History,
        Self::FastTotal,
        Self::Fast,
        Self::Slow,
        Self::Rtt,
        Self::State,
    ];

    /// From the one that is left out last to the one that is left out first.
    const RANKS: [Self; 17] = [
        Self::Pair,
        Self::Slow,
        Self::State,
        Self::Tx,
        Self::Rx,
        Self::Rtt,
        Self::Fast,
        Self::History,
        Self::TxTotal,
        Self::RxTotal,
        Self::OtherTx,
        Self::OtherRx,
        Self::OtherTxTotal,
        Self::OtherRxTotal,
        Self::FastTotal,
        Self::Bridge,
        Self::Port,
    ];

    /// The columns that are wanted, from left to right.
    pub(super) fn wanted(app: &App) -> impl Iterator<Item = Self> + Clone {
        let rtt = app.rtt;
        Self::ALL.into_iter().filter(move |column| rtt || *column != Self::Rtt)
    }

    /// The column in a table of this width. Widths do not depend on the rates, so that columns stay where they are.
    pub(super) fn grid(self, app: &App, width: u16) -> GridColumn {
        let (unit, (other, _)) = (app.unit(), other_units(app.units));
        let (total, other_total) = if app.units == Units::Packets { ("pkts", "B") } else { ("B", "pkts") };
        let number = |title: String, width| (title, width, width, width, true);
        let text = |title: &str, least, good, most| (title.to_owned(), least, good, most, false);
        let (title, least, good, most, is_number) = match self {
            Self::Pair => {
                let labels = app.shown().stats.pairs.iter().map(output::label_width);
                let widest = u16::try_from(labels.max().unwrap_or_default()).unwrap_or(u16::MAX).clamp(8, 28);
                text("PAIR", widest.min(width / 3), widest, widest)
            }
            Self::Tx => number(format!("TX {unit}"), 6),
            Self::Rx => number(format!("RX {unit}"), 6),
            Self::OtherTx => number(format!("TX {other}"), 6),
            Self::OtherRx => number(format!("RX {other}"), 6),
            Self::Fast => number("FAST".to_owned(), 5),
            Self::Slow => number("SLOW/s".to_owned(), 6),
            Self::Rtt => number("RTT ms".to_owned(), 9),
            Self::History => {
                let bars = history_width(width);
                text("HISTORY", bars, bars, bars)
            }
            Self::TxTotal => number(format!("TX {total}"), 7),
            Self::RxTotal => number(format!("RX {total}"), 7),
            Self::OtherTxTotal => number(format!("TX {other_total}"), 7),
            Self::OtherRxTotal => number(format!("RX {other_total}"), 7),
            Self::FastTotal => number("FAST ALL".to_owned(), 8),
            Self::Bridge => text("BRIDGE", 10, 10, 15),
            Self::Port => text("PORT", 12, 12, 15),
            Self::State => text("STATE", 12, 24, 120),
        };
        let rank = Self::RANKS.iter().position(|column| *column == self).unwrap_or(Self::RANKS.len());
        GridColumn { title, least, good, most, is_number, rank }
    }

    /// Its cell of a pair in a table of this width.
    pub(super) fn cell(self, app: &App, width: u16, pair: &Pair) -> Line<'static> {
        let model = app.shown();
        let rates = model.growth.get(&pair.name);
        let rate = |of: fn(&PairRates) -> Rate| rates.map_or("-".to_owned(), |rates| app.rate(of(rates)));
        let other = |of: fn(&PairRates) -> Rate| {
            rates.map_or("-".to_owned(), |rates| short(other_units(app.units).1(of(rates))))
        };
        let is_packets = app.units == Units::Packets;
        let traffic = &pair.traffic;
        Line::raw(match self {
            Self::Pair => output::label(pair),
            Self::Tx => rate(|rates| rates.tx),
            Self::Rx => rate(|rates| rates.rx),
            Self::OtherTx => other(|rates| rates.tx),
            Self::OtherRx => other(|rates| rates.rx),
            Self::Fast => rates.map_or("-".to_owned(), |rates| share(rates.fast.packets, rates.tx.packets)),
            Self::Slow => return slow(app.look, rates),
            Self::Rtt => {
                let longest = pair.rtt.iter().flatten().map(|one| one.srtt_us).max();
                longest.map_or("-".to_owned(), output::milliseconds)
            }
            Self::History => bars(app, &pair.name, usize::from(history_width(width))),
            Self::TxTotal => total(traffic.tx, is_packets),
            Self::RxTotal => total(traffic.rx, is_packets),
            Self::OtherTxTotal => total(traffic.tx, !is_packets),
            Self::OtherRxTotal => total(traffic.rx, !is_packets),
            Self::FastTotal => output::percent(traffic.fast.tx.packets, traffic.tx.packets),
            Self::Bridge => pair.bridge.to_string(),
            Self::Port => pair.port.to_string(),
            Self::State => return state(app.look, pair, rates),
        })
    }
}

type Value = fn(Rate) -> f64;

/// The unit of the other columns, and their value.
fn other_units(units: Units) -> (&'static str, Value) {
    match units {
        Units::Bits | Units::Bytes => ("p/s", |rate| rate.packets),
        Units::Packets => ("b/s", |rate| rate.bytes * 8.0),
    }
}

/// The number of bars in a table of this width. The samples that are kept are a multiple of it.
const fn history_width(width: u16) -> u16 {
    match width {
        0..100 => 8,
        100..140 => 12,
        _ => 24,
    }
}

/// A number since the lab came up, to three digits.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn total(count: Count, is_packets: bool) -> String {
    let number = if is_packets { count.packets } else { count.bytes };
    if number < 1000 { number.to_string() } else { short(number as f64) }
}

/// The style of what a person should look at. Red reads on a light and on a dark background.
pub(super) fn alarm(look: Look) -> Style {
    let style = Style::new().add_modifier(Modifier::BOLD);
    if look.color { style.fg(Color::Red) } else { style }
}

fn slow(look: Look, rates: Option<&PairRates>) -> Line<'static> {
    let Some(rates) = rates else { return Line::raw("-") };
    let (slow, sent) = (rates.slow_packets(), rates.tx.packets);
    // A pair sends a few frames a second that are never fast.
    let is_much = slow > 10.0 && slow * 10.0 > sent;
    Line::styled(short(slow), if is_much { alarm(look) } else { Style::new() })
}

/// A pair's state, and the main reason for what is slow now, with its part of that.
fn state(look: Look, pair: &Pair, rates: Option<&PairRates>) -> Line<'static> {
    let State::Armed = pair.state else {
        return Line::styled(output::printable(&pair.state.to_string()).into_owned(), alarm(look));
    };
    let now = rates.and_then(|rates| {
        let (reason, most) = rates.slow.iter().max_by(|a, b| a.1.total_cmp(b.1))?;
        Some((*reason, (most / rates.slow_packets() * 100.0).round()))
    });
    let Some((reason, percent)) = now else { return Line::raw("armed") };
    Line::raw(format!("armed; {reason} {percent}%"))
}

/// A pair's traffic in the last minutes as bars, the newest right. The highest bar is the pair's own maximum.
pub(super) fn bars(app: &App, pair: &str, width: usize) -> String {
    let value = |point: Point| match app.units {
        Units::Packets => point.packets,
        Units::Bits | Units::Bytes => point.bytes,
    };
    spark(app.look, app.shown().history(pair).map(value), width)
}

/// Values as bars, the newest right.
pub(super) fn spark(look: Look, values: impl ExactSizeIterator<Item = f32>, width: usize) -> String {
    const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const ASCII: [char; 9] = [' ', '.', ':', '-', '=', '+', '*', '#', '@'];
    let levels = if look.blocks { BLOCKS } else { ASCII };
    let values: Vec<f32> = values.collect();
    // Each bar stands for equally many samples, so that all of them stay where they are when a sample is added.
    let each = super::model::SAMPLES.div_ceil(width.max(1));
    let bars: Vec<f32> = values.rchunks(each).map(|part| part.iter().copied().fold(0.0, f32::max)).collect();
    let most = bars.iter().copied().fold(0.0, f32::max);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 8")]
    let level = |value: f32| if value > 0.0 { ((value / most * 8.0).ceil() as usize).clamp(1, 8) } else { 0 };
    let bars: String = bars.iter().take(width).rev().map(|value| levels[level(*value)]).collect();
    format!("{bars:>width$}")
}
