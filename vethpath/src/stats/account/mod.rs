//! Computes a pair's account from the kernel's and the programs' counters. Pure.
//!
//! The kernel counts frames at the inner end on either path. The programs count frames and packets: a GSO frame is
//! one frame and as many packets as it has segments. They only count frames that pass the port while they are
//! attached and know the port. The account combines both:
//!
//! | figure | value |
//! |---|---|
//! | `tx.frames` | the larger of the kernel's and the programs' count |
//! | `tx.packets` | `tx.frames`, plus the additional segments of GSO frames that the programs counted |
//! | `slow` | the programs' counts by reason, and [`UNSEEN`] for frames that no program counted |
//! | `rx.frames` | the larger of the kernel's count and the fast path's count less drops |
//! | `rx.packets` | `rx.frames`, plus the additional segments of the fast path's GSO frames |
//! | bytes | the larger of the kernel's and the programs' count |
//!
//! The kernel's counters are read before the programs'. A frame in transit between the two reads makes the
//! programs' count the larger one, and is never taken for lost.

use vethpath_common::{PairCounters, Reason};

use super::{Count, Directions, Traffic};
use crate::kernel::LinkFacts;

/// The reason in `slow` for frames that the kernel counted at the inner end and no program counted: sent before the
/// program was attached or knew the port, sent while it was detached, or dropped before the port.
pub const UNSEEN: &str = "unseen";

/// The frames from a pair that the programs counted, on the fast and the slow path.
#[must_use]
pub fn seen(counters: &PairCounters) -> vethpath_common::Count {
    counters.slow.iter().fold(counters.fast_tx, |sum, count| sum.plus(*count))
}

/// Frames to a pair that were lost, from the counters of the port's driver and device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Redirected while the inner end's ring was full.
    pub redirected: u64,
    /// Redirected or forwarded by the bridge while the inner end was not ready or its ring was full.
    pub refused: u64,
}

/// The programs' counts of a pair that sends by XDP. Its stack sends one frame for each packet. GRO at the port may
/// merge frames that XDP passed to the bridge, before the tc program counts them as one. Such frames are counted
/// separately again, as far as the kernel `sent` more frames than the programs counted. The rest may be GSO frames
/// from before the pair was on XDP.
#[must_use]
pub fn apart(mut counters: PairCounters, sent: u64) -> PairCounters {
    let mut missing = sent.saturating_sub(seen(&counters).frames);
    for count in counters.slow.iter_mut().chain([&mut counters.fast_tx]) {
        let more = count.packets.saturating_sub(count.frames).min(missing);
        count.frames += more;
        missing -= more;
    }
    counters
}

/// The frames redirected to a pair, less those `lost` on the way. Bytes of lost frames are not counted anywhere, so
/// they are estimated by the average frame length.
fn without(redirected: vethpath_common::Count, lost: u64) -> vethpath_common::Count {
    let lost = lost.min(redirected.frames);
    let frames = redirected.frames - lost;
    let bytes = u128::from(redirected.bytes) * u128::from(frames) / u128::from(redirected.frames.max(1));
    vethpath_common::Count {
        frames,
        packets: redirected.packets.saturating_sub(lost),
        bytes: u64::try_from(bytes).unwrap_or(redirected.bytes),
    }
}

/// The account of a pair from the kernel's counters of its inner end, the programs' counters and the frames lost on
/// the way to it. `inner` is `None` if the inner end is gone, and its counters with it.
///
/// A GSO frame that the namespace received by the slow path counts as one packet, since no program runs where it
/// arrives.
#[must_use]
pub fn account(inner: Option<&LinkFacts>, counters: &PairCounters, lost: Lost) -> Traffic {
    let (sent, received) = inner.map_or(((0, 0), (0, 0)), |link| (link.sent, link.received));
    let seen = seen(counters);
    let tx = joined(sent, seen);
    let came = without(counters.fast_rx, lost.redirected);
    // Refused frames may have been redirected ones too. `at_most` below limits the fast path's count to the total.
    let rx = joined(received, without(came, lost.refused));
    let mut traffic = Traffic {
        tx,
        rx,
        fast: Directions { tx: counters.fast_tx.into(), rx: Count::from(came).at_most(rx) },
        ..Traffic::default()
    };
    let mut slow = |reason, frames, packets| {
        if packets > 0 {
            traffic.slow.insert(reason, packets);
            traffic.slow_frames.insert(reason, frames);
        }
    };
    for (reason, count) in Reason::ALL.into_iter().zip(&counters.slow) {
        slow(reason.name(), count.frames, count.packets);
    }
    let unseen = tx.frames - seen.frames;
    slow(UNSEEN, unseen, unseen);
    traffic
}

/// Combines the kernel's count (frames, bytes) with the programs'. The larger value of each is used.
fn joined((frames, bytes): (u64, u64), programs: vethpath_common::Count) -> Count {
    let frames = frames.max(programs.frames);
    // A program counts at least one packet for each frame.
    let further_segments = programs.packets.saturating_sub(programs.frames);
    Count { frames, packets: frames.saturating_add(further_segments), bytes: bytes.max(programs.bytes) }
}

#[cfg(test)]
mod tests;
