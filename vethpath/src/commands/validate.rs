//! `vethpath validate`.

use std::path::Path;

use super::{Exit, Failure, labs};

/// Checks a file and says what it declares.
pub fn run(file: &Path) -> Result<Exit, Failure> {
    let topology = labs::topology(file)?;
    eprintln!(
        "{}: lab {} is valid: {} namespaces, {} bridges, {} pairs, {} cables, {} trunks",
        file.display(),
        topology.lab,
        topology.namespaces.len(),
        topology.bridges.len(),
        topology.pairs.len(),
        topology.cables.len(),
        topology.trunks.len(),
    );
    Ok(Exit::Done)
}
