//! Computes ordered steps from a [`Topology`](crate::topology::Topology) and the observed state. Pure: no I/O.
//!
//! The wanted state is compared with the present state, not with what was done last. Former topologies only tell which
//! of the existing objects the lab created and no longer wants.

mod change;
mod collision;
mod interfaces;
mod links;
mod mtu;
mod observed;
mod offloads;
mod programs;
mod routes;
mod step;
mod steps;
mod sysctls;

pub use change::{Action, Change, Changes};
pub use collision::Collision;
pub use observed::{Found, Master, NextHop, Observed, ObservedLink, is_ours, owner};
pub use offloads::{Offloads, offloads_in};
pub use step::{ProgramStep, Step};
pub use steps::{Plan, plan};
pub use sysctls::{compares_dad, default_dad, settings};
