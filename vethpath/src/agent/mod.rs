//! The per-lab process that keeps the maps equal to the kernel's state, and holds the lease.
//!
//! Data flow: kernel events and dumps (`netns_state`) -> what the maps should hold (`desired`, pure) -> the maps
//! (`map_sync`). Changes are logged (`diff`, pure; `event_log`). Without the agent (`run`), the lease expires.

mod announcements;
mod bridge_netns;
mod budget;
mod desired;
mod diff;
mod drops;
mod eligible;
mod error;
mod event_log;
mod fdb;
mod guests;
mod interference;
mod layout;
mod loss_detector;
mod map_sync;
mod netns_state;
mod not_armed;
mod occupants;
mod paths;
mod privileges;
mod reader;
mod reattach;
mod run;
mod segments;
mod socket;
pub mod status;

pub use error::Error;
pub use guests::guest_name;
pub use layout::{counted_pairs, largest_segment, numbered_trunks};
pub use map_sync::LEASE;
pub use not_armed::NotArmed;
pub use privileges::reduce as reduce_privileges;
pub use run::run;
