//! The per-lab process that keeps stations and eligibility true, and holds the lease.
//!
//! Data flow: kernel events and looks (`facts`) -> what the maps should hold (`desired`, pure)
//! -> the maps (`sync`). What changes is told (`changes`, pure; `chronicle`). The lease (`run`) ends it all when this process does.

mod changes;
mod chronicle;
mod company;
mod desired;
mod domain;
mod eligible;
mod facts;
mod layout;
mod links;
mod look;
mod losses;
mod mend;
mod paths;
mod privileges;
mod refresh;
mod run;
mod segments;
mod socket;
pub mod status;
mod sync;

pub use eligible::NotArmed;
pub use layout::{counted_pairs, largest_segment, numbered_trunks};
pub use privileges::reduce as reduce_privileges;
pub use run::{Error, LEASE, run};
