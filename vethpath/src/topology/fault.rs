//! Faults of a file with their positions. They are collected, so that all faults of a file are reported at once.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    ops::Range,
};

use serde::Serialize;

use super::{keys, limits};

/// The severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The file is rejected.
    Error,
    /// The lab is valid, but may not do what was intended.
    Warning,
}

/// One fault of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The severity.
    pub level: Level,
    /// The bytes of the file that it is about.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// A short text under the span.
    pub label: Option<String>,
    /// A second, related position with its label ("first used here").
    pub also: Option<(Range<usize>, String)>,
    /// What to do about it.
    pub hint: String,
}

impl Fault {
    /// Sets the short text under the span.
    pub(super) fn label(&mut self, label: impl AsRef<str>) -> &mut Self {
        self.label = Some(clean(label.as_ref()));
        self
    }

    /// Adds a second position.
    pub(super) fn also(&mut self, span: &Range<usize>, label: impl AsRef<str>) -> &mut Self {
        self.also = Some((span.clone(), clean(label.as_ref())));
        self
    }

    /// Line and column of its start in the file's text, in characters. Both count from 1.
    #[must_use]
    pub fn position(&self, text: &str) -> (usize, usize) {
        let before = &text[..text.floor_char_boundary(self.span.start)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// All faults of a file, in the file's order. Only the warnings of a valid lab may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The faults.
    pub faults: Vec<Fault>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.faults.iter().enumerate() {
            let newline = if n == 0 { "" } else { "\n" };
            write!(f, "{newline}{}", fault.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Collects the faults that the parts of validation find.
#[derive(Debug, Default)]
pub(super) struct Sink {
    faults: Vec<Fault>,
    cut: bool,
}

impl Sink {
    /// Records an error: the file has no valid lab.
    pub(super) fn add(
        &mut self,
        span: &Range<usize>,
        message: impl AsRef<str>,
        hint: impl AsRef<str>,
    ) -> &mut Fault {
        self.record(Level::Error, span, message.as_ref(), hint.as_ref())
    }

    /// Records a warning: the lab is valid, but may not be what was intended.
    pub(super) fn warn(
        &mut self,
        span: &Range<usize>,
        message: impl AsRef<str>,
        hint: impl AsRef<str>,
    ) -> &mut Fault {
        self.record(Level::Warning, span, message.as_ref(), hint.as_ref())
    }

    fn record(&mut self, level: Level, span: &Range<usize>, message: &str, hint: &str) -> &mut Fault {
        self.faults.push(Fault {
            level,
            span: span.clone(),
            message: clean(message),
            label: None,
            also: None,
            hint: clean(hint),
        });
        let last = self.faults.len() - 1;
        &mut self.faults[last]
    }

    /// Whether no error was recorded so far.
    pub(super) fn is_fine(&self) -> bool {
        self.faults.iter().all(|fault| fault.level == Level::Warning)
    }

    /// Records that a part of the file was left out because it exceeds a limit.
    pub(super) fn cut(&mut self) {
        self.cut = true;
    }

    /// Whether a part of the file was left out.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Whether there are more faults than are shown.
    pub(super) fn is_crowded(&self) -> bool {
        self.faults.len() > limits::SHOWN
    }

    /// The candidate that was most likely meant. Returns `None` once there are more faults than are shown, since
    /// the search is slow in a large file.
    pub(super) fn closest<'a>(
        &self,
        word: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        if self.is_crowded() { None } else { keys::closest(word, candidates) }
    }

    /// Drops warnings whose span also has an error. Drops all warnings if there are more faults than are shown.
    pub(super) fn put_errors_first(&mut self) {
        let is_crowded = self.is_crowded();
        let is_error = |fault: &&Fault| fault.level == Level::Error;
        let wrong: HashSet<Range<usize>> =
            self.faults.iter().filter(is_error).map(|fault| fault.span.clone()).collect();
        self.retain(|fault| is_error(&fault) || !(is_crowded || wrong.contains(&fault.span)));
    }

    /// Drops the faults for which `keep` returns false.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Fault) -> bool) {
        self.faults.retain(keep);
    }

    /// Moves another sink's faults into this one.
    pub(super) fn append(&mut self, mut other: Self) {
        self.faults.append(&mut other.faults);
    }

    /// The faults, sorted by position. One line of shorthand can cause the same fault many times: of the faults
    /// with the same span only the first few are kept, and the rest are counted.
    pub(super) fn into_faults(mut self) -> Faults {
        self.faults.sort_by_key(|fault| (fault.span.start, fault.span.end));
        let mut seen: HashMap<(usize, usize), usize> = HashMap::new();
        let mut kept: Vec<Fault> = Vec::new();
        for fault in self.faults {
            let count = seen.entry((fault.span.start, fault.span.end)).or_default();
            *count += 1;
            if *count <= limits::ALIKE {
                kept.push(fault);
            }
        }
        for fault in kept.iter_mut().rev() {
            let count = seen.get_mut(&(fault.span.start, fault.span.end));
            if let Some(more @ 1..) = count.and_then(|count| std::mem::take(count).checked_sub(limits::ALIKE))
            {
                fault.hint.push_str(&format!(" (and {more} more faults with this message)"));
            }
        }
        Faults { faults: kept }
    }
}

/// Text as one printable line. Messages quote file contents, which must not control the terminal.
pub(super) fn clean(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(limits::MESSAGE));
    for (n, character) in text.chars().enumerate() {
        if n == limits::MESSAGE {
            line.push('…');
            break;
        }
        match character {
            '"' | '\'' | '\\' => line.push(character),
            _ => line.extend(character.escape_debug()),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_cannot_drive_the_terminal() {
        assert_eq!(clean("a\u{1b}[31m\nb \"c\" é"), "a\\u{1b}[31m\\nb \"c\" é");
        assert_eq!(clean(&"x".repeat(5000)).chars().count(), limits::MESSAGE + 1);
    }

    #[test]
    fn positions_count_characters_from_one() {
        let mut sink = Sink::default();
        sink.add(&(6..7), "m", "h");
        let faults = sink.into_faults();
        assert_eq!(faults.faults[0].position("a\né é"), (2, 3));
        assert_eq!(faults.faults[0].position(""), (1, 1));
    }
}
