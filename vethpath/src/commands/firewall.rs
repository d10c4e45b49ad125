//! Checks that the rules of a machine let the packets of a lab through, before anything is changed.

use std::io::{self, Write};

use super::Failure;
use crate::{
    apply::{self, Drop},
    output::printable,
    topology::Topology,
};

/// How many warnings are printed.
const MOST: usize = 8;

/// What happens if all packets of a kind are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certain {
    /// The command fails.
    Refused,
    /// A warning is printed, as for packets that may be dropped.
    Warned,
}

/// Prints a warning for packets that are or may be dropped.
///
/// # Errors
/// All packets of a kind are dropped, and that is refused.
pub fn check(topology: &Topology, certain: Certain, err: &mut dyn Write) -> Result<(), Failure> {
    let drops = match apply::drops(topology) {
        Ok(drops) => drops,
        Err(error) => {
            // A closed stderr does not affect the lab.
            let _ = writeln!(err, "warning: whether rules drop packets of the lab is unknown: {error}");
            return Ok(());
        }
    };
    let refused: Vec<_> =
        drops.iter().filter(|drop| drop.is_certain && certain == Certain::Refused).collect();
    if let Some(first) = refused.first() {
        let lines: Vec<_> = refused.iter().map(ToString::to_string).collect();
        let hint = format!("{}; `up --allow-drops` goes on", first.hint());
        return Err(Failure::request(lines.join("\n")).hint(hint));
    }
    let _ = print(&drops, err);
    Ok(())
}

fn print(drops: &[Drop], err: &mut dyn Write) -> io::Result<()> {
    for drop in drops.iter().take(MOST) {
        writeln!(err, "warning: {}\nhint: {}", printable(&drop.to_string()), printable(drop.hint()))?;
    }
    match drops.len().saturating_sub(MOST) {
        0 => Ok(()),
        more => writeln!(err, "warning: and {more} more kinds of packets"),
    }
}
