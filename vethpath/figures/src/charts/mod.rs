//! Charts as SVG. Pure.

mod bars;
mod distribution;
mod forest;
mod frame;
mod ink;
mod rounds;
mod ticks;

pub use bars::{Bar, bars};
pub use distribution::{Series, cumulative, density};
pub use forest::{Row, forest};
pub use frame::Error;
pub use ink::{Ink, dark_mode};
pub use rounds::{Band, rounds};
