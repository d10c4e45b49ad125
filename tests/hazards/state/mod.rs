//! Hazards of the state that the bridge keeps.

mod ageing;
mod entries;
mod flood;
mod lost_events;
mod moves;
mod port_flags;
mod slow_path;
mod spanning_tree;
