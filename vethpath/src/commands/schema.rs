//! `vethpath schema`.

use std::io::Write;

use super::{Exit, Failure};
use crate::topology;

/// Prints the JSON Schema of topology files.
pub fn run(out: &mut dyn Write) -> Result<Exit, Failure> {
    serde_json::to_writer_pretty(&mut *out, &topology::schema())
        .map_err(std::io::Error::from)
        .and_then(|()| writeln!(out))
        .map_err(Failure::output)?;
    Ok(Exit::Done)
}
