//! The per-lab process that keeps stations and eligibility true, and holds the lease.
//!
//! Data flow: kernel events and looks (`facts`) -> what the maps should hold (`desired`, pure)
//! -> the maps (`sync`). The lease (`run`) ends it all when this process does.

mod company;
mod desired;
mod domain;
mod eligible;
mod facts;
mod layout;
mod look;
mod losses;
mod paths;
mod refresh;
mod run;
mod segments;
mod socket;
pub mod status;
mod sync;

pub use eligible::NotArmed;
pub use layout::{counted_pairs, largest_segment, numbered_trunks};
pub use run::{Error, LEASE, run};
