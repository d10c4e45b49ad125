//! Runs scripts until one shows a difference, and then shrinks that one.

use std::{cell::RefCell, env};

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

use super::{
    generate::{LONGEST, scripts},
    run::{Run, Tally},
    step::{Step, script},
};
use crate::harness::sized;

/// A script that shows a difference.
pub(crate) struct Found {
    pub(crate) script: Vec<Step>,
    pub(crate) difference: String,
    seed: u64,
}

/// The number of steps: `VETHPATH_ORACLE_STEPS`, or else that of the suite.
pub(crate) fn steps((short, long): (u64, u64)) -> u64 {
    const VARIABLE: &str = "VETHPATH_ORACLE_STEPS";
    let Ok(text) = env::var(VARIABLE) else { return sized(short, long) };
    text.parse().unwrap_or_else(|_| panic!("{VARIABLE} is a number, not {text:?}"))
}

/// Runs scripts of `seed` until this many steps have run or one shows a difference.
pub(crate) fn try_steps(run: &mut Run, steps: u64, seed: u64) -> Result<Tally, Found> {
    // Sabotage shows within a few steps, and a short script shrinks fast.
    let (longest, shrinks) = if run.is_sabotaged() { (12, 60) } else { (LONGEST, 400) };
    let strategy = scripts(run.names().ends.len(), run.names().ports.len(), longest);
    run.tally = Tally::default();
    let run = RefCell::new(run);
    let enough = |run: &Run| run.tally.steps >= steps;
    let config = Config {
        // The shortest script has one step, so this many cases always suffice.
        cases: u32::try_from(steps).expect("fewer than 2^32"),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: shrinks,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&strategy, |script| {
        let mut run = run.borrow_mut();
        if enough(&run) {
            return Ok(());
        }
        run.take(&script).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => Ok(run.into_inner().tally),
        Err(TestError::Fail(difference, script)) => {
            Err(Found { script, difference: difference.to_string(), seed })
        }
        Err(error) => panic!("{error}"),
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { script: steps, difference, seed } = self;
        write!(
            f,
            "{difference}\ngenerator seed {seed}, at most {LONGEST} steps; made short:\n{}",
            script(steps)
        )
    }
}
