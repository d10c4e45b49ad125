//! Rendering of tables and JSON. Printers take a writer.

pub mod bench;
mod events;
mod format;
pub mod graph;
mod round_trips;
#[cfg(test)]
pub(crate) mod samples;
mod show;
mod stats;
mod summary;

pub use events::{describe, event};
pub use format::{count, grouped, one_line, percent, printable, short};
pub use round_trips::milliseconds;
pub use show::show;
pub use stats::{Table, label, label_width, matrix, stats};
pub use summary::{share, summary};

use std::io::{self, Write};

use serde::Serialize;

/// Prints a value as indented JSON, with a trailing newline.
///
/// # Errors
/// Those of `out`.
pub fn json(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    // One write: standard output is line buffered, and a lab's account has thousands of lines.
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    out.write_all(&text)
}

/// Prints a value as JSON on one line, for streams of values.
///
/// # Errors
/// Those of `out`.
pub fn json_line(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}
