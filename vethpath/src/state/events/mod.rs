//! What has happened to a lab: each change of its state, with its time.
//!
//! One line of JSON for each event in `events.jsonl`. At 1 MiB the file becomes `events.old.jsonl`, in
//! the place of the one before, so that a port that flaps for a week does not fill `/run`. The agent
//! writes nearly all of it; `up`, `down` and `bench` write what they do themselves.

mod event;
mod file;
mod follow;
mod reader;
mod recorder;

pub use event::{Event, Former, How, Kind, Time};
pub use follow::Follower;
pub use reader::Reader;
pub use recorder::Recorder;
