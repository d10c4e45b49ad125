//! Parses text into TOML tables and reports syntax faults.

use std::ops::Range;

use toml::{Spanned, de::DeTable};

use super::fault::Sink;

/// The parsed document, and the lines that could not be parsed.
pub(super) struct Parsed<'t> {
    pub(super) document: Spanned<DeTable<'t>>,
    /// Lines whose content is a guess of the parser.
    broken: Vec<Range<usize>>,
}

impl Parsed<'_> {
    /// Whether a fault at this byte may result from a guess of the parser.
    pub(super) fn is_guess(&self, at: usize) -> bool {
        let next = self.broken.partition_point(|line| line.start <= at);
        next > 0 && at <= self.broken[next - 1].end
    }

    /// Whether every line could be parsed.
    pub(super) fn is_whole(&self) -> bool {
        self.broken.is_empty()
    }
}

/// Parses the whole text. Continues after each fault.
pub(super) fn parse<'t>(text: &'t str, sink: &mut Sink) -> Parsed<'t> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut errors: Vec<(Range<usize>, &str)> =
        errors.iter().map(|error| (error.span().unwrap_or(0..0), error.message())).collect();
    errors.sort_by_key(|(span, _)| span.start);
    let mut parsed = Parsed { document, broken: Vec::new() };
    for (span, message) in &errors {
        // One mistake in a line often causes further errors in it.
        if parsed.is_guess(span.start) {
            continue;
        }
        if message.starts_with("duplicate key") {
            duplicate(text, span, sink);
            continue;
        }
        let line = line(text, span.start);
        if runs_on(text, &line, span, message) {
            let before = parsed.broken.last().map_or(0, |before| before.end);
            if before == 0 || !text[before..line.start].trim().is_empty() {
                let message = "TOML syntax error: unclosed array or inline table above this line";
                sink.add(span, message, "close the array with `]`, the inline table with `}`");
            }
            parsed.broken.push(line.start..text.len());
            break;
        }
        if message.starts_with("string values must be quoted") || message.starts_with("invalid ") {
            scalar(text, span, message, sink);
        } else {
            sink.add(span, format!("not TOML: {message}"), hint(message));
        }
        parsed.broken.push(line);
    }
    parsed
}

/// Whether this line was parsed as part of an array or inline table that began on an earlier line. In that case the
/// rest of the file is a guess.
fn runs_on(text: &str, line: &Range<usize>, span: &Range<usize>, message: &str) -> bool {
    message.starts_with("missing comma between")
        && text[line.start..text.floor_char_boundary(span.start)].trim().is_empty()
        && (text[line.clone()].contains('=') || text[line.clone()].trim_start().starts_with('['))
}

fn hint(message: &str) -> &'static str {
    match message {
        _ if message.contains("unclosed table") || message.contains("unclosed array table") => {
            "close the header: [namespace.ns0]"
        }
        _ if message.contains("array") => "write arrays as [\"one\", \"two\"]",
        _ if message.contains("inline table") => {
            "write inline tables as { to = \"10.1.0.0/16\", via = \"10.0.0.9\" }"
        }
        _ if message.contains("recur") => "no key of a topology is that deep",
        _ if message.contains("string") || message.contains("quote") => {
            "write strings in double quotes, on one line"
        }
        _ => "a line is `key = value`, `[table]` or `# comment`; see https://toml.io",
    }
}

/// Reports an invalid value: an empty one, a string without quotes, or a malformed number.
fn scalar(text: &str, span: &Range<usize>, message: &str, sink: &mut Sink) {
    const ENDS: &[char] = &[' ', '\t', '\r', '\n', ',', '=', '#', '[', ']', '{', '}', '"', '\''];
    let at = text.floor_char_boundary(span.start);
    let start = text[..at].rfind(ENDS).map_or(0, |end| end + 1);
    let end = text[at..].find(ENDS).map_or(text.len(), |end| at + end);
    let word = &text[start..end];
    if word.is_empty() {
        if message.starts_with("string values") {
            sink.add(span, "not TOML: a key without a value", "write a value after the `=`");
        } else {
            sink.add(span, format!("not TOML: {message}"), hint(message));
        }
        return;
    }
    let said = format!("not TOML: `{word}` is no number, not true or false, and not in quotes");
    sink.add(&(start..end), said, format!("if it is text, write \"{word}\""));
}

fn duplicate(text: &str, span: &Range<usize>, sink: &mut Sink) {
    let key = text.get(span.clone()).unwrap_or_default();
    let first = if sink.is_crowded() { None } else { first_place(text, span) };
    let fault = sink.add(
        span,
        format!("`{key}` is there twice"),
        "keep one of them, and move what both have under it",
    );
    match first {
        Some(first) => fault.label("second").also(&first, "first written here"),
        None => fault.label("second"),
    };
}

/// The first occurrence of a duplicate: the same header, or the same key since the last header. The parser does not
/// report it.
fn first_place(text: &str, span: &Range<usize>) -> Option<Range<usize>> {
    let second = line(text, span.start);
    let whole = text.get(second.clone())?.trim();
    let key = text.get(span.clone())?;
    let is_header = whole.starts_with('[');
    let before = text.get(..second.start)?;
    let mut end = before.len();
    for candidate in before.split_inclusive('\n').rev() {
        let start = end - candidate.len();
        end = start;
        let indent = candidate.len() - candidate.trim_start().len();
        let content = candidate.trim();
        if is_header && content == whole {
            return Some(start + indent..start + indent + content.len());
        }
        if !is_header {
            if content.starts_with('[') {
                return None;
            }
            if content.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('=')) {
                return Some(start + indent..start + indent + key.len());
            }
        }
    }
    None
}

/// The line that contains a byte, without its newline.
fn line(text: &str, at: usize) -> Range<usize> {
    let at = text.floor_char_boundary(at);
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    start..text[at..].find('\n').map_or(text.len(), |newline| at + newline)
}
