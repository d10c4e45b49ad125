//! What is shown: a state machine of samples, events and keys. It does no I/O.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::model::{Line, Model, Sample};
use crate::{
    output,
    state::events::Event,
    stats::{self, SortKey, order},
};

/// What traffic is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    /// Bits per second; totals in bytes.
    Bits,
    /// Bytes.
    Bytes,
    /// Packets.
    Packets,
}

/// What is on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    /// A row for each pair.
    Pairs,
    /// A row for each trunk.
    Trunks,
    /// The traffic matrix of the fast path as a heat map.
    Matrix,
    /// The events.
    Events,
}

impl Pane {
    pub(super) const ALL: [Self; 4] = [Self::Pairs, Self::Trunks, Self::Matrix, Self::Events];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pairs => "pairs",
            Self::Trunks => "trunks",
            Self::Matrix => "matrix",
            Self::Events => "events",
        }
    }
}

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether to use colours: the environment has no `NO_COLOR`.
    pub color: bool,
    /// Whether to use block characters: the locale is UTF-8.
    pub blocks: bool,
}

/// How the view begins.
#[derive(Clone, Debug)]
pub struct Options {
    /// The order of pairs.
    pub sort: SortKey,
    /// The text that shown pairs have; may be empty.
    pub filter: String,
    /// The time between samples.
    pub interval: Duration,
    /// What the terminal can show.
    pub look: Look,
    /// Whether round-trip times of TCP connections are shown.
    pub rtt: bool,
}

/// Whether the view goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Continue,
    /// The user has quit.
    Quit,
}

/// The view.
#[derive(Debug)]
pub struct App {
    model: Model,
    /// What was shown when it was frozen.
    frozen: Option<Box<Model>>,
    pub(super) pane: Pane,
    pub(super) has_detail: bool,
    pub(super) has_help: bool,
    pub(super) sort: SortKey,
    pub(super) is_reversed: bool,
    pub(super) filter: String,
    pub(super) is_typing: bool,
    pub(super) units: Units,
    /// Whether round-trip times are shown.
    pub(super) rtt: bool,
    pub(super) interval: Duration,
    pub(super) look: Look,
    /// The name of the selected pair; `None` for the first row, whichever pair is there.
    selected: Option<String>,
    /// The first row that is visible in the current pane, or of events the number of those below the last visible one.
    pub(super) offset: usize,
    /// The number of rows that were visible.
    pub(super) page: usize,
    /// How long the reply to the present request has been awaited, if that is longer than the interval.
    pub(super) late: Option<Duration>,
}

impl App {
    /// The view after the first sample.
    #[must_use]
    pub fn new(options: Options, sample: Sample) -> Self {
        let Options { sort, filter, interval, look, rtt } = options;
        Self {
            model: Model::new(sample),
            frozen: None,
            pane: Pane::Pairs,
            has_detail: false,
            has_help: false,
            sort,
            is_reversed: false,
            filter,
            is_typing: false,
            units: Units::Bits,
            rtt,
            interval,
            look,
            selected: None,
            offset: 0,
            page: 1,
            late: None,
        }
    }

    /// Takes the next sample.
    pub fn on_sample(&mut self, sample: Sample) {
        self.model.update(sample);
        self.late = None;
    }

    /// Takes events, oldest first.
    pub fn on_events(&mut self, events: &[Event]) {
        self.model.add_events(events);
    }

    /// The reply to the present request has been awaited for so long. Returns whether that changes what is shown.
    pub fn on_silence(&mut self, waited: Duration) -> bool {
        let late = (waited > self.interval).then_some(waited);
        std::mem::replace(&mut self.late, late) != late
    }

    /// Whether the traffic matrix is shown, and thus to be read.
    #[must_use]
    pub fn wants_matrix(&self) -> bool {
        self.pane == Pane::Matrix
    }

    /// The names of the pairs whose round-trip times are shown, and thus to be read: those on the screen.
    #[must_use]
    pub fn wanted_round_trips(&self) -> Vec<String> {
        if !self.rtt || self.pane != Pane::Pairs {
            return Vec::new();
        }
        let pairs = &self.shown().stats.pairs;
        let rows = self.rows().into_iter().skip(self.offset).take(self.page);
        rows.map(|index| pairs[index].name.clone()).collect()
    }

    /// Takes a key.
    pub fn on_key(&mut self, key: KeyEvent) -> Flow {
        if key.kind == KeyEventKind::Release {
            return Flow::Continue;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            // A terminal that sends no signal for it.
            return if key.code == KeyCode::Char('c') { Flow::Quit } else { Flow::Continue };
        }
        if key.modifiers.contains(KeyModifiers::ALT) {
            // Esc and a key that arrive together look the same.
            let _ = self.on_key(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE));
            return self.on_key(KeyEvent::new(key.code, key.modifiers.difference(KeyModifiers::ALT)));
        }
        if self.is_typing {
            self.type_filter(key.code);
            return Flow::Continue;
        }
        match key.code {
            KeyCode::Char('q') => return Flow::Quit,
            KeyCode::Char('?') => self.has_help = !self.has_help,
            KeyCode::Esc => self.close(),
            KeyCode::Enter => self.has_detail = self.pane == Pane::Pairs && !self.has_detail,
            KeyCode::Char('/') => (self.is_typing, self.has_help) = (true, false),
            KeyCode::Char('s') => self.sort_by(SortKey::Slow),
            KeyCode::Char('t') => self.sort_by(SortKey::Traffic),
            KeyCode::Char('n') => self.sort_by(SortKey::Name),
            KeyCode::Char('f') => self.sort_by(SortKey::File),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Char('u') => {
                self.units = match self.units {
                    Units::Bits => Units::Bytes,
                    Units::Bytes => Units::Packets,
                    Units::Packets => Units::Bits,
                };
            }
            KeyCode::Char('l') => self.rtt = !self.rtt,
            KeyCode::Char(' ') => {
                self.frozen = if self.frozen.is_some() { None } else { Some(Box::new(self.model.clone())) };
            }
            KeyCode::Tab => self.switch(1),
            KeyCode::BackTab => self.switch(Pane::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='4') => self.open(Pane::ALL[digit as usize - '1' as usize]),
            KeyCode::Up | KeyCode::Char('k') => self.up(1),
            KeyCode::Down | KeyCode::Char('j') => self.down(1),
            KeyCode::PageUp => self.up(self.page),
            KeyCode::PageDown => self.down(self.page),
            KeyCode::Home | KeyCode::Char('g') => self.up(usize::MAX),
            KeyCode::End | KeyCode::Char('G') => self.down(usize::MAX),
            _ => {}
        }
        Flow::Continue
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => (self.is_typing, self.filter) = (false, String::new()),
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(character) => self.filter.push(character),
            _ => return,
        }
        (self.selected, self.offset) = (None, 0);
    }

    /// Closes what is on top.
    fn close(&mut self) {
        if self.has_help {
            self.has_help = false;
        } else if self.has_detail {
            self.has_detail = false;
        } else {
            self.filter.clear();
        }
    }

    fn sort_by(&mut self, key: SortKey) {
        (self.sort, self.is_reversed) = (key, false);
        self.open(Pane::Pairs);
        // The first one is what the user looks for.
        (self.selected, self.offset) = (None, 0);
    }

    fn switch(&mut self, by: usize) {
        let now = Pane::ALL.iter().position(|pane| *pane == self.pane).unwrap_or_default();
        self.open(Pane::ALL[(now + by) % Pane::ALL.len()]);
    }

    fn open(&mut self, pane: Pane) {
        if pane != self.pane {
            (self.pane, self.offset, self.has_detail, self.has_help) = (pane, 0, false, false);
        }
    }

    fn up(&mut self, by: usize) {
        match self.pane {
            Pane::Pairs => self.select(|now, _| now.saturating_sub(by)),
            Pane::Trunks | Pane::Matrix => self.offset = self.offset.saturating_sub(by),
            Pane::Events => self.offset = self.offset.saturating_add(by),
        }
    }

    fn down(&mut self, by: usize) {
        match self.pane {
            Pane::Pairs => self.select(|now, last| now.saturating_add(by).min(last)),
            Pane::Trunks | Pane::Matrix => self.offset = self.offset.saturating_add(by),
            Pane::Events => self.offset = self.offset.saturating_sub(by),
        }
    }

    fn select(&mut self, to: impl Fn(usize, usize) -> usize) {
        let rows = self.rows();
        let to = to(self.selected_row(&rows), rows.len().saturating_sub(1));
        let name = rows.get(to).map(|index| self.shown().stats.pairs[*index].name.clone());
        self.selected = name.filter(|_| to > 0);
    }

    /// The data that is shown.
    pub(super) fn shown(&self) -> &Model {
        self.frozen.as_deref().unwrap_or(&self.model)
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// The shown pairs, in order, as indices into the account.
    pub(super) fn rows(&self) -> Vec<usize> {
        let model = self.shown();
        let is_wanted = |pair: &stats::Pair| {
            let facts = model.facts.get(&pair.name);
            stats::matches(pair, &self.filter)
                || facts
                    .is_some_and(|facts| facts.addresses.iter().any(|address| address.contains(&self.filter)))
        };
        let mut rows = order(&model.stats.pairs, &model.growth, self.sort, is_wanted);
        if self.is_reversed {
            rows.reverse();
        }
        rows
    }

    /// The selected row of these: the first one, if the selected pair is not among them.
    pub(super) fn selected_row(&self, rows: &[usize]) -> usize {
        let pairs = &self.shown().stats.pairs;
        let is_selected = |index: &usize| self.selected.as_ref() == Some(&pairs[*index].name);
        rows.iter().position(is_selected).unwrap_or_default()
    }

    /// The events that are shown, oldest first.
    pub(super) fn lines(&self) -> Vec<&Line> {
        let text = self.filter.to_lowercase();
        let has = |line: &&Line| {
            text.is_empty()
                || line.subject.to_lowercase().contains(&text)
                || line.what.to_lowercase().contains(&text)
        };
        self.shown().events.iter().filter(has).collect()
    }

    /// A rate in the present units: `12.3k`.
    pub(super) fn rate(&self, rate: stats::Rate) -> String {
        output::short(match self.units {
            Units::Bits => rate.bytes * 8.0,
            Units::Bytes => rate.bytes,
            Units::Packets => rate.packets,
        })
    }

    /// The unit of rates: bits, bytes or packets.
    pub(super) const fn unit(&self) -> &'static str {
        match self.units {
            Units::Bits => "b/s",
            Units::Bytes => "B/s",
            Units::Packets => "p/s",
        }
    }
}
