//! Runs plans: steps, journal, undo in reverse order. Also takes labs down.

mod adopted;
mod agent;
mod announce;
mod cleanup;
mod converge;
mod down;
mod error;
mod execute;
mod foreign;
mod metrics;
mod namespaces;
mod nat;
mod observe;
mod programs;
mod seed_fdb;
mod subnets;
mod up;
mod xdp_offloads;

pub use converge::Outcome;
pub use down::{Foreign, Left, down};
pub use error::{Error, Refusal};
pub use foreign::ForeignDevice;
pub use namespaces::{NetnsCache, existing, has_namespace};
pub use observe::observe;
pub use subnets::{Overlap, check_routes, overlaps};
pub use up::{Options, Preview, Switch, drift, preview, up};
