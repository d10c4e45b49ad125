//! Computes ordered steps from a [`Topology`](crate::topology::Topology) and the observed state. Pure: no I/O.
//!
//! The wanted state is compared with the present state, not with what was done last. Former topologies only tell which
//! of the existing objects the lab created and no longer wants.

mod change;
mod interfaces;
mod links;
mod mtu;
mod observed;
mod offloads;
mod ordered;
mod programs;
mod routes;
mod rules;
mod sizes;
mod step;
mod steps;
mod sysctls;
mod uplink;

pub use change::{Action, Change};
pub use observed::{Accepted, Found, Master, Observed, ObservedLink, Routed, is_ours, owner};
pub use offloads::{Offloads, offloads_in};
pub use ordered::{Changes, Plan};
pub use routes::{ObservedHop, ObservedRoute};
pub use step::{ACCEPT_RULE, ProgramStep, Step};
pub use steps::{Collision, plan};
pub use sysctls::{compares_dad, default_dad, settings};
pub use uplink::collisions;
