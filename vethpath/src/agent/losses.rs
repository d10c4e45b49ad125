//! Noticing that redirected frames do not arrive: a redirect fails after the program has returned,
//! without a word, so what was redirected is compared with what the inner end received.

use std::collections::BTreeMap;

/// How many looks in a row must show a loss before a pair is disarmed.
const STRIKES: u32 = 3;

/// The history of one lab's pairs.
#[derive(Default)]
pub struct Losses {
    pairs: BTreeMap<u32, Pair>,
}

struct Pair {
    inner: u32,
    redirected: u64,
    received: u64,
    strikes: u32,
}

impl Losses {
    /// Takes in two counters of a pair: frames redirected to it, and frames that its inner end
    /// (by ifindex) received, read later than the first. Returns whether the pair is losing.
    ///
    /// A pair stays so until it has another inner end: it would not lose while it is disarmed.
    pub fn note(&mut self, pair: u32, inner: u32, redirected: u64, received: u64) -> bool {
        let fresh = || Pair { inner, redirected, received, strikes: 0 };
        let history = self.pairs.entry(pair).or_insert_with(fresh);
        if history.inner != inner {
            *history = fresh();
        }
        if history.strikes >= STRIKES {
            return true;
        }
        let sent = redirected.saturating_sub(history.redirected);
        let arrived = received.saturating_sub(history.received);
        history.strikes = if sent > arrived { history.strikes + 1 } else { 0 };
        (history.redirected, history.received) = (redirected, received);
        history.strikes >= STRIKES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_difference_counts_and_a_passing_one_does_not() {
        let mut losses = Losses::default();
        assert!(!losses.note(1, 7, 100, 50), "what was before is not our affair");
        assert!(!losses.note(1, 7, 110, 55));
        assert!(!losses.note(1, 7, 120, 65), "all arrived this time");
        assert!(!losses.note(1, 7, 130, 65));
        assert!(!losses.note(1, 7, 140, 65));
        assert!(losses.note(1, 7, 150, 65), "three times in a row");
        assert!(losses.note(1, 7, 150, 65), "and it stays so");
        assert!(!losses.note(1, 8, 150, 65), "another inner end starts anew");
    }
}
