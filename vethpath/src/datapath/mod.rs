//! The programs and maps of a lab: loading, attaching, pinning, reading.

mod attach;
mod batch;
mod counters;
mod error;
mod links;
mod load;
mod log;
mod maps;
mod object;
mod pins;
mod query;

pub use attach::{Attached, Hook, attach, attached, attached_by_index, detach, is_our_filter};
pub use counters::{Counters, Matrix};
pub use error::{Error, Result};
pub use links::LinkNumbers;
pub use load::{Sizes, load, load_program, loader};
pub use log::forward_log;
pub use maps::Maps;
pub use object::OBJECT;
pub use pins::Pins;
