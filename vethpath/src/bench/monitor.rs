//! The two measured pairs, by the counters of the lab's programs: which path their frames took.

use vethpath_common::PairCounters;

use super::{
    error::Error,
    programs::pair_states,
    selection::{NO_AGENT, Selection, Side},
};
use crate::{
    datapath::{Counters, Pins},
    state::Directory,
};

/// Of the frames on the fast path, one in this many may be slow, mainly ARP.
const ONE_SLOW_IN: u64 = 100;

/// This many slow frames are always allowed: a short slice has few frames.
const SOME_SLOW: u64 = 4;

/// Two pairs of a lab that is up.
pub struct PathMonitor {
    selection: Selection,
    counters: Counters,
    directory: Directory,
}

/// The programs' counters of the two pairs.
pub struct Counted([PairCounters; 2]);

/// Frames sent by the two namespaces, by path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// By the fast path.
    pub fast: u64,
    /// By the bridge.
    pub slow: u64,
}

impl PathMonitor {
    /// Opens the counters of the lab.
    ///
    /// # Errors
    /// They are not pinned.
    pub fn open(selection: Selection, directory: Directory) -> Result<Self, Error> {
        let counters = Counters::open(&Pins::of(directory.lab()))?;
        Ok(Self { selection, counters, directory })
    }

    /// Reads the counters.
    ///
    /// # Errors
    /// A kernel operation fails.
    pub fn counted(&self) -> Result<Counted, Error> {
        let [from, to] = self.selection.sides();
        let matrix = self.counters.matrix()?;
        Ok(Counted([self.counters.of(from.counter, &matrix)?, self.counters.of(to.counter, &matrix)?]))
    }

    /// The frames sent since `before`.
    ///
    /// # Errors
    /// A kernel operation fails.
    pub fn since(&self, before: &Counted) -> Result<Sent, Error> {
        let after = self.counted()?;
        let both = before.0.iter().zip(&after.0).map(|(before, after)| Sent::between(before, after));
        Ok(both
            .fold(Sent::default(), |sum, one| Sent { fast: sum.fast + one.fast, slow: sum.slow + one.slow }))
    }

    /// The agent's state of the two pairs.
    #[must_use]
    pub fn states(&self) -> String {
        let states = pair_states(&self.directory);
        let say = |side: &Side| {
            let pair = &side.name;
            match states.get(pair) {
                Some(None) => format!("{pair} is armed"),
                Some(Some(reason)) => format!("{pair} is not armed: {reason}"),
                None => format!("{pair}: {NO_AGENT}"),
            }
        };
        self.selection.sides().map(say).join(", ")
    }
}

impl Sent {
    fn between(before: &PairCounters, after: &PairCounters) -> Self {
        let slow = |counters: &PairCounters| counters.slow.iter().map(|count| count.frames).sum::<u64>();
        Self {
            fast: after.fast_tx.frames.wrapping_sub(before.fast_tx.frames),
            slow: slow(after).wrapping_sub(slow(before)),
        }
    }

    /// Whether nearly all frames were fast, and at least nearly `expected` of them.
    #[must_use]
    pub fn is_fast(self, expected: u64) -> bool {
        self.fast >= nearly(expected) && self.fast >= nearly(self.fast + self.slow)
    }
}

/// The lowest number that counts as nearly all of `all`.
#[must_use]
pub fn nearly(all: u64) -> u64 {
    all - (all / ONE_SLOW_IN).max(SOME_SLOW.min(all / 2))
}

#[cfg(test)]
mod tests {
    use vethpath_common::Reason;

    use super::*;

    #[test]
    fn frames_are_counted_by_path() {
        let mut before = PairCounters::default();
        before.fast_tx.add(1, 60);
        before.slow[Reason::Arp as usize].add(1, 42);
        let mut after = before;
        after.fast_tx.add(4, 6000);
        after.slow[Reason::Arp as usize].add(1, 42);
        after.slow[Reason::Stale as usize].add(1, 60);
        assert_eq!(Sent::between(&before, &after), Sent { fast: 1, slow: 2 });
    }

    #[test]
    fn nearly_all_is_enough_and_not_less() {
        assert!(Sent { fast: 1000, slow: 4 }.is_fast(1000));
        assert!(!Sent { fast: 1000, slow: 40 }.is_fast(1000), "too many were slow");
        assert!(!Sent { fast: 900, slow: 0 }.is_fast(1000), "some were not counted at all");
        assert!(Sent { fast: 100, slow: 4 }.is_fast(100), "ARP, in a short slice");
        assert!(!Sent { fast: 0, slow: 0 }.is_fast(2));
        assert!(!Sent { fast: 1, slow: 7 }.is_fast(1));
    }
}
