//! The time table of a run.

use std::time::{Duration, Instant};

use super::{runner::Outcome, seconds};
use crate::tools::say;

/// How many tests are listed.
const SLOWEST: usize = 20;

/// The duration of each stage and integration test.
pub(super) struct Times {
    begun: Instant,
    stages: Vec<(&'static str, Duration)>,
    pub(super) tests: Vec<Outcome>,
}

impl Default for Times {
    fn default() -> Self {
        Self { begun: Instant::now(), stages: Vec::new(), tests: Vec::new() }
    }
}

impl Times {
    /// Runs a stage and records its duration.
    pub(super) fn stage<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        self.add_stage(name, begun.elapsed());
        done
    }

    pub(super) fn add_stage(&mut self, name: &'static str, time: Duration) {
        self.stages.push((name, time));
    }

    /// The time since the start.
    pub(super) fn total(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Prints a table of the stages and of the slowest tests.
    pub(super) fn show(&self) {
        say("\nstages:");
        for (name, time) in &self.stages {
            say(&format!("{:>10}  {name}", seconds(*time)));
        }
        let mut tests: Vec<_> = self.tests.iter().collect();
        tests.sort_by_key(|test| std::cmp::Reverse(test.time));
        if !tests.is_empty() {
            let sum: Duration = tests.iter().map(|test| test.time).sum();
            say(&format!("slowest of {} integration tests ({} in all):", tests.len(), seconds(sum)));
        }
        for test in tests.into_iter().take(SLOWEST) {
            say(&format!("{:>10}  {}", seconds(test.time), test.name));
        }
    }
}
