//! Faults of a file with their positions. They are collected, so that all faults of a file are reported at once, and
//! rendered as text, each with the line that it is about.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
    ops::Range,
};

use annotate_snippets::{AnnotationKind, Level as Heading, Renderer, Snippet};
use serde::Serialize;

use super::Source;

/// Faults with the same span that are reported.
const ALIKE: usize = 3;
/// Faults that are rendered; the rest are counted.
const SHOWN: usize = 100;
/// The longest message, label or hint, in characters.
const MESSAGE: usize = 600;

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

    /// Adds a second position. An empty one is that of what the command line asks for, and not in the file.
    pub(super) fn also(&mut self, span: &Range<usize>, label: impl AsRef<str>) -> &mut Self {
        self.also = (!span.is_empty()).then(|| (span.clone(), clean(label.as_ref())));
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
        self.faults.len() > SHOWN
    }

    /// The candidate that was most likely meant. Returns `None` once there are more faults than are shown, since
    /// the search is slow in a large file.
    pub(super) fn closest<'a>(
        &self,
        word: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        if self.is_crowded() { None } else { closest(word, candidates) }
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
            if *count <= ALIKE {
                kept.push(fault);
            }
        }
        for fault in kept.iter_mut().rev() {
            let count = seen.get_mut(&(fault.span.start, fault.span.end));
            if let Some(more @ 1..) = count.and_then(|count| std::mem::take(count).checked_sub(ALIKE)) {
                fault.hint.push_str(&format!(" (and {more} more faults with this message)"));
            }
        }
        Faults { faults: kept }
    }
}

/// Text as one printable line. Messages quote file contents, which must not control the terminal.
fn clean(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MESSAGE));
    for (n, character) in text.chars().enumerate() {
        if n == MESSAGE {
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

/// The candidate that `word` is most likely a misspelling of.
#[must_use]
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    let near = |candidate: &str| (word.len().max(candidate.len()) / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|&(distance, candidate)| {
            distance <= near(candidate) || (word.len() >= 4 && candidate.starts_with(word.as_str()))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// The words as "`a`, `b` and `c`".
pub(super) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        None => String::from("none"),
        Some((only, [])) => only.clone(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
    }
}

impl Faults {
    /// The faults in the format of `rustc`, with a `hint` under each. Ends in a newline.
    #[must_use]
    pub fn render(&self, source: Source<'_>, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let path = clean(source.path);
        let mut text = String::new();
        for fault in self.faults.iter().take(SHOWN) {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&fault.render(&renderer, &path, source.text));
            text.push('\n');
        }
        if let Some(more @ 1..) = self.faults.len().checked_sub(SHOWN) {
            text.push_str(&format!("\n… and {more} more\n"));
        }
        text
    }
}

impl Fault {
    fn render(&self, renderer: &Renderer, path: &str, text: &str) -> String {
        let part = Part::around(text, [Some(&self.span), self.also.as_ref().map(|(span, _)| span)]);
        let mut snippet = Snippet::source(harmless(part.text))
            .line_start(part.line)
            .path(path)
            .fold(true)
            .annotation(AnnotationKind::Primary.span(part.span(&self.span)).label(self.label.as_deref()));
        if let Some((span, label)) = &self.also {
            let also = AnnotationKind::Context.span(part.span(span)).label(label.as_str());
            snippet = snippet.annotation(also);
        }
        let hint = Heading::HELP.with_name("hint").message(self.hint.as_str());
        let level = match self.level {
            Level::Error => Heading::ERROR,
            Level::Warning => Heading::WARNING,
        };
        renderer.render(&[level.primary_title(self.message.as_str()).element(snippet).element(hint)])
    }
}

/// The renderer replaces ASCII control characters. The C1 control characters of ISO 8859, which some terminals
/// interpret too, are replaced by a middle dot here. Both have two bytes in UTF-8, so spans stay valid.
fn harmless(text: &str) -> Cow<'_, str> {
    let steers = |c: char| matches!(c, '\u{80}'..='\u{9f}');
    if text.contains(steers) { Cow::Owned(text.replace(steers, "\u{b7}")) } else { Cow::Borrowed(text) }
}

/// The lines that a fault is about. The renderer scans all the text that it is given, so without this a fault would
/// cost time proportional to the file's length.
struct Part<'a> {
    text: &'a str,
    /// Number of the first line, counted from 1.
    line: usize,
    /// Byte offset of `text` in the file.
    offset: usize,
}

impl<'a> Part<'a> {
    fn around(text: &'a str, spans: [Option<&Range<usize>>; 2]) -> Self {
        let spans = || spans.iter().copied().flatten();
        let first = text.floor_char_boundary(spans().map(|span| span.start).min().unwrap_or(0));
        let last = text.ceil_char_boundary(spans().map(|span| span.end).max().unwrap_or(0)).max(first);
        let offset = text[..first].rfind('\n').map_or(0, |at| at + 1);
        let end = text[last..].find('\n').map_or(text.len(), |at| last + at);
        Self { text: &text[offset..end], line: text[..offset].matches('\n').count() + 1, offset }
    }

    /// Converts a span of the file to one of this part, clamped to the part and to character boundaries.
    fn span(&self, span: &Range<usize>) -> Range<usize> {
        let start = self.text.floor_char_boundary(span.start.saturating_sub(self.offset));
        let end = self.text.ceil_char_boundary(span.end.saturating_sub(self.offset));
        start..end.max(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_cannot_drive_the_terminal() {
        assert_eq!(clean("a\u{1b}[31m\nb \"c\" é"), "a\\u{1b}[31m\\nb \"c\" é");
        assert_eq!(clean(&"x".repeat(5000)).chars().count(), MESSAGE + 1);
    }

    #[test]
    fn slips_are_recognised() {
        let keys = ["addresses", "nat", "namespace", "trunks", "mtu", "mac", "stp", "vlan_filtering"];
        assert_eq!(closest("adress", keys), Some("addresses"));
        assert_eq!(closest("vlan", keys), Some("vlan_filtering"));
        assert_eq!(closest("NAT", keys), Some("nat"));
        assert_eq!(closest("quux", keys), None);
        assert_eq!(closest(&"x".repeat(100_000), keys), None);
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
