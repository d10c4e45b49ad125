//! Room for the frames of all tests at once.
//!
//! Frames that cross a veth wait in a queue of the CPU (`netif_rx` in net/core/dev.c), which all namespaces
//! share: a test that sends as fast as it can has the kernel drop another's, and that other one counts its losses.

use std::fs;

/// The most frames that wait for a CPU.
const SWITCH: &str = "/proc/sys/net/core/netdev_max_backlog";

/// What several tests that flood have room in.
const ENOUGH: u64 = 100_000;

/// The queue is long while this lives, and then as it was.
pub(super) struct Backlog {
    before: Option<u64>,
}

impl Backlog {
    /// Makes it long. Where that cannot be, it stays as it is.
    pub(super) fn long() -> Self {
        let found = fs::read_to_string(SWITCH).ok().and_then(|text| text.trim().parse().ok());
        let before = found.filter(|&found| found < ENOUGH);
        Self { before: before.filter(|_| fs::write(SWITCH, ENOUGH.to_string()).is_ok()) }
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        if let Some(before) = self.before
            && let Err(error) = fs::write(SWITCH, before.to_string())
        {
            eprintln!("warning: {SWITCH} was {before}, and cannot be made that again: {error}");
        }
    }
}
