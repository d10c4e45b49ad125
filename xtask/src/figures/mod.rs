//! `cargo xtask figures`: generates every figure in the documents, so that none is typed by hand.
//!
//! Data flow: the `sources` are measured into `docs/figures.json`. [`render`] makes tables and charts from these
//! `results`, and inserts them into the documents.

mod frames;
mod goals;
mod origin;
mod parts;
mod pictures;
mod results;
mod sources;
mod tables;

use std::path::PathBuf;

use self::{
    origin::{Origin, Origins},
    results::Raw,
};
use crate::{
    documents,
    error::Error,
    setup::{self, Need},
    tools::{is_root, root, say},
};

/// The file of the results.
const RAW: &str = "docs/figures.json";

/// The documents with figures.
const DOCUMENTS: [&str; 2] = ["README.md", "docs/performance.md"];

/// Arguments of the chore.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Render earlier results without measuring
    #[arg(long, value_name = "FILE", conflicts_with_all = ["only", "quick"])]
    from: Option<PathBuf>,
    /// Measure only this source and keep the results of the others; may be given more than once
    #[arg(long, value_name = "SOURCE", value_parser = sources::names())]
    only: Vec<String>,
    /// Measure for a tenth of the time: for a trial, not to commit
    #[arg(long)]
    quick: bool,
}

/// Measures and renders.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let file = root().join(RAW);
    let raw = match &args.from {
        Some(from) => results::read(from)?,
        None => {
            if !is_root() {
                return Err(Error::NeedsRoot { chore: "figures".to_owned() });
            }
            setup::run(&[Need::Build, Need::Demo, Need::Figures])?;
            // Results of an earlier run stay until they are replaced. Differing commits are reported.
            let mut raw = if args.only.is_empty() {
                results::read(&file).unwrap_or_default()
            } else {
                results::read(&file)?
            };
            raw.retain(|name, _| name == origin::KEY || sources::names().contains(&name.as_str()));
            let origin = Origin::now();
            for source in sources::ALL.iter().filter(|source| wanted(source.name, &args.only)) {
                say(&format!("\n== {}", source.name));
                raw.insert(source.name.to_owned(), sources::measure(source, args.quick)?);
                origin.keep(&mut raw, source.name)?;
                // Written at once, so that a later failure does not lose it.
                results::write(&file, &raw)?;
            }
            // Read back, as a later `--from` would.
            results::read(&file)?
        }
    };
    if let Some(unlike) = Origins::of(&raw)?.unlike() {
        say(&format!("note: {unlike}"));
    }
    for (path, text) in render(&raw)? {
        documents::write(&root().join(&path), &text)?;
        say(&format!("wrote {path}"));
    }
    Ok(())
}

fn wanted(name: &str, only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|wanted| wanted == name)
}

/// Every file with figures, with its new content.
fn render(raw: &Raw) -> Result<Vec<(String, String)>, Error> {
    let mut files = vec![
        ("docs/img/paths.svg".to_owned(), pictures::paths(raw)?),
        ("docs/img/overhead.svg".to_owned(), pictures::overhead(raw)?),
        ("docs/img/cdf.svg".to_owned(), pictures::cdf(raw)?),
        ("docs/img/histogram.svg".to_owned(), pictures::histogram(raw)?),
        ("docs/img/rounds.svg".to_owned(), pictures::ratios(raw)?),
    ];
    for path in DOCUMENTS {
        let text = documents::read(&root().join(path))?;
        files.push((path.to_owned(), documents::fill(&text, "figures", |name| block(raw, name))?));
    }
    Ok(files)
}

/// Renders a block by name.
fn block(raw: &Raw, name: &str) -> Result<String, Error> {
    match name {
        "answer" => tables::headline(raw),
        "machine" => tables::machine(raw),
        "bridges" => tables::bridges(raw),
        "work" => tables::work(raw),
        "goals" => goals::table(raw),
        "program" => tables::costs(raw, "program", "frame"),
        "runs" => tables::costs(raw, "limit-stats", "way"),
        "share" => tables::share(raw),
        "stream" => tables::stream(raw),
        "frames" => frames::table(raw),
        "frames-words" => frames::summary(raw),
        "limit" => tables::verbatim(raw, "limit"),
        "parts" => parts::table(raw),
        "parts-words" => parts::summary(raw),
        "others" => tables::verbatim(raw, "others"),
        "scale" => results::printed(raw, "scale").map(str::to_owned),
        other => Err(Error::Figures(format!("no such block: {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Detects a figure that was typed by hand, or measured but not rendered.
    #[test]
    fn the_documents_are_what_the_figures_give() {
        let raw = results::read(&root().join(RAW)).expect("the figures");
        for (path, text) in render(&raw).expect("documents") {
            let there = documents::read(&root().join(&path)).expect("a document");
            assert!(there == text, "{path} is not what `cargo xtask figures --from {RAW}` writes");
        }
    }

    #[test]
    fn every_source_has_been_measured() {
        let mut raw = results::read(&root().join(RAW)).expect("the figures");
        raw.remove(origin::KEY);
        let names: Vec<_> = sources::ALL.iter().map(|source| source.name).collect();
        assert!(names.iter().all(|name| raw.contains_key(*name)), "{names:?}");
        assert_eq!(raw.len(), names.len());
    }
}
