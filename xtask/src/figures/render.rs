//! Renders documents and charts from the results. Pure, except that it reads the documents.

use std::fs;

use super::{Raw, frames, goals, parts, pictures, tables};
use crate::{blocks, error::Error, tools::root};

/// The documents with figures.
const DOCUMENTS: [&str; 2] = ["README.md", "docs/performance.md"];

/// Every file with figures, with its new content.
pub(super) fn all(raw: &Raw) -> Result<Vec<(String, String)>, Error> {
    let mut files = vec![
        ("docs/img/paths.svg".to_owned(), pictures::paths(raw)?),
        ("docs/img/overhead.svg".to_owned(), pictures::overhead(raw)?),
        ("docs/img/cdf.svg".to_owned(), pictures::cdf(raw)?),
        ("docs/img/histogram.svg".to_owned(), pictures::histogram(raw)?),
        ("docs/img/rounds.svg".to_owned(), pictures::ratios(raw)?),
    ];
    for path in DOCUMENTS {
        let file = root().join(path);
        let text = fs::read_to_string(&file).map_err(|source| Error::File { path: file, source })?;
        files.push((path.to_owned(), blocks::fill(&text, "figures", |name| block(raw, name))?));
    }
    Ok(files)
}

/// Renders a block by name.
fn block(raw: &Raw, name: &str) -> Result<String, Error> {
    match name {
        "answer" => tables::answer(raw),
        "machine" => tables::machine(raw),
        "bridges" => tables::bridges(raw),
        "work" => tables::work(raw),
        "goals" => goals::table(raw),
        "program" => tables::costs(raw, "program", "frame"),
        "runs" => tables::costs(raw, "limit-stats", "way"),
        "share" => tables::share(raw),
        "stream" => tables::stream(raw),
        "frames" => frames::table(raw),
        "frames-words" => frames::words(raw),
        "limit" => tables::verbatim(raw, "limit"),
        "parts" => parts::table(raw),
        "parts-words" => parts::words(raw),
        "others" => tables::verbatim(raw, "others"),
        "scale" => tables::as_printed(raw, "scale"),
        other => Err(Error::Figures(format!("no such block: {other}"))),
    }
}
