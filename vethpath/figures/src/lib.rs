//! Statistics and charts of measurements. Pure: `vethpath bench`, its benchmarks and `cargo xtask figures` share them.

pub mod charts;
pub mod statistics;
