//! The arithmetic of a pair's account. Pure.
//!
//! The kernel counts frames at the inner end, whoever carries them. The programs count frames and
//! packets (a GSO frame is one frame and as many packets as it has segments), but only what passes
//! the port while they are attached and know the port. One account of both:
//!
//! | figure | is |
//! |---|---|
//! | `tx.frames` | the kernel's, or what the programs saw, whichever is more |
//! | `tx.packets` | `tx.frames`, and the further segments of the GSO frames that the programs saw |
//! | `slow` | the programs' counts by reason, and under [`UNSEEN`] what no program saw |
//! | `rx.frames` | the kernel's, or what the fast path delivered without what was dropped on the way, whichever is more |
//! | `rx.packets` | `rx.frames`, and the further segments of the fast path's GSO frames |
//! | bytes | the kernel's, or the programs', whichever is more |
//!
//! The kernel's counters are read before the programs', so that a frame under way between the two
//! reads makes the programs' count the greater one, and never looks lost.

use vethpath_common::{PairCounters, Reason};

use super::{Count, Traffic, Ways};
use crate::kernel::LinkFacts;

/// The reason in `slow` for frames that the kernel counted at the inner end and no program saw: sent
/// before the program was attached or knew the port, while it was off, or dropped before the port.
pub const UNSEEN: &str = "unseen";

/// What the programs saw a pair send, fast and slow.
#[must_use]
pub fn seen(counters: &PairCounters) -> vethpath_common::Count {
    counters.slow.iter().fold(counters.fast_tx, |sum, count| sum.plus(*count))
}

/// Frames that were lost on the way to a pair, as the port's driver counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Redirected, and the inner end's ring had no room.
    pub redirected: u64,
    /// Redirected or brought by the bridge, and the inner end took nothing in, or had no room.
    pub refused: u64,
}

/// The programs' counts of a pair that sends by XDP. Its stack makes a frame of each packet; what XDP leaves to the
/// bridge, GRO may put together at the port, before the other program counts it as one. Such frames are counted
/// apart again, as far as the kernel has counted more `sent` than the programs: what the pair sent
/// before it was on XDP may have been one frame of several packets.
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

/// What a program redirected to a pair, without what was `lost` on the way to it. Of its bytes, which nobody counts,
/// as many as of all.
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

/// One account of a pair from the kernel's counters of its inner end (`None` where that is gone: its
/// counters went with it), the programs', and what was lost on the way to it.
///
/// A GSO frame that the namespace received by the slow path counts as one packet: no program of ours
/// is where it arrives.
#[must_use]
pub fn account(inner: Option<&LinkFacts>, counters: &PairCounters, lost: Lost) -> Traffic {
    let (sent, received) = inner.map_or(((0, 0), (0, 0)), |link| (link.sent, link.received));
    let seen = seen(counters);
    let tx = joined(sent, seen);
    let came = without(counters.fast_rx, lost.redirected);
    // Some of what was refused may have been redirected too: it surely came to no more than the kernel says.
    let rx = joined(received, without(came, lost.refused));
    let mut traffic = Traffic {
        tx,
        rx,
        fast: Ways { tx: counters.fast_tx.into(), rx: Count::from(came).at_most(rx) },
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

/// The kernel's count (frames, bytes) with what the programs know better. Its frames are never fewer
/// than the programs'.
fn joined((frames, bytes): (u64, u64), programs: vethpath_common::Count) -> Count {
    let frames = frames.max(programs.frames);
    // A program counts at least one packet a frame.
    let further_segments = programs.packets.saturating_sub(programs.frames);
    Count { frames, packets: frames.saturating_add(further_segments), bytes: bytes.max(programs.bytes) }
}

#[cfg(test)]
mod tests;
