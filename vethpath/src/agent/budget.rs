//! How long the agent may work before it rests.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

/// Work that takes longer is followed by a rest of the same length. Shorter than what a rest is rounded to.
pub const BURST: Duration = Duration::from_millis(2);

/// Waits until a time, and not at all if it has passed: tokio's timers count milliseconds, and round up.
pub async fn until(time: Instant) {
    if time > Instant::now() {
        sleep_until(time.into()).await;
    }
}

/// The work on events, which takes half of a CPU at most. During a rest, they wait in their sockets.
pub struct Budget {
    /// Work that no idle time has paid for.
    debt: Duration,
    spent_at: Instant,
    /// No events are received before that.
    pub rest_until: Instant,
}

impl Budget {
    /// A budget of which nothing is spent.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { debt: Duration::ZERO, spent_at: now, rest_until: now }
    }

    /// Counts work that has been done until `now`.
    pub fn spend(&mut self, work: Duration, now: Instant) {
        let idle = now.duration_since(self.spent_at).saturating_sub(work);
        self.spent_at = now;
        self.debt = (self.debt + work).saturating_sub(idle);
        if self.debt > BURST {
            self.rest_until = now + self.debt;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn short_work_needs_no_rest() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        for event in 1..100 {
            budget.spend(MS, start + event * 2 * MS);
        }
        assert_eq!(budget.rest_until, start, "half of the time is idle");
    }

    #[test]
    fn long_work_is_followed_by_a_rest_of_its_length() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        budget.spend(10 * MS, start + 10 * MS);
        assert_eq!(budget.rest_until, start + 20 * MS);
        budget.spend(MS, start + 21 * MS);
        assert_eq!(budget.rest_until, start + 20 * MS, "the rest has paid for it");
    }

    #[test]
    fn short_work_without_a_pause_adds_up() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        (1..=3).for_each(|event| budget.spend(MS, start + event * MS));
        assert_eq!(budget.rest_until, start + 6 * MS);
    }
}
