//! Measuring round trips: over a cable, the plain bridge and the fast path, in turns.
//!
//! Data flow: `choose` two ends (pure) -> slices in random order (`schedule`) that `modes`
//! prepares and checks by the programs' counters, and `pingpong` measures -> `statistics` (pure)
//! -> [`Report`], which `output` renders. A further work load takes its place beside `pingpong`.

mod cable;
mod choose;
mod distribution;
mod end;
mod error;
mod machine;
mod modes;
mod pingpong;
mod programs;
mod report;
#[cfg(test)]
pub(crate) mod samples;
mod schedule;
mod statistics;
mod steal;
mod summary;
mod warnings;
mod work;

use std::time::Duration;

pub use distribution::Distribution;
pub use error::Error;
pub use machine::Machine;
pub use modes::Mode;
pub use report::{Case, Caveat, Ended, PerMode, Placement, Rate, Report, Results, VERSION, Why};
pub use schedule::Progress;
pub use statistics::Interval;
pub use warnings::Warning;
pub use work::{Better, Cores, Spec, Unit, Wait, Work};

use tokio::signal::unix::{SignalKind, signal};

use self::{modes::Bench, schedule::Schedule};
use crate::{
    state::{
        Directory, LabLock, Measuring, Record,
        events::{Kind, Recorder},
    },
    topology::NsName,
};

/// What the user wants measured.
#[derive(Clone, Debug)]
pub struct Request {
    /// The namespaces that ask and answer; `None` chooses them.
    pub between: Option<(NsName, NsName)>,
    /// How long to measure, all slices together.
    pub time: Duration,
}

/// Measures. The lab is locked meanwhile, and its programs are attached again whatever happens,
/// short of SIGKILL; then the next `up` attaches them.
///
/// # Errors
/// See [`Error`].
pub async fn run(
    record: &Record,
    request: &Request,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, Error> {
    let directory = Directory::of(&record.topology.lab);
    let _lock = LabLock::take(&directory)?;
    let chosen = choose::choose(&record.topology, request.between.as_ref(), &directory)?;
    let mut events = Recorder::of(&directory);
    let mut bench = Bench::prepare(record, &chosen, directory.clone()).await?;
    let measuring = Measuring::begin(&directory)?;
    events.record([Kind::BenchStarted]);
    let modes = bench.modes();
    let schedule = Schedule::fit(request.time, modes.len());
    let cpu = bench.cpu();
    let machine = Machine::look(&chosen, record.hook, cpu);
    let steal = steal::Steal::start(cpu);
    let mut rng = fastrand::Rng::new();
    let rounds = tokio::select! {
        biased;
        () = interrupted() => Err(Error::Interrupted),
        rounds = schedule::run(&mut bench, schedule, &modes, &mut rng, progress) => rounds,
    };
    let restored = bench.programs.restore().await;
    events.record([Kind::BenchEnded]);
    drop(measuring);
    let rounds = rounds?;
    let mut warnings = warnings::of_host(&chosen);
    warnings.extend(warnings::of_run(&chosen, &rounds, steal.percent()));
    warnings.extend(restored?.into_iter().map(|(pair, reason)| Warning::NotArmedAgain { pair, reason }));
    Ok(summary::report(&record.topology.lab, &chosen, &rounds, machine, cpu, warnings))
}

/// Returns at the next signal that would otherwise end the process and leave the programs off.
async fn interrupted() {
    let next = |kind| async move {
        match signal(kind) {
            Ok(mut signals) => signals.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = next(SignalKind::interrupt()) => {}
        _ = next(SignalKind::terminate()) => {}
        // The terminal was closed.
        _ = next(SignalKind::hangup()) => {}
    }
}
