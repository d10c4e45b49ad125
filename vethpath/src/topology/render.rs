//! Renders faults as text, each with the line of the file that it is about.

use std::{borrow::Cow, ops::Range};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::{Fault, Faults, Source, fault::clean, limits};

impl Faults {
    /// The faults in the format of `rustc`, with a `hint` under each. Ends in a newline.
    #[must_use]
    pub fn render(&self, source: Source<'_>, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let path = clean(source.path);
        let mut text = String::new();
        for fault in self.faults.iter().take(limits::SHOWN) {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&fault.render(&renderer, &path, source.text));
            text.push('\n');
        }
        if let Some(more @ 1..) = self.faults.len().checked_sub(limits::SHOWN) {
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
        let hint = Level::HELP.with_name("hint").message(self.hint.as_str());
        let level = match self.level {
            super::Level::Error => Level::ERROR,
            super::Level::Warning => Level::WARNING,
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
