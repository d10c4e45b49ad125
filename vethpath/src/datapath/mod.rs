//! The programs and maps of a lab: loading, attaching, pinning and reading.

mod attach;
mod batch;
mod counters;
mod grow;
mod lab;
mod load;
mod log;
mod maps;
mod pins;
mod query;
mod shared;
mod slots;
mod table;
mod xdp;

pub use attach::{
    Attached, Hook, attach, attached, attached_by_index, detach, is_our_classifier, is_our_filter,
};
pub use batch::per_cpu;
pub use counters::{Counters, Matrix};
pub use grow::{finish, has_room, larger, left_over, switch_over};
pub use lab::LabPrograms;
pub use load::{Copies, OBJECT, Sizes, check_version, is_whole, load, load_program, loader};
pub use log::forward_log;
pub use maps::Maps;
pub use pins::Pins;
pub use query::has_netfilter_programs;
pub use slots::Slots;
pub use table::Table;
pub use xdp::{Receivers, attach_xdp, detach_all_xdp, detach_xdp, switch_over_xdp, xdp_id};
