//! `vethpath validate`.

use std::path::Path;

use super::{Exit, Failure, labs};
use crate::output::count;

/// Checks a file and says what it declares.
pub fn run(file: &Path) -> Result<Exit, Failure> {
    let topology = labs::topology(file)?;
    eprintln!(
        "{}: lab {} is valid: {}, {}, {}, {}, {}",
        file.display(),
        topology.lab,
        count(topology.namespaces.len(), "namespace"),
        count(topology.bridges.len(), "bridge"),
        count(topology.pairs.len(), "pair"),
        count(topology.cables.len(), "cable"),
        count(topology.trunks.len(), "trunk"),
    );
    Ok(Exit::Done)
}
