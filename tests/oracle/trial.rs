//! Many scripts, until one shows a difference, which is then made as short as it can be.

use std::{cell::RefCell, env};

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

use super::{
    generate::{LONGEST, scripts},
    run::{Run, Tally},
    step::{Step, script},
};

/// A script that shows a difference.
pub(crate) struct Found {
    pub(crate) script: Vec<Step>,
    pub(crate) difference: String,
    seed: u64,
}

/// How many steps, if `VETHPATH_ORACLE_STEPS` does not say.
pub(crate) fn steps(default: u64) -> u64 {
    number("VETHPATH_ORACLE_STEPS").unwrap_or(default)
}

/// The seed, if `VETHPATH_ORACLE_SEED` does not say.
pub(crate) fn seed(default: u64) -> u64 {
    number("VETHPATH_ORACLE_SEED").unwrap_or(default)
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// Takes scripts of `seed` until this many steps are taken, or one shows a difference.
pub(crate) fn try_steps(run: &mut Run, steps: u64, seed: u64) -> Result<Tally, Found> {
    let strategy = scripts(run.names().ends.len(), run.names().ports.len());
    run.tally = Tally::default();
    let run = RefCell::new(run);
    let enough = |run: &Run| run.tally.steps >= steps;
    let config = Config {
        // The shortest script has one step: there are enough cases for sure.
        cases: u32::try_from(steps).expect("fewer than 2^32"),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 400,
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
            "{difference}\nVETHPATH_ORACLE_SEED={seed}, at most {LONGEST} steps; made short:\n{}",
            script(steps)
        )
    }
}
