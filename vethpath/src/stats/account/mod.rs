//! Computes a pair's account from the kernel's and the programs' counters. Pure.
//!
//! The kernel counts frames at the inner end on either path. The programs count frames and packets: a GSO frame is
//! one frame and as many packets as it has segments. They only count frames that pass the port while they are
//! attached and know the port. The account combines both:
//!
//! | figure | value |
//! |---|---|
//! | `tx.frames` | the programs' count and the unseen frames: the larger of the kernel's and the programs' count |
//! | `tx.packets` | `tx.frames`, plus the additional segments of GSO frames that the programs counted |
//! | `slow` | the programs' counts by reason, and [`UNSEEN`]: by how much the kernel's count is or was larger |
//! | `rx.frames` | the larger of the kernel's count and the fast path's count less drops |
//! | `rx.packets` | `rx.frames`, plus the additional segments of the fast path's GSO frames |
//! | bytes | likewise |
//!
//! The kernel's counters are read before the programs'. A frame in transit between the two reads makes the
//! programs' count the larger one, and is never taken for lost. It also hides an unseen one, which an earlier reading may
//! have found.

use vethpath_common::{PairCounters, Reason};

use super::{Count, Directions, Traffic};
use crate::kernel::LinkCounters;

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

/// Frames and bytes that the kernel counted at the inner end and no program did, but not fewer than the `known` ones that
/// an earlier reading found.
#[must_use]
pub fn unseen(inner: Option<&LinkCounters>, counters: &PairCounters, known: (u64, u64)) -> (u64, u64) {
    let (sent, seen) = (inner.map_or((0, 0), |link| link.sent), seen(counters));
    (sent.0.saturating_sub(seen.frames).max(known.0), sent.1.saturating_sub(seen.bytes).max(known.1))
}

/// The programs' counts of a pair that sends by XDP. Its stack sends one frame for each packet. GRO at the port may
/// merge frames that XDP passed to the bridge, before the tc program counts them as one. Such frames are counted
/// separately again, as far as the kernel `sent` more frames than the programs counted, apart from those `known` to be
/// unseen. The rest may be GSO frames from before the pair was on XDP.
#[must_use]
pub fn apart(mut counters: PairCounters, sent: u64, known: u64) -> PairCounters {
    let mut missing = sent.saturating_sub(seen(&counters).frames).saturating_sub(known);
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

/// The account of a pair from the kernel's counters of its inner end, the programs' counters, the frames lost on the way
/// to it, and the frames and bytes that an earlier reading found to be unseen. `inner` is `None` if the inner end is gone,
/// and its counters with it.
///
/// A GSO frame that the namespace received by the slow path counts as one packet, since no program runs where it
/// arrives.
#[must_use]
pub fn account(
    inner: Option<&LinkCounters>,
    counters: &PairCounters,
    lost: Lost,
    known: (u64, u64),
) -> Traffic {
    let received = inner.map_or((0, 0), |link| link.received);
    let seen = seen(counters);
    let (frames, bytes) = unseen(inner, counters, known);
    let tx = Count::from(seen).plus(Count { frames, packets: frames, bytes });
    let came = without(counters.fast_rx, lost.redirected);
    // Refused frames may have been redirected ones too. `at_most` below limits the fast path's count to the total.
    let rx = joined(received, without(came, lost.refused));
    let mut traffic = Traffic {
        tx,
        rx,
        fast: Directions { tx: counters.fast_tx.into(), rx: Count::from(came).at_most(rx) },
        ..Traffic::default()
    };
    let by_reason =
        Reason::ALL.into_iter().zip(&counters.slow).map(|(reason, count)| (reason.name(), *count));
    let unseen = vethpath_common::Count { frames, packets: frames, bytes };
    for (reason, count) in by_reason.chain([(UNSEEN, unseen)]) {
        for (slow, amount) in [
            (&mut traffic.slow, count.packets),
            (&mut traffic.slow_frames, count.frames),
            (&mut traffic.slow_bytes, count.bytes),
        ] {
            if amount > 0 {
                slow.insert(reason, amount);
            }
        }
    }
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
