//! `cargo xtask setup`: reports and installs missing requirements.

mod probe;
mod requirements;
mod steps;

use crate::{
    error::Error,
    tools::{self, command, say, wait},
};

pub(crate) use requirements::Need;
use requirements::{REQUIREMENTS, Requirement};
use steps::{Host, Step};

/// Installs all requirements of `needs`, or returns instructions to do it by hand.
pub(crate) fn run(needs: &[Need]) -> Result<(), Error> {
    let wanted: Vec<_> = REQUIREMENTS.iter().filter(|requirement| requirement.serves(needs)).collect();
    let missing: Vec<_> =
        wanted.iter().copied().filter(|requirement| requirement.probe.shortfall().is_some()).collect();
    if missing.is_empty() {
        say(&format!("setup: ok ({})", names(&wanted)));
        return Ok(());
    }
    let plan = steps::plan(&missing, Host::this());
    for step in &plan.steps {
        perform(step)?;
    }
    if let Some(refusal) = plan.refusal {
        return Err(refusal);
    }
    for one in &missing {
        if let Some(found) = one.probe.shortfall() {
            return Err(Error::NotFound { name: one.name, found });
        }
    }
    say(&format!("setup: ok, installed {}", names(&missing)));
    Ok(())
}

/// Prints a step and runs it.
fn perform(step: &Step<'_>) -> Result<(), Error> {
    let line = step.command.join(" ");
    match step.serves.as_slice() {
        [] => say(&format!("setup: running `{line}`")),
        [one] => say(&format!("setup: installing {}: needed {}: running `{line}`", one.name, one.why)),
        several => {
            for one in several {
                say(&format!("setup: installing {}: needed {}", one.name, one.why));
            }
            say(&format!("setup: running `{line}`"));
        }
    }
    let [program, args @ ..] = step.command.as_slice() else { return Ok(()) };
    let mut install = if *program == "cargo" { tools::cargo() } else { command(program) };
    // The installation must not prompt, and `cargo install` must not use our target folder.
    install.args(args).env("DEBIAN_FRONTEND", "noninteractive").env_remove("CARGO_TARGET_DIR");
    install.current_dir(tools::root());
    match wait(&mut install) {
        Err(error) if step.may_fail => {
            say(&format!("setup: {error}; going on with what is there"));
            Ok(())
        }
        done => done.map_err(|error| Error::Install { names: names(&step.serves), source: Box::new(error) }),
    }
}

/// The names of requirements, comma-separated.
fn names(requirements: &[&Requirement]) -> String {
    requirements.iter().map(|requirement| requirement.name).collect::<Vec<_>>().join(", ")
}
