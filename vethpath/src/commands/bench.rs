//! `vethpath bench`.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use super::{Exit, Failure, failure::runtime, labs, up::privileged};
use crate::{
    bench::{self, Progress, Request},
    cli::BenchArgs,
    output::{bench as output, json},
    topology::{NameError, NsName},
};

/// Measures, and prints what was found.
pub fn run(arguments: &BenchArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    privileged()?;
    let record = labs::record(arguments.lab.lab.as_deref())?;
    let request = Request { between: between(arguments)?, time: Duration::from_secs(arguments.seconds) };
    let terminal = io::stderr().is_terminal();
    let mut progress = |progress: Progress| {
        if terminal {
            // A terminal that is gone takes nothing away from the figures.
            let _ = output::progress(progress, &mut io::stderr().lock());
        }
    };
    let done = runtime()?.block_on(bench::run(&record, &request, &mut progress));
    if terminal {
        let _ = output::no_progress(&mut io::stderr().lock());
    }
    let report = done?;
    let printed = if arguments.json.json { json(&report, out) } else { output::text(&report, out) };
    printed.map_err(Failure::output)?;
    let _ = out.flush();
    let _ = output::warnings(&report, &mut io::stderr().lock());
    Ok(Exit::Done)
}

fn between(arguments: &BenchArgs) -> Result<Option<(NsName, NsName)>, Failure> {
    let name = |text: &String| {
        text.parse().map_err(|error: NameError| {
            Failure::request(error.to_string()).hint("`vethpath show` lists the lab's namespaces")
        })
    };
    match (&arguments.from, &arguments.to) {
        (Some(from), Some(to)) => Ok(Some((name(from)?, name(to)?))),
        _ => Ok(None),
    }
}

impl From<bench::Error> for Failure {
    fn from(error: bench::Error) -> Self {
        if matches!(error, bench::Error::Interrupted) {
            return Self::interrupted();
        }
        let message = error.to_string();
        let failure = if error.is_request() { Self::request(message) } else { Self::system(message) };
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
