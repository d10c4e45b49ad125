//! `vethpath plan`.

use std::{io::Write, path::Path};

use super::{Exit, Failure, failure::runtime, labs, up::Changes, up::privileged};
use crate::{apply, output::printable, plan::Change};

/// Shows what `up` would do.
pub fn run(file: &Path, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let topology = labs::topology_with_warnings(file)?;
    privileged()?;
    labs::go_to(&topology.lab, true)?;
    let changes = runtime()?.block_on(apply::preview(&topology))?;
    print(topology.lab.as_str(), &changes, json, out).map_err(Failure::output)?;
    Ok(Exit::Done)
}

fn print(lab: &str, changes: &[Change], json: bool, out: &mut dyn Write) -> std::io::Result<()> {
    if json {
        serde_json::to_writer_pretty(&mut *out, &Changes { lab, changes })?;
        return writeln!(out);
    }
    if changes.is_empty() {
        return writeln!(out, "lab {lab} is up: nothing to change");
    }
    changes
        .iter()
        .try_for_each(|change| writeln!(out, "{} {}", change.action.sign(), printable(&change.to_string())))
}
