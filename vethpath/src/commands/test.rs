//! `vethpath test`: whether the expectations of a lab hold.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use serde::Serialize;

use super::{Exit, Failure, labs, up::privileged};
use crate::{
    cli::TestArgs,
    kernel::home::Intent,
    output,
    reach::{self, Verdict},
    topology::LabName,
};

/// The verdicts of a lab, as `--json` prints them.
#[derive(Serialize)]
struct Report<'v> {
    lab: &'v LabName,
    held: usize,
    failed: usize,
    expectations: &'v [Verdict],
}

/// Tries the expectations of a lab, or of a file whose lab is up, and prints which hold.
pub fn run(arguments: &TestArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    privileged()?;
    let (lab, file) = labs::named(arguments.lab.lab.as_deref())?;
    let topology = labs::record_of(&lab)?.topology;
    // The file may have other expectations than the lab was brought up with.
    let expectations = file.map_or_else(|| topology.expectations.clone(), |file| file.expectations);
    if expectations.is_empty() {
        return Err(Failure::request(format!("lab `{lab}` has no expectations"))
            .hint("write `[[expect]]` with `from` and `to` in its file; `vethpath ping` tries all hosts"));
    }
    labs::enter(&lab, Intent::Read)?;
    let unwritable =
        |path: &Path, error: io::Error| Failure::system(format!("cannot write {}: {error}", path.display()));
    // Before the expectations are tried, which may take minutes.
    let junit = arguments.junit.as_deref().map(|path| match File::create(path) {
        Ok(file) => Ok((path, file)),
        Err(error) => Err(unwritable(path, error)),
    });
    let junit = junit.transpose()?;
    let verdicts = reach::evaluate(&topology, &expectations)?;
    if let Some((path, mut file)) = junit {
        let text = output::junit(lab.as_str(), &verdicts);
        file.write_all(text.as_bytes()).map_err(|error| unwritable(path, error))?;
    }
    let held = verdicts.iter().filter(|verdict| verdict.holds).count();
    let failed = verdicts.len() - held;
    let printed = match arguments.json.json {
        true => output::json(&Report { lab: &lab, held, failed, expectations: &verdicts }, out),
        false => output::verdicts(&verdicts, out),
    };
    printed.map_err(Failure::output)?;
    Ok(if failed == 0 { Exit::Done } else { Exit::Unmet })
}
