//! Hazards of delivery to the receiver.

mod losses;
mod metadata;
mod targets;
mod transmit;
