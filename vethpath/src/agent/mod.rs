//! The per-lab process that keeps stations and eligibility true, and holds the lease.
//!
//! Data flow: kernel events and looks (`facts`) -> what the maps should hold (`desired`, pure)
//! -> the maps (`sync`). What changes is told (`changes`, pure; `chronicle`). The lease (`run`) ends it all when this process does.

mod bench_recovery;
mod bridge_netns;
mod desired;
mod diff;
mod eligible;
mod event_log;
mod interference;
mod layout;
mod link_table;
mod loss_detector;
mod map_sync;
mod netns_state;
mod paths;
mod privileges;
mod reader;
mod run;
mod segments;
mod socket;
pub mod status;

pub use eligible::NotArmed;
pub use layout::{counted_pairs, largest_segment, numbered_trunks};
pub use privileges::reduce as reduce_privileges;
pub use run::{Error, LEASE, run};
