//! Charts as SVG. Pure.

mod distribution;
mod frame;
mod intervals;

pub use distribution::{Series, cumulative, density};
pub use frame::{Error, Ink, dark_mode};
pub use intervals::{Bar, Row, bars, forest, rounds};
