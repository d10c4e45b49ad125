//! Rendering of tables and JSON. Printers take a writer.

mod agent;
pub mod bench;
mod events;
mod json;
mod number;
mod plural;
mod printable;
#[cfg(test)]
pub(crate) mod samples;
mod show;
mod stats;
mod table;

pub use events::event;
pub use json::{json, json_line};
pub use number::grouped;
pub use plural::count;
pub use printable::printable;
pub use show::show;
pub use stats::{Growth, matrix, stats};
