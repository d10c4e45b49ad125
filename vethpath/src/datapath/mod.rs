//! The programs and maps of a lab: loading, attaching, pinning and reading.

mod attach;
mod bpf;
mod counters;
mod fold;
mod grow;
mod guests;
mod lab;
mod load;
mod mapped;
mod maps;
mod pins;
mod slots;
mod xdp;

pub use attach::{
    Attached, Hook, XdpLinks, attach, attached, attached_by_index, detach, has_netfilter_programs,
    is_our_classifier, is_our_filter, program_id,
};
pub use bpf::per_cpu;
pub use counters::{Counters, Matrix};
pub use fold::Fold;
pub use grow::{finish, has_room, larger, left_over, switch_over};
pub use guests::{GuestPort, attach_guest, detach_guest, detach_guests, is_guest_attached};
pub use lab::LabPrograms;
pub use load::{Copies, OBJECT, Sizes, check_version, forward_log, is_complete, load, load_program, loader};
pub use maps::{Added, Maps, Table};
pub use pins::Pins;
pub use slots::Slots;
pub use xdp::{Receivers, attach_xdp, detach_all_xdp, detach_xdp, switch_over_xdp, xdp_id};
