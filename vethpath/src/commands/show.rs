//! `vethpath show`.

use std::io::Write;

use super::{Exit, Failure, failure::runtime, labs};
use crate::{output, show};

/// Prints the current state of a lab.
pub fn run(lab: Option<&str>, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let record = labs::record(lab)?;
    let shown = runtime()?.block_on(show::observe(&record.topology))?;
    let printed = if json { output::json(&shown, out) } else { output::show(&shown, out) };
    printed.map_err(Failure::output)?;
    Ok(Exit::Done)
}
