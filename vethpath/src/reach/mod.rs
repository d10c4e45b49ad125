//! Which hosts of a lab reach which: the matrix of `ping`, and the expectations of `test`.

mod expectations;
mod hosts;
mod matrix;
mod model;

pub use expectations::evaluate;
pub use hosts::target;
pub use matrix::{MOST_PROBES, NotMeasured, matrix};
pub use model::{Cell, Matrix, Outcome, Verdict};
