//! From a [`Topology`](crate::topology::Topology) and what is there to ordered steps. Pure: no I/O.

mod observed;
mod steps;

pub use observed::{Collision, Found, Observed, ObservedLink, is_ours};
pub use steps::{Change, Plan, Step, plan};
