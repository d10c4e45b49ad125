//! JSON for programs.

use std::io::{self, Write};

use serde::Serialize;

/// Prints a value as JSON that people can read too, with a newline at its end.
///
/// # Errors
/// Those of `out`.
pub fn json(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    // In one write: standard output passes each line on by itself, and a lab's account has thousands.
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    out.write_all(&text)
}

/// Prints a value as JSON on a line of its own, for streams of values.
///
/// # Errors
/// Those of `out`.
pub fn json_line(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}
