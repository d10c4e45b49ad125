//! Parses text into TOML tables and reports syntax faults.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

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
    pub(super) fn is_complete(&self) -> bool {
        self.broken.is_empty()
    }
}

/// Parses the whole text. Continues after each fault.
pub(super) fn parse<'t>(text: &'t str, sink: &mut Sink) -> Parsed<'t> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let on_characters = |span: Range<usize>| {
        let start = text.floor_char_boundary(span.start);
        start..text.ceil_char_boundary(span.end).max(start)
    };
    let mut errors: Vec<(Option<Range<usize>>, &str)> =
        errors.iter().map(|error| (error.span().map(on_characters), error.message())).collect();
    errors.sort_by_key(|(span, _)| span.as_ref().map_or(0, |span| span.start));
    let mut parsed = Parsed { document, broken: Vec::new() };
    for (span, message) in errors {
        let is_deep = span.as_ref().is_none_or(|span| matches!(&text[span.clone()], "[" | "{"));
        let span = span.unwrap_or(0..0);
        // One mistake in a line often causes further errors in it.
        if parsed.is_guess(span.start) {
            continue;
        }
        if is_key(text, &span) && (sink.is_crowded() || open_bracket(text, span.start) != Some('[')) {
            duplicate(text, &span, sink);
            if next_in_line(text, span.end) == Some('.') {
                // A table is missing from the document.
                parsed.broken.push(line_at(text, span.start));
            }
            continue;
        }
        let place = ErrorPosition::new(text, span, sink.is_crowded());
        if place.runs_on() {
            let before = parsed.broken.last().map_or(0, |before| before.end);
            if before == 0 || !text[before..place.line.start].trim().is_empty() {
                let message = "TOML syntax error: unclosed array or inline table above this line";
                sink.add(&place.span, message, "close the array with `]`, the inline table with `}`");
            }
            parsed.broken.push(place.line.start..text.len());
            break;
        }
        if is_deep {
            sink.add(&place.span, format!("not TOML: {message}"), "no key of a topology is that deep");
        } else if place.lacks_value() {
            sink.add(&place.span, "not TOML: a key without a value", "write a value after the `=`");
        } else if let Some(span) = place.word() {
            let word = &text[span.clone()];
            let message = format!("not TOML: `{word}` is no number, not true or false, and not in quotes");
            sink.add(&span, message, format!("if it is text, write \"{word}\""));
        } else {
            sink.add(&place.span, format!("not TOML: {message}"), place.hint());
        }
        parsed.broken.push(place.line);
    }
    parsed
}

/// Characters that end a word.
const ENDS: &[char] = &[' ', '\t', '\r', '\n', ',', '=', '#', '[', ']', '{', '}', '"', '\''];
const BLANKS: &[char] = &[' ', '\t'];
const QUOTES: &[char] = &['"', '\''];

/// Where the parser found an error. What is wrong there is decided by the text, not by the parser's message.
struct ErrorPosition<'t> {
    text: &'t str,
    span: Range<usize>,
    line: Range<usize>,
    /// The line before the error, and from the error on.
    head: &'t str,
    rest: &'t str,
    /// The quote or `#` that begins the string or comment in which it is.
    within: Option<char>,
    /// The bracket that is open there.
    bracket: Option<char>,
}

impl<'t> ErrorPosition<'t> {
    /// In a crowded file brackets are not looked for, since this would take long.
    fn new(text: &'t str, span: Range<usize>, is_crowded: bool) -> Self {
        let line = line_at(text, span.start);
        let (head, rest) = (&text[line.start..span.start], &text[span.start..line.end]);
        let bracket = if is_crowded { None } else { open_bracket(text, span.start) };
        Self { text, span, line, head, rest, within: within(head), bracket }
    }

    /// Whether this line was parsed as part of an array or inline table that began on an earlier line: the error is
    /// before a key or header, and no error of one line is there. In that case the rest of the file is a guess.
    fn runs_on(&self) -> bool {
        let is_key = |c: char| c.is_alphanumeric() || c == '_' || c == '-' || QUOTES.contains(&c);
        let is_first = self.span.is_empty() && self.head.trim_matches(BLANKS).is_empty();
        is_first && (self.rest.starts_with('[') || self.rest.starts_with(is_key) && self.rest.contains('='))
    }

    /// Whether nothing stands behind a `=`.
    fn lacks_value(&self) -> bool {
        let rest = self.rest.trim_start_matches(BLANKS);
        let is_over = rest.is_empty() || rest.starts_with(['\r', '#', ',']);
        self.within.is_none()
            && self.span.is_empty()
            && self.head.trim_end_matches(BLANKS).ends_with('=')
            && (is_over || self.bracket == Some('{') && rest.starts_with('}'))
    }

    /// A word in the place of a value that is no value: text without quotes, or a malformed number or date.
    fn word(&self) -> Option<Range<usize>> {
        let start = self.line.start + self.head.rfind(ENDS).map_or(0, |end| end + 1);
        let end = self.span.start + self.rest.find(ENDS).unwrap_or(self.rest.len());
        let is_unopened = self.text[end..].starts_with(QUOTES);
        if start == end || is_unopened || self.within.is_some() {
            return None;
        }
        let end = end.max(self.span.end.min(self.line.end));
        let word = &self.text[start..end];
        let before = self.text[self.line.start..start].trim_matches(BLANKS);
        // A key is before a `=`, unless it is in an array: then the `=` is the mistake.
        let is_key = self.text[end..self.line.end].trim_start_matches(BLANKS).starts_with('=')
            && !word.chars().all(is_bare);
        let is_value = match before.chars().next_back() {
            Some('=') => true,
            Some(',') => !is_key,
            // Only a header begins with a bracket.
            Some('[') => !is_key && before.contains('='),
            Some(_) => false,
            None => !is_key && self.bracket == Some('['),
        };
        let digits = word.trim_start_matches(['+', '-']);
        let is_integer = digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.chars().all(|c| c.is_ascii_digit() || c == '_');
        (is_value && !is_integer && DeValue::parse(word).is_err()).then_some(start..end)
    }

    fn hint(&self) -> &'static str {
        let head = self.head.trim_matches(BLANKS);
        let is_string = self.within.is_some_and(|within| within != '#');
        let end = self.rest.find(ENDS).filter(|&end| end > 0);
        let is_unopened = end.is_some_and(|end| self.rest[end..].starts_with(QUOTES));
        let close = if head.starts_with("[[") { "]]" } else { "]" };
        let is_header = head.starts_with('[') && self.within.is_none() && self.span.is_empty();
        let is_at = |open: char, close: char| match self.bracket {
            Some(bracket) => bracket == open,
            None => head.ends_with('=') && self.rest.starts_with(close),
        };
        if is_string || is_unopened {
            "write strings in double quotes, on one line"
        } else if is_header && !head.contains(close) && !self.rest.starts_with(close) {
            "close the header: [namespace.ns0]"
        } else if is_at('[', ']') {
            "write arrays as [\"one\", \"two\"]"
        } else if is_at('{', '}') {
            "write inline tables as { to = \"10.1.0.0/16\", via = \"10.0.0.9\" }"
        } else {
            "a line is `key = value`, `[table]` or `# comment`; see https://toml.io"
        }
    }
}

/// Whether a key may have this character without quotes.
fn is_bare(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '-' || character == '_'
}

/// Whether an error is about a whole key, of a line, a header or an inline table. Such a key was there before.
fn is_key(text: &str, span: &Range<usize>) -> bool {
    let key = &text[span.clone()];
    let is_quoted = |quote: &str| {
        key.len() > 1 && key.starts_with(quote) && key.ends_with(quote) && !key.starts_with(&quote.repeat(3))
    };
    if key.is_empty() || !(key.chars().all(is_bare) || is_quoted("\"") || is_quoted("'")) {
        return false;
    }
    let is_line = |before: &str| before.is_empty() || before.ends_with('\n');
    let before = text[..span.start].trim_end_matches(BLANKS);
    let is_header = before.ends_with('[') && is_line(before.trim_end_matches('[').trim_end_matches(BLANKS));
    match next_in_line(text, span.end) {
        Some(']') => is_header || before.ends_with('.'),
        Some('=' | '.') => is_header || is_line(before) || before.ends_with(['.', '{', ',']),
        _ => false,
    }
}

/// The first character from this byte on that is not blank.
fn next_in_line(text: &str, at: usize) -> Option<char> {
    text[at..].trim_start_matches(BLANKS).chars().next()
}

/// The bracket of the array or inline table in which this byte is. Those before the last header do not count.
fn open_bracket(text: &str, at: usize) -> Option<char> {
    let before = &text[..at];
    let is_first = |at: usize| {
        let before = before[..at].trim_end_matches(BLANKS);
        before.is_empty() || before.ends_with('\n')
    };
    let header = before.rmatch_indices('[').map(|(at, _)| at).find(|&at| is_first(at));
    let since = header.map_or(before, |at| before[at..].split_once('\n').map_or("", |(_, since)| since));
    let mut open = Vec::new();
    for line in since.split('\n') {
        let _ = scan(line, |bracket| match bracket {
            '[' | '{' => open.push(bracket),
            _ => drop(open.pop()),
        });
    }
    open.last().copied()
}

/// The quote or `#` that begins the string or comment in which a line is at its end.
fn within(head: &str) -> Option<char> {
    scan(head, |_| ())
}

/// The same. Calls `bracket` for each bracket that is in no string or comment.
fn scan(line: &str, mut bracket: impl FnMut(char)) -> Option<char> {
    let mut within = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (within, character) {
            (None, '"' | '\'') => within = Some(character),
            (None, '#') => return Some('#'),
            (None, '[' | ']' | '{' | '}') => bracket(character),
            (Some('"'), '\\') => {
                let _ = characters.next();
            }
            (Some(open), _) if open == character => within = None,
            _ => {}
        }
    }
    within
}

fn duplicate(text: &str, span: &Range<usize>, sink: &mut Sink) {
    let key = text.get(span.clone()).unwrap_or_default();
    let first = if sink.is_crowded() { None } else { first_place(text, span) };
    let hint = "keep one of them, and move what both have under it";
    let fault = sink.add(span, format!("`{key}` is there twice"), hint).label("second");
    if let Some(first) = first {
        fault.also(&first, "first written here");
    }
}

/// The first occurrence of a duplicate: the same header, or the same key since the last header. The parser does not
/// report it.
fn first_place(text: &str, span: &Range<usize>) -> Option<Range<usize>> {
    let second = line_at(text, span.start);
    let duplicate = text.get(second.clone())?.trim();
    let key = text.get(span.clone())?;
    let is_header = duplicate.starts_with('[');
    let before = text.get(..second.start)?;
    let mut end = before.len();
    for candidate in before.split_inclusive('\n').rev() {
        let start = end - candidate.len();
        end = start;
        let indent = candidate.len() - candidate.trim_start().len();
        let content = candidate.trim();
        if is_header && content == duplicate {
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
fn line_at(text: &str, at: usize) -> Range<usize> {
    let at = text.floor_char_boundary(at);
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    start..text[at..].find('\n').map_or(text.len(), |newline| at + newline)
}
