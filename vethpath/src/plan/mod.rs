//! From a [`Topology`](crate::topology::Topology) and what is there to ordered steps. Pure: no I/O.
//!
//! What is wanted is held against what is there, not against what was done last. What the lab was before
//! is asked for one thing alone: what of the things that are there it has made and is not wanted any more.

mod change;
mod collision;
mod interfaces;
mod links;
mod mtu;
mod observed;
mod programs;
mod routes;
mod step;
mod steps;
mod sysctls;

pub use change::{Action, Change, Changes};
pub use collision::Collision;
pub use observed::{Found, Master, NextHop, Observed, ObservedLink, is_ours, owner};
pub use step::{ProgramStep, Step};
pub use steps::{Plan, plan};
pub use sysctls::{compares_dad, default_dad, settings};
