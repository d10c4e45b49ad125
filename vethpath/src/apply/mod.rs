//! Doing what a plan says: steps, journal, undo in reverse; and taking a lab down.

mod adopted;
mod agent;
mod announce;
mod change;
mod clear;
mod converge;
mod down;
mod error;
mod execute;
mod forwarding;
mod hold;
mod introduce;
mod nat;
mod observe;
mod places;
mod prepare;
mod programs;
mod up;

pub use adopted::has_namespace;
pub use down::{Left, down};
pub use error::Error;
pub use observe::observe;
pub use places::Places;
pub use up::{Options, Outcome, Preview, preview, up};
