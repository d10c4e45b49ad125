//! Rendering of tables and JSON. Printers take a writer.

pub mod bench;
mod events;
mod format;
pub mod graph;
mod reach;
mod round_trips;
#[cfg(test)]
pub(crate) mod samples;
mod show;
mod stats;
mod summary;

pub use events::{describe, event};
pub use format::{count, grouped, one_line, percent, printable, short};
pub use reach::{junit, reachability, verdicts};
pub use round_trips::milliseconds;
pub use show::show;
pub use stats::{Table, label, label_width, matrix, stats};
pub use summary::{share, summary};

use std::io::{self, BufWriter, Write};

use serde::Serialize;

/// Prints a value as indented JSON, with a trailing newline.
///
/// # Errors
/// Those of `out`.
pub fn json(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    // In large writes: standard output is line buffered, and a lab's account has thousands of lines.
    let mut out = BufWriter::with_capacity(LARGE, out);
    serde_json::to_writer_pretty(&mut out, value)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// The bytes that are written at once.
const LARGE: usize = 64 << 10;

/// Prints a value as JSON on one line, for streams of values.
///
/// # Errors
/// Those of `out`.
pub fn json_line(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(LARGE, out);
    serde_json::to_writer(&mut out, value)?;
    out.write_all(b"\n")?;
    out.flush()
}
