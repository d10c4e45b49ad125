//! The queues of frames that have been sent and not been received yet.
//!
//! A veth counts a frame as sent when it is in the backlog of a CPU (`veth_xmit` in drivers/net/veth.c, `enqueue_to_backlog`
//! in net/core/dev.c). The receiving end runs programs when the CPU takes it from there.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::files;

/// `softnet_seq_show` in net/core/net-procfs.c. The backlogs are those of the CPUs, for all namespaces.
const FILE: &str = "/proc/thread-self/net/softnet_stat";

/// How long a backlog may take: at a thousand frames, it is full.
const TIMEOUT: Duration = Duration::from_millis(50);

/// The interval between two readings.
const INTERVAL: Duration = Duration::from_micros(200);

/// Waits until each CPU has taken all frames from its backlog that were there when this was called. Returns whether that
/// is known. A frame that was taken last may still be on its way through programs, for which a grace period waits.
/// Minimum kernel: Linux 5.10 (the lengths of backlogs); false before.
#[must_use]
pub fn wait_until_taken() -> bool {
    let deadline = Instant::now() + TIMEOUT;
    // By CPU, whether its backlog has been empty since.
    let mut taken: Vec<bool> = Vec::new();
    loop {
        let text = files::read_bounded(Path::new(FILE), files::LIST).unwrap_or_default();
        let Some(lengths) = text.lines().map(length).collect::<Option<Vec<u64>>>() else { return false };
        taken.resize(taken.len().max(lengths.len()), false);
        taken.iter_mut().zip(&lengths).for_each(|(taken, length)| *taken |= *length == 0);
        if !taken.is_empty() && taken.iter().all(|taken| *taken) {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(INTERVAL);
    }
}

/// The number of frames in the backlog of the CPU that a line is about: the twelfth field, in hexadecimal.
fn length(line: &str) -> Option<u64> {
    u64::from_str_radix(line.split_whitespace().nth(11)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_length_of_a_backlog() {
        let line = "00021005 00000001 00000002 00000000 00000000 00000000 00000000 00000000 00000000 00000000 \
                    00000000 0000001a 00000001 0000001a 00000000";
        assert_eq!(length(line), Some(26));
        assert_eq!(length("00021005 00000001 00000002 00000000"), None, "an older kernel's");
    }

    #[test]
    fn this_kernel_shows_them() {
        let text = files::read_bounded(Path::new(FILE), files::LIST).unwrap();
        assert!(text.lines().count() > 0 && text.lines().all(|line| length(line).is_some()), "{text}");
    }
}
