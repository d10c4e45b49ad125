//! Rendering: tables and JSON. Printers take a writer.

pub mod bench;
