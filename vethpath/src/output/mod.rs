//! Rendering: tables and JSON. Printers take a writer.

mod agent;
pub mod bench;
mod json;
mod number;
mod plural;
#[cfg(test)]
pub(crate) mod samples;
mod show;
mod stats;
mod table;

pub use json::json;
pub use plural::count;
pub use show::show;
pub use stats::{Growth, matrix, stats};
