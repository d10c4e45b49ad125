//! Runs plans: steps, journal, undo in reverse order. Also takes labs down.

mod agent;
mod announce;
mod cleanup;
mod converge;
mod down;
mod error;
mod execute;
mod firewall;
mod namespaces;
mod nat;
mod observe;
mod programs;
mod seed_fdb;
mod up;
mod xdp_offloads;

pub use converge::Outcome;
pub use down::{Left, down};
pub use error::Error;
pub use firewall::{Drop, drops};
pub use namespaces::{NetnsCache, has_namespace};
pub use observe::observe;
pub use up::{Options, Preview, preview, up};
