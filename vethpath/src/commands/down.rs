//! `vethpath down`.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt as _,
    process::Command,
};

use super::{Exit, Failure, failure::runtime, labs, up};
use crate::{
    apply::{self, Foreign},
    kernel::home::Intent,
    output::printable,
    topology::{LabName, Topology},
};

/// Takes down one lab, or all. An interrupt stops it at the current lab.
pub fn run(lab: Option<&str>, all: bool, foreign: Foreign) -> Result<Exit, Failure> {
    up::privileged()?;
    if !all {
        let (name, file) = labs::named(lab)?;
        labs::enter(&name, Intent::Change)?;
        return one(&name, file.as_ref(), foreign);
    }
    let (mut worst, mut names) = (Exit::Done, labs::names()?);
    loop {
        let (mut refused, all) = (Vec::new(), names.len());
        for name in names {
            let done =
                if labs::is_elsewhere(&name) { apart(&name, foreign) } else { one(&name, None, foreign) };
            match done {
                Ok(Exit::Done) => {}
                Ok(Exit::Interrupted) => return Ok(Exit::Interrupted),
                // The child process has printed the error.
                Ok(Exit::Request) => refused.push((name, None)),
                Ok(_) => worst = Exit::System,
                Err(failure) if failure.is_interruption() => return Err(failure),
                Err(failure) if failure.is_request() => refused.push((name, Some(failure))),
                Err(failure) => {
                    failure.report(&mut io::stderr().lock());
                    worst = Exit::System;
                }
            }
        }
        // A lab that another one depends on can be taken down after that one.
        if refused.is_empty() || refused.len() == all {
            for failure in refused.iter().filter_map(|(_, failure)| failure.as_ref()) {
                failure.report(&mut io::stderr().lock());
            }
            let is_worse = worst == Exit::Done && !refused.is_empty();
            return Ok(if is_worse { Exit::Request } else { worst });
        }
        names = refused.into_iter().map(|(name, _)| name).collect();
    }
}

/// Takes a lab down in a child process, which enters the lab's namespaces for good.
fn apart(name: &LabName, foreign: Foreign) -> Result<Exit, Failure> {
    let refused = |error: io::Error| Failure::system(format!("cannot run vethpath down {name}: {error}"));
    let mut down = Command::new("/proc/self/exe");
    let status =
        down.arg0("vethpath").args(["down", name.as_str()]).args(force(foreign)).status().map_err(refused)?;
    Ok(match status.code() {
        Some(0) => Exit::Done,
        Some(1) => Exit::Request,
        Some(130) => Exit::Interrupted,
        _ => Exit::System,
    })
}

fn force(foreign: Foreign) -> Option<&'static str> {
    (foreign == Foreign::CutOff).then_some("--force")
}

pub(super) fn one(name: &LabName, file: Option<&Topology>, foreign: Foreign) -> Result<Exit, Failure> {
    let left = match runtime()?.block_on(apply::down(name, file, foreign, up::report_busy)) {
        Ok(messages) => {
            // A closed stderr is ignored: the exit code reports the result.
            let _ = print_messages(name, &messages, &mut io::stderr().lock());
            return Ok(Exit::Done);
        }
        Err(left) => left,
    };
    match <[apply::Error; 1]>::try_from(left) {
        Ok([error]) => Err(error.into()),
        Err(left) => {
            let list: Vec<_> = left.iter().map(ToString::to_string).collect();
            Err(Failure::system(list.join("\n"))
                .hint("everything else is removed; `vethpath down` tries again"))
        }
    }
}

fn print_messages(name: &LabName, messages: &[String], err: &mut dyn Write) -> io::Result<()> {
    messages.iter().try_for_each(|message| writeln!(err, "warning: {}", printable(message)))?;
    writeln!(err, "lab {name} is down")
}
