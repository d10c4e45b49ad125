//! The ABI between vethpath's eBPF programs and its user space.
//!
//! It consists of map keys and values, reasons, counters, the names of maps and programs, and its version. Nothing else
//! crosses the boundary between kernel and user space.
#![no_std]

mod counters;
mod mac;
mod map;
pub mod names;
mod reason;
mod slot;

pub use counters::{Count, PairCounters};
pub use mac::MacWords;
pub use map::{
    AWAY_NS, Config, MOST_BRIDGES, MatrixKey, Path, PortKey, PortRecord, Seen, Source, SourceKey, Station,
    StationKey, UNCONFIRMED, flags,
};
pub use reason::Reason;
pub use slot::{Entry, NOT_THERE, Slot, slot_in_table, slot_of};

/// Version of everything in this crate. Pinned maps of another version are never adopted.
pub const ABI_VERSION: u32 = 6;

/// Index in the counter map for frames of ports that belong to no known pair.
pub const NO_PAIR: u32 = 0;
