//! The counters of a pair as they are exposed. None of them decreases.
//!
//! What took the slow path is a difference: the kernel's count less that of the programs, which is read later
//! (`stats::account`). Under traffic the difference may be some frames less than at the reading before. Prometheus takes
//! a counter that decreases for one that began again at zero, and would add its whole value. So a lower value is not
//! exposed until the count has reached the higher one again.

use std::collections::BTreeMap;

use crate::stats::{Count, Directions, Dropped, Pair, Traffic};

/// The counters of a pair, of a trunk, or of the guest ports that have left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// By the fast path.
    pub(super) fast: Directions,
    /// By the slow path.
    pub(super) slow: Directions,
    /// Packets sent by the slow path, by reason.
    pub(super) reasons: BTreeMap<&'static str, u64>,
    /// What XDP dropped.
    pub(super) dropped: Option<Dropped>,
    /// Frames sent, received, and sent by the fast path, as they were read.
    read: [u64; 3],
}

impl Figures {
    /// What was read of a pair.
    pub(super) fn of_pair(pair: &Pair) -> Self {
        Self { dropped: pair.dropped, ..Self::of(&pair.traffic) }
    }

    /// What was read.
    pub(super) fn of(traffic: &Traffic) -> Self {
        let Traffic { tx, rx, fast, slow, .. } = traffic;
        Self {
            reasons: slow.clone(),
            read: [tx.frames, rx.frames, fast.tx.frames],
            ..Self::of_directions(&Directions { tx: *tx, rx: *rx }, fast)
        }
    }

    /// The same of totals and the part that took the fast path.
    pub(super) fn of_directions(total: &Directions, fast: &Directions) -> Self {
        let slow = Directions { tx: less(total.tx, fast.tx), rx: less(total.rx, fast.rx) };
        Self { fast: *fast, slow, ..Self::default() }
    }

    /// Raises each counter to what was exposed before, unless the counting has begun again at zero: the pair was made
    /// again, or its inner end was.
    pub(super) fn not_below(&mut self, before: &Self) {
        if self.read.iter().zip(before.read).any(|(now, then)| *now < then) {
            return;
        }
        let raise = |to: &mut Count, then: Count| {
            to.frames = to.frames.max(then.frames);
            to.packets = to.packets.max(then.packets);
            to.bytes = to.bytes.max(then.bytes);
        };
        raise(&mut self.fast.tx, before.fast.tx);
        raise(&mut self.fast.rx, before.fast.rx);
        raise(&mut self.slow.tx, before.slow.tx);
        raise(&mut self.slow.rx, before.slow.rx);
        for (reason, then) in &before.reasons {
            let now = self.reasons.entry(reason).or_default();
            *now = (*now).max(*then);
        }
        if !self.reasons.is_empty() {
            // Not below either total: both were the sum of their reasons.
            self.slow.tx.packets = self.reasons.values().sum();
        }
        if let (Some(now), Some(then)) = (&mut self.dropped, before.dropped) {
            *now = Dropped { tx: now.tx.max(then.tx), rx: now.rx.max(then.rx) };
        }
    }
}

fn less(total: Count, part: Count) -> Count {
    Count {
        frames: total.frames.saturating_sub(part.frames),
        packets: total.packets.saturating_sub(part.packets),
        bytes: total.bytes.saturating_sub(part.bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn count(frames: u64) -> Count {
        Count { frames, packets: frames, bytes: frames * 100 }
    }

    fn traffic(sent: [u64; 2], received: [u64; 2]) -> Traffic {
        let directions = |tx, rx| Directions { tx: count(tx), rx: count(rx) };
        Traffic {
            tx: count(sent[0] + sent[1]),
            rx: count(received[0] + received[1]),
            fast: directions(sent[0], received[0]),
            slow: [("arp", 2), ("unseen", sent[1] - 2)].into(),
            slow_frames: BTreeMap::new(),
            slow_bytes: BTreeMap::new(),
        }
    }

    #[test]
    fn a_difference_that_decreases_is_held() {
        let before = Figures::of(&traffic([100, 12], [90, 10]));
        // Frames of the fast path that came between the two reads are missing in the difference.
        let mut now = Figures::of(&traffic([105, 10], [95, 5]));
        now.not_below(&before);
        assert_eq!((now.fast.tx, now.slow.tx), (count(105), count(12)));
        assert_eq!((now.fast.rx, now.slow.rx), (count(95), count(10)));
        assert_eq!(now.reasons, [("arp", 2), ("unseen", 10)].into());
        let mut later = Figures::of(&traffic([105, 13], [95, 11]));
        later.not_below(&now);
        assert_eq!((later.slow.tx, later.slow.rx), (count(13), count(11)));
        assert_eq!(later, Figures::of(&traffic([105, 13], [95, 11])), "as read");
    }

    #[test]
    fn a_count_that_began_again_is_exposed_as_it_is() {
        let before = Figures::of(&traffic([100, 12], [90, 10]));
        for again in [traffic([0, 3], [90, 10]), traffic([100, 2], [90, 10]), traffic([100, 12], [0, 0])] {
            let mut now = Figures::of(&again);
            now.not_below(&before);
            assert_eq!(now, Figures::of(&again));
        }
    }
}
