//! Parts of documents between `<!-- figures:begin NAME -->` and `<!-- figures:end -->`.

use crate::error::Error;

const BEGIN: &str = "<!-- figures:begin ";
const MARK: &str = " -->\n";
const END: &str = "<!-- figures:end -->";

/// The text with each part replaced by what `render` gives for its name.
pub(super) fn fill(text: &str, render: impl Fn(&str) -> Result<String, Error>) -> Result<String, Error> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let open = || Error::Figures("a mark `figures:begin` without its end".to_owned());
        let (name, after) = after.split_once(MARK).ok_or_else(open)?;
        let (_, after) = after.split_once(END).ok_or_else(open)?;
        filled.push_str(&format!("{before}{BEGIN}{name}{MARK}{}\n{END}", render(name)?.trim_end()));
        rest = after;
    }
    Ok(filled + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_replaced_and_the_rest_is_left() {
        let text = "a\n<!-- figures:begin x -->\nold\n<!-- figures:end -->\nb\n<!-- figures:begin y -->\n<!-- figures:end -->\n";
        let filled = fill(text, |name| Ok(format!("new {name}\n"))).expect("marks");
        let expected = "a\n<!-- figures:begin x -->\nnew x\n<!-- figures:end -->\nb\n<!-- figures:begin y -->\nnew y\n<!-- figures:end -->\n";
        assert_eq!(filled, expected);
        assert_eq!(fill(&filled, |name| Ok(format!("new {name}"))).expect("marks"), expected);
    }

    #[test]
    fn a_mark_without_an_end_is_a_fault() {
        assert!(fill("<!-- figures:begin x -->\nold", |_| Ok(String::new())).is_err());
    }
}
