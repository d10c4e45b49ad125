//! Runs plans: steps, journal, undo in reverse order. Also takes labs down.

mod adopted;
mod agent;
mod announce;
mod cleanup;
mod converge;
mod down;
mod error;
mod execute;
mod forwarding;
mod nat;
mod netns_cache;
mod observe;
mod programs;
mod seed_fdb;
mod up;
mod xdp_offloads;

pub use adopted::has_namespace;
pub use down::{Left, down};
pub use error::Error;
pub use netns_cache::NetnsCache;
pub use observe::observe;
pub use up::{Options, Outcome, Preview, preview, up};
