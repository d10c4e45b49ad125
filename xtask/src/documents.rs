//! Documents of the workspace, and the generated blocks in them: between `<!-- SUBJECT:begin NAME -->` and
//! `<!-- SUBJECT:end -->`.

use std::{fs, path::Path};

use crate::error::Error;

const MARK: &str = " -->\n";

/// Reads a file.
pub(crate) fn read(file: &Path) -> Result<String, Error> {
    fs::read_to_string(file).map_err(|source| Error::File { path: file.to_owned(), source })
}

/// Writes a file, and makes the folder that it is in.
pub(crate) fn write(file: &Path, text: &str) -> Result<(), Error> {
    let folder = file.parent().map_or(Ok(()), fs::create_dir_all);
    folder
        .and_then(|()| fs::write(file, text))
        .map_err(|source| Error::File { path: file.to_owned(), source })
}

/// Replaces each block of a subject with what `render` returns for its name.
pub(crate) fn fill(
    text: &str,
    subject: &str,
    render: impl Fn(&str) -> Result<String, Error>,
) -> Result<String, Error> {
    let (begin, end) = (format!("<!-- {subject}:begin "), format!("<!-- {subject}:end -->"));
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(&begin) {
        let open = || Error::Figures(format!("a mark `{subject}:begin` without its end"));
        let (name, after) = after.split_once(MARK).ok_or_else(open)?;
        let (_, after) = after.split_once(&end).ok_or_else(open)?;
        filled.push_str(&format!("{before}{begin}{name}{MARK}{}\n{end}", render(name)?.trim_end()));
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
        let filled = fill(text, "figures", |name| Ok(format!("new {name}\n"))).expect("marks");
        let expected = "a\n<!-- figures:begin x -->\nnew x\n<!-- figures:end -->\nb\n<!-- figures:begin y -->\nnew y\n<!-- figures:end -->\n";
        assert_eq!(filled, expected);
        let other = fill(text, "kernels", |_| Ok("new".to_owned()));
        assert_eq!(other.expect("marks"), text);
        assert_eq!(fill(&filled, "figures", |name| Ok(format!("new {name}"))).expect("marks"), expected);
    }

    #[test]
    fn a_mark_without_an_end_is_a_fault() {
        assert!(fill("<!-- figures:begin x -->\nold", "figures", |_| Ok(String::new())).is_err());
    }
}
