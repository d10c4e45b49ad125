//! Detects redirected frames that do not arrive. A redirect fails after the program has returned, and reports no
//! error. So the number of redirected frames is compared with what the inner end received.

use std::time::{Duration, Instant};

/// Consecutive samples that must show a loss before a pair is disarmed.
const STRIKES: u32 = 3;

/// How long a losing pair is disarmed before it is tried again.
pub const REST: Duration = Duration::from_secs(30);

/// Counters of one pair in one sample, in the order in which they are read.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// ifindex of the inner end.
    pub inner: u32,
    /// Frames redirected to the pair, read before the inner end.
    pub before: u64,
    /// Frames that the inner end received.
    pub received: u64,
    /// Frames redirected to the pair, read after the inner end.
    pub after: u64,
}

/// What the last samples of a pair showed.
#[derive(Default)]
pub struct LossHistory {
    last: Option<Sample>,
    /// How many samples in a row have shown a loss.
    strikes: u32,
    resting_since: Option<Instant>,
}

impl LossHistory {
    /// Whether the pair must be sampled: it has redirected frames since the last sample (`before` is their total), or
    /// is suspected. If it was not sampled for a while, frames that came by the bridge in the meantime count as arrived.
    /// That invalidates one sample at most.
    #[must_use]
    pub fn is_busy(&self, before: u64) -> bool {
        self.last.is_none_or(|last| last.after != before) || self.is_suspected()
    }

    /// Whether the last samples have shown a loss.
    #[must_use]
    pub fn is_suspected(&self) -> bool {
        self.strikes > 0 || self.resting_since.is_some()
    }

    /// Adds a sample. Returns whether the pair is to be disarmed.
    ///
    /// Frames redirected after the last sample's `after` and before this one's `before` have reached the inner end
    /// between its two readings, however long a sample takes. A loss of less than half of them does not count: an
    /// overloaded receiver drops that much on a plain bridge too.
    pub fn update(&mut self, sample: Sample, now: Instant) -> bool {
        let Some(last) = self.last.replace(sample).filter(|last| last.inner == sample.inner) else {
            *self = Self { last: Some(sample), ..Self::default() };
            return false;
        };
        let redirected = sample.before.saturating_sub(last.after);
        let arrived = sample.received.saturating_sub(last.received);
        if let Some(since) = self.resting_since {
            if now.duration_since(since) < REST {
                return true;
            }
            (self.resting_since, self.strikes) = (None, 0);
            return false;
        }
        self.strikes = if redirected > arrived.saturating_mul(2) { self.strikes + 1 } else { 0 };
        if self.strikes >= STRIKES {
            self.resting_since = Some(now);
        }
        self.resting_since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(before: u64, received: u64, after: u64) -> Sample {
        Sample { inner: 7, before, received, after }
    }

    #[test]
    fn frames_under_way_are_no_loss() {
        let (mut losses, now) = (LossHistory::default(), Instant::now());
        // A million frames a second, and a sample that takes longer or shorter each time.
        for (at, delay) in
            [(0, 9_000), (1_000_000, 5_000), (2_000_000, 3_000), (3_000_000, 1_000), (4_000_000, 10)]
        {
            assert!(!losses.update(sample(at, at + delay, at + 2 * delay), now));
        }
    }

    #[test]
    fn a_lasting_loss_rests_the_pair_for_a_while() {
        let (mut losses, start) = (LossHistory::default(), Instant::now());
        let mut at = 0;
        let mut lose = |losses: &mut LossHistory, now| {
            at += 100;
            losses.update(sample(at, 0, at), now)
        };
        assert!(!lose(&mut losses, start), "what was before is not our affair");
        assert!(!lose(&mut losses, start));
        assert!(!lose(&mut losses, start));
        assert!(lose(&mut losses, start), "three times in a row");
        assert!(lose(&mut losses, start + REST / 2));
        assert!(!lose(&mut losses, start + REST), "then it is tried again");
    }

    #[test]
    fn a_passing_or_partial_loss_does_not_count() {
        let (mut losses, now) = (LossHistory::default(), Instant::now());
        for (at, received) in
            [(0, 0), (100, 0), (200, 0), (300, 300), (400, 300), (500, 350), (600, 400), (700, 450)]
        {
            assert!(!losses.update(sample(at, received, at), now), "{at}");
        }
    }

    #[test]
    fn another_inner_end_starts_over() {
        let (mut losses, now) = (LossHistory::default(), Instant::now());
        for at in [0, 100, 200] {
            assert!(!losses.update(sample(at, 0, at), now));
        }
        assert!(!losses.update(Sample { inner: 8, ..sample(300, 0, 300) }, now));
    }
}
