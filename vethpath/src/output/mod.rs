//! Rendering: tables and JSON. Printers take a writer.
