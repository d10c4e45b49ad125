//! Hazards of the state that the bridge keeps.

mod ageing;
mod bridge_itself;
mod entries;
mod looped;
mod lost_events;
mod moves;
mod moves_under_load;
mod port_flags;
mod slow_path;
mod spanning_tree;
