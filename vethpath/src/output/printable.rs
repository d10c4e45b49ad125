//! Escapes text of other origin, such as interface names, for a terminal.

use std::borrow::Cow;

/// Escapes characters that would move the cursor, change colours or reorder the surrounding text: all control
/// characters except newline, and those that set the text direction.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_harmful(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

fn is_harmful(character: char) -> bool {
    let directs =
        matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    directs || (character.is_control() && character != '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmful_characters_are_shown_and_not_obeyed() {
        assert_eq!(printable("\u{1b}[2J\u{7}\u{9b}1m\r\t"), r"\u{1b}[2J\u{7}\u{9b}1m\r\t");
        assert_eq!(printable("a\u{202e}b"), r"a\u{202e}b");
    }

    #[test]
    fn plain_text_is_left_alone() {
        for text in ["", "eth0", "two\nlines", "caf\u{e9} \u{4e2d} \u{1f600} \u{a0}|"] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }
}
