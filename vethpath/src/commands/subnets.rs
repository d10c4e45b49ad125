//! Warns of subnets of a lab that overlap with those of other devices of the machine.

use std::io::{self, Write};

use crate::{apply, output::printable, topology::Topology};

/// How many warnings are printed.
const MOST: usize = 8;

/// Prints a warning for each overlap. The more specific route wins, and of equal ones that of the lower metric, or the
/// older.
pub fn warn(topology: &Topology, err: &mut dyn Write) -> io::Result<()> {
    let overlaps = match apply::overlaps(topology) {
        Ok(overlaps) => overlaps,
        Err(error) => {
            return writeln!(
                err,
                "warning: whether the machine has subnets of the lab is unknown: {}",
                printable(&error.to_string())
            );
        }
    };
    for overlap in overlaps.iter().take(MOST) {
        writeln!(err, "warning: {}", printable(&overlap.to_string()))?;
    }
    if let more @ 1.. = overlaps.len().saturating_sub(MOST) {
        writeln!(err, "warning: and {more} more")?;
    }
    if !overlaps.is_empty() {
        writeln!(err, "hint: choose another subnet, or give the bridge a `namespace` of the lab")?;
    }
    Ok(())
}
