//! `cargo xtask test`: everything a change must pass, in the order of what fails fastest.

mod again;
mod backlog;
mod fuzz;
mod leftovers;
mod stage;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    error::Error,
    interrupt, setup,
    tools::{is_root, run as run_command, say},
};
use backlog::Backlog;
use leftovers::Snapshot;
pub(crate) use stage::Stage;

/// What to test.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run only this stage; may be given more than once
    #[arg(long, value_enum, value_name = "STAGE")]
    only: Vec<Stage>,
    /// Arguments for the test binaries, such as a test's name
    #[arg(last = true, value_name = "TEST ARGS")]
    test_args: Vec<String>,
}

/// Runs the stages until one fails.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let stages: Vec<_> = Stage::ALL.into_iter().filter(|stage| wanted(*stage, &args.only)).collect();
    if stages.contains(&Stage::Integration) && !is_root() {
        return Err(Error::NeedsRoot { chore: chore(args) });
    }
    let started = Instant::now();
    let mut needs = Vec::new();
    for stage in &stages {
        needs.extend_from_slice(stage.needs());
    }
    setup::run(&needs)?;
    // What is changed for the tests is put back after Ctrl-C, which ends them, too.
    interrupt::watch()?;
    let before = Snapshot::take();
    let mut alone = Vec::new();
    let result = run_stages(&stages, &args.test_args, &mut alone);
    let left = Snapshot::take().added_since(&before);
    let error = match result {
        Ok(()) if left.is_empty() => {
            let names = stages.iter().map(|stage| stage.name()).collect::<Vec<_>>().join(", ");
            say(&format!("\nall passed in {} ({names})", seconds(started.elapsed())));
            warn(&alone);
            return Ok(());
        }
        Ok(()) => Error::LeftBehind(left),
        Err(error) => {
            if !left.is_empty() {
                eprintln!("warning: {}", Error::LeftBehind(left));
            }
            error
        }
    };
    say(&format!("\nstopped after {}", seconds(started.elapsed())));
    warn(&alone);
    Err(error)
}

/// Names what a loaded machine has decided.
fn warn(alone: &[String]) {
    for test in alone {
        say(&format!("warning: {test} failed beside others and passed alone; what it said is above"));
    }
}

/// Whether a stage is asked for; all are if none is named.
fn wanted(stage: Stage, only: &[Stage]) -> bool {
    only.is_empty() || only.contains(&stage)
}

/// Runs the commands of each stage under its heading. Tests that passed only alone go to `alone`.
fn run_stages(stages: &[Stage], test_args: &[String], alone: &mut Vec<String>) -> Result<(), Error> {
    for (index, stage) in stages.iter().enumerate() {
        say(&format!("\n== {}/{} {}: {}", index + 1, stages.len(), stage.name(), stage.about()));
        let started = Instant::now();
        let _long = (*stage == Stage::Integration).then(Backlog::long);
        for mut command in stage.commands(test_args) {
            // Who names a test wants to see it fail.
            let done = if *stage == Stage::Integration && test_args.is_empty() {
                beside_others_or_alone(&mut command)
            } else {
                run_command(&mut command).map(|()| Vec::new())
            };
            if interrupt::seen() {
                return Err(Error::Interrupted);
            }
            alone
                .extend(done.map_err(|error| Error::Stage { stage: stage.name(), source: Box::new(error) })?);
        }
        say(&format!("-- {} ok in {}", stage.name(), seconds(started.elapsed())));
    }
    Ok(())
}

/// Runs the tests on real labs, and alone what few of them failed. Returns what passed only alone.
fn beside_others_or_alone(command: &mut Command) -> Result<Vec<String>, Error> {
    let failed = again::beside_others(command, say)?;
    if !failed.is_empty() {
        say(&format!("\nonce more, alone: {}", failed.join(", ")));
        again::alone(&mut stage::alone(&failed), &failed, say)?;
    }
    Ok(failed)
}

/// This chore as it was asked for, to be repeated as root.
fn chore(args: &Args) -> String {
    let mut words = vec!["test"];
    for stage in &args.only {
        words.extend(["--only", stage.name()]);
    }
    if !args.test_args.is_empty() {
        words.push("--");
        words.extend(args.test_args.iter().map(String::as_str));
    }
    words.join(" ")
}

/// A duration for people.
fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_choice_is_all_stages() {
        assert!(Stage::ALL.into_iter().all(|stage| wanted(stage, &[])));
        assert!(!wanted(Stage::Fmt, &[Stage::Unit, Stage::Doc]));
        assert!(wanted(Stage::Doc, &[Stage::Unit, Stage::Doc]));
    }

    #[test]
    fn the_way_to_root_repeats_the_request() {
        let test_args = vec!["roaming".to_owned()];
        let args = Args { only: vec![Stage::Unit, Stage::Integration], test_args };
        assert_eq!(chore(&args), "test --only unit --only integration -- roaming");
        assert_eq!(chore(&Args { only: Vec::new(), test_args: Vec::new() }), "test");
    }
}
