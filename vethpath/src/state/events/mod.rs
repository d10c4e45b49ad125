//! The event log of a lab: each change of its state, with its time.
//!
//! Each event is one line of JSON in `events.jsonl`. At 1 MiB the file is rotated to `events.old.jsonl`, replacing the
//! one before, so that a flapping port does not fill `/run`. The agent writes most events; `up`, `down` and `bench`
//! write their own.

mod event;
mod reader;
mod recorder;

pub use event::{Event, Former, How, Kind, Time};
pub use reader::{Follower, Reader};
pub use recorder::Recorder;
