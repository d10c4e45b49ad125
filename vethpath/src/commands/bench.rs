//! `vethpath bench`.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, Failure, failure::runtime, labs, up::privileged};
use crate::{
    apply,
    bench::{self, Cores, Own, Progress, Report, Request, Shape, Wish},
    cli::{BenchArgs, CoresArg},
    output::{bench as output, json},
    topology::{NameError, NsName},
};

/// Measures, and prints what was found.
pub fn run(arguments: &BenchArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    privileged()?;
    let report = runtime()?.block_on(measure(arguments))?;
    let printed = if arguments.json.json { json(&report, out) } else { output::text(&report, out) };
    printed.map_err(Failure::output)?;
    let _ = out.flush();
    let _ = output::warnings(&report, &mut io::stderr().lock());
    Ok(Exit::Done)
}

async fn measure(arguments: &BenchArgs) -> Result<Report, Failure> {
    let request = Request {
        between: between(arguments)?,
        wish: wish(arguments),
        time: Duration::from_secs(arguments.seconds),
        seed: arguments.seed,
    };
    match shape(arguments) {
        None => {
            let record = labs::record(arguments.lab.lab.as_deref())?;
            Ok(with_progress(async |progress| bench::run(&record, &request, progress).await).await?)
        }
        Some(shape) => on_own_lab(shape, request).await,
    }
}

/// Brings a lab up, measures it and takes it down, whatever happens meanwhile.
async fn on_own_lab(shape: Shape, request: Request) -> Result<Report, Failure> {
    let Own { topology, between } = Own::of(shape)?;
    let request = Request { between: Some(between), ..request };
    // From now on a closed terminal ends nothing half done.
    let _hangup = signal(SignalKind::hangup()).map_err(|error| Failure::system(error.to_string()))?;
    let _ = apply::up(&topology, apply::Options::default()).await?;
    let measured = match labs::record_of(&topology.lab) {
        Ok(record) => with_progress(async |progress| bench::run(&record, &request, progress).await).await,
        Err(failure) => Err(failure),
    };
    match apply::down(&topology.lab, Some(&topology)).await {
        Ok(()) => measured,
        Err(left) => {
            let left: Vec<_> = left.iter().map(ToString::to_string).collect();
            let hint = format!("`vethpath down {}` tries again", topology.lab);
            Err(Failure::system(left.join("\n")).hint(hint))
        }
    }
}

/// Shows on a terminal what is going on.
async fn with_progress(
    run: impl AsyncFnOnce(&mut dyn FnMut(Progress)) -> Result<Report, bench::Error>,
) -> Result<Report, Failure> {
    let terminal = io::stderr().is_terminal();
    let mut progress = |progress: Progress| {
        if terminal {
            // A terminal that is gone takes nothing away from the figures.
            let _ = output::progress(progress, &mut io::stderr().lock());
        }
    };
    let done = run(&mut progress).await;
    if terminal {
        let _ = output::no_progress(&mut io::stderr().lock());
    }
    Ok(done?)
}

fn shape(arguments: &BenchArgs) -> Option<Shape> {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let chain = arguments.chain.map(|bridges| Shape::Chain(number(bridges)));
    chain.or_else(|| arguments.hosts.map(|hosts| Shape::Hosts(number(hosts))))
}

fn wish(arguments: &BenchArgs) -> Wish {
    let BenchArgs { work, all, size, wait, cores, .. } = arguments;
    let cores = match cores {
        None => vec![],
        Some(CoresArg::Same) => vec![Cores::Same],
        Some(CoresArg::Cross) => vec![Cores::Cross],
        Some(CoresArg::Both) => vec![Cores::Same, Cores::Cross],
    };
    let sizes = size.iter().map(|&size| usize::try_from(size).unwrap_or(usize::MAX)).collect();
    Wish { work: work.clone(), all: *all, sizes, waits: wait.clone(), cores }
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
