//! Hazards of delivery to the receiver.

mod gso;
mod losses;
mod moved;
pub(super) mod offloads;
mod packet_type;
mod queues;
mod same_namespace;
mod scrubbed;
mod targets;
mod xdp;
