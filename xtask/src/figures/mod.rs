//! `cargo xtask figures`: generates every figure in the documents, so that none is typed by hand.
//!
//! Data flow: `measure` measures the `sources` into `docs/figures.json`. `render` makes tables and charts from that
//! file, and inserts them into the documents (`blocks.rs`).

mod frames;
mod goals;
mod measure;
mod origin;
mod parts;
mod pictures;
mod render;
mod report;
mod sources;
mod tables;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use self::origin::{Origin, Origins};
use crate::{
    error::Error,
    setup::{self, Need},
    tools::{is_root, root, say},
};

/// The results by source: a report, or the text that a benchmark printed. [`origin::KEY`] holds when and of which
/// commit each was measured.
type Raw = BTreeMap<String, Value>;

/// The file of the results.
const RAW: &str = "docs/figures.json";

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
        Some(from) => read(from)?,
        None => {
            if !is_root() {
                return Err(Error::NeedsRoot { chore: "figures".to_owned() });
            }
            setup::run(&[Need::Build, Need::Demo, Need::Figures])?;
            // Results of an earlier run stay until they are replaced. Differing commits are reported.
            let mut raw = if args.only.is_empty() { read(&file).unwrap_or_default() } else { read(&file)? };
            raw.retain(|name, _| name == origin::KEY || sources::names().contains(&name.as_str()));
            let origin = Origin::now();
            for source in sources::ALL.iter().filter(|one| wanted(one.name, &args.only)) {
                say(&format!("\n== {}", source.name));
                raw.insert(source.name.to_owned(), measure::measure(source, args.quick)?);
                origin.keep(&mut raw, source.name)?;
                // Written at once, so that a later failure does not lose it.
                write(&file, &text(&raw))?;
            }
            // Read back, as a later `--from` would.
            read(&file)?
        }
    };
    if let Some(unlike) = Origins::of(&raw)?.unlike() {
        say(&format!("note: {unlike}"));
    }
    for (path, text) in render::all(&raw)? {
        write(&root().join(&path), &text)?;
        say(&format!("wrote {path}"));
    }
    Ok(())
}

fn wanted(name: &str, only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|one| one == name)
}

/// Serializes the results, one source per line.
fn text(raw: &Raw) -> String {
    let lines: Vec<_> =
        raw.iter().map(|(name, value)| format!("{}: {value}", Value::from(name.as_str()))).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

fn read(file: &Path) -> Result<Raw, Error> {
    let text = fs::read_to_string(file).map_err(|source| Error::File { path: file.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|error| Error::Figures(format!("{}: {error}", file.display())))
}

fn write(file: &Path, text: &str) -> Result<(), Error> {
    let failed = |source| Error::File { path: file.to_owned(), source };
    file.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
    fs::write(file, text).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Detects a figure that was typed by hand, or measured but not rendered.
    #[test]
    fn the_documents_are_what_the_figures_give() {
        let raw = read(&root().join(RAW)).expect("the figures");
        for (path, text) in render::all(&raw).expect("documents") {
            let there = fs::read_to_string(root().join(&path)).expect("a document");
            assert!(there == text, "{path} is not what `cargo xtask figures --from {RAW}` writes");
        }
    }

    #[test]
    fn every_source_has_been_measured() {
        let mut raw = read(&root().join(RAW)).expect("the figures");
        raw.remove(origin::KEY);
        let names: Vec<_> = sources::ALL.iter().map(|source| source.name).collect();
        assert!(names.iter().all(|name| raw.contains_key(*name)), "{names:?}");
        assert_eq!(raw.len(), names.len());
    }

    #[test]
    fn what_is_kept_can_be_read_again() {
        let raw: Raw = [("a".to_owned(), Value::from("1 ns")), ("b".to_owned(), Value::from(2))].into();
        assert_eq!(serde_json::from_str::<Raw>(&text(&raw)).expect("JSON"), raw);
    }
}
