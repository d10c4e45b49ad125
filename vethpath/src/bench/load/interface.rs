//! What each kind of work implements: its two halves, which measure within a window.

use std::{
    io,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use crate::bench::measurement::{Measurement, Timing};

/// The time window of a slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// The end of the warm-up.
    pub(super) warm: Instant,
    /// The end of the slice.
    pub(super) end: Instant,
}

impl Window {
    /// Starts the window. This is called on the measuring thread: on a busy CPU a thread may be scheduled later than a
    /// slice takes.
    pub(super) fn start(timing: Timing) -> Self {
        let warm = Instant::now() + timing.warm_up;
        Self { warm, end: warm + timing.measure }
    }
}

/// Two halves that share sockets. In a slice both run at once, each on its thread.
pub(super) trait Load: Send + Sync {
    /// Called before each slice, while both halves are idle.
    fn prepare(&self) {}

    /// The client or sender half. It runs for the time of `timing` or until `stop` is set, and then signals the other
    /// half.
    fn run_client(&self, timing: Timing, stop: &AtomicBool) -> io::Result<Measurement>;

    /// The other half. It runs until it is signalled, or until nothing arrives and `stop` is set. Returns how much
    /// arrived, if only this half knows. It does nothing if another process replies.
    fn run_server(&self, stop: &AtomicBool) -> io::Result<Arrived>;

    /// The minimum number of frames that both ends sent for the measured work.
    fn fewest_frames(&self, measured: &Measurement) -> u64;
}

/// A receiver's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrived {
    /// Total.
    pub(super) all: u64,
    /// Within the window.
    pub(super) within: u64,
    /// How long after the end of the window the last one arrived, if known.
    pub(super) late: Duration,
}
