//! Compares a cable, the plain bridge, the fast path and XDP, in interleaved slices.
//!
//! Data flow: `choose` selects two ends and `cases` their work (both pure). `schedule` runs rounds of slices in random
//! order. `modes` sets up each path and verifies it by the programs' counters. `load` measures with a thread or a
//! process in each namespace. `tally` sums up each case with `vethpath_figures` (both pure) into a [`Report`], which `output`
//! renders.

mod cable;
mod cases;
mod choose;
mod compare;
mod cpus;
mod distribution;
mod end;
mod error;
mod load;
mod machine;
mod measured;
mod modes;
mod programs;
mod report;
#[cfg(test)]
pub(crate) mod samples;
mod schedule;
mod site;
mod summary;
mod tally;
mod temporary_lab;
mod warnings;
mod watched;
mod work;
mod xdp;

use std::time::Duration;

pub use cases::Wish;
pub use compare::{Change, Compared, Comparison, Difference, Verdict};
pub use distribution::Distribution;
pub use error::Error;
pub use load::Peer;
pub use machine::Machine;
pub use modes::Mode;
pub use report::{Case, Caveat, Ended, PerMode, Placement, Rate, Report, Results, VERSION, Why};
pub use schedule::Progress;
pub use temporary_lab::{Shape, TemporaryLab};
pub use vethpath_figures::statistics::Interval;
pub use warnings::Warning;
pub use work::{Better, Cores, Spec, Unit, Wait, Work};
pub use xdp::Beside;

use self::{choose::Chosen, cpus::Cpus, modes::Bench, schedule::Schedule};
use crate::{
    datapath::LabPrograms,
    kernel::signals::interrupted,
    state::{
        self, Directory, LabLock, Measuring, Record,
        events::{Kind, Recorder},
    },
    topology::{LabName, NsName},
};

/// What the user wants measured.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The client and server namespaces; `None` selects them.
    pub between: Option<(NsName, NsName)>,
    /// Which cases.
    pub wish: Wish,
    /// The time limit, including the time between slices.
    pub time: Duration,
    /// Seed of the random order; `None` draws one.
    pub seed: Option<u64>,
}

/// A locked lab, and the two pairs to measure.
pub struct Subject {
    record: Record,
    directory: Directory,
    chosen: Chosen,
    cases: Vec<Spec>,
    _lock: LabLock,
}

impl Subject {
    /// Locks the lab and selects the pairs. Restores what a killed run has left behind. While another process
    /// holds the lock, `waiting` gets the error that names it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn of(lab: &LabName, request: &Request, waiting: fn(&state::Error)) -> Result<Self, Error> {
        let cases = cases::cases(&request.wish, end::cpus().len())?;
        let directory = Directory::of(lab);
        let lock = LabLock::wait(&directory, waiting).await?;
        // The previous lock holder may have changed the lab or removed it.
        let Some(record) = Record::read(&directory)? else {
            directory.remove_empty();
            return Err(Error::NoLab(lab.clone()));
        };
        mend(&record, &directory).await?;
        let chosen = choose::choose(&record.topology, request.between.as_ref(), &directory)?;
        Ok(Self { record, directory, chosen, cases, _lock: lock })
    }

    /// The generated lab with the same path on XDP.
    ///
    /// # Errors
    /// There are more bridges on the path than a chain may have.
    pub fn on_xdp(&self) -> Result<TemporaryLab, Error> {
        TemporaryLab::on_xdp(&self.chosen)
    }
}

/// Measures the lab and, if given, the lab `beside` it. The lab's programs are attached again in all cases; after
/// SIGKILL the lab's agent attaches them.
///
/// # Errors
/// See [`Error`].
pub async fn run(
    subject: &Subject,
    beside: Option<Beside<'_>>,
    request: &Request,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, Error> {
    let Subject { record, directory, chosen, cases, .. } = subject;
    let first = site::placement(cases[0].cores);
    let machine = Machine::read(chosen, record.hook, first.from_cpu);
    let mut events = Recorder::of(directory);
    let mut rng = request.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
    let mut bench = tokio::select! {
        biased;
        () = interrupted() => return Err(Error::Interrupted),
        bench = Bench::prepare(subject, beside) => bench?,
    };
    let measuring = Measuring::begin(directory).await?;
    events.record([Kind::BenchStarted]);
    let modes = bench.modes();
    let schedule = Schedule::fit(request.time, modes.len(), cases.len());
    let placements = cases.iter().map(|spec| site::placement(spec.cores));
    let cpus = Cpus::start(placements.flat_map(|at| [at.from_cpu, at.to_cpu]).collect());
    let rounds = tokio::select! {
        biased;
        () = interrupted() => Err(Error::Interrupted),
        rounds = schedule::run(&mut bench, schedule, &modes, cases, &mut rng, progress) => rounds,
    };
    // No traffic is sent while the programs are attached again.
    bench.close();
    let restored = bench.programs.restore().await;
    events.record([Kind::BenchEnded]);
    if restored.is_ok() {
        measuring.end(directory)?;
    }
    let rounds = rounds?;
    let mut warnings = warnings::of_host(chosen, cases, &machine);
    if modes.contains(&Mode::Xdp) {
        warnings.push(Warning::SocketsOnXdp);
    }
    warnings.extend(warnings::of_run(chosen, &rounds, cpus.used()));
    warnings.extend(restored?.into_iter().map(|(pair, reason)| Warning::NotArmedAgain { pair, reason }));
    Ok(summary::report(&record.topology.lab, chosen, &rounds, machine, warnings))
}

/// Restores what a killed run has detached, unless the agent has already done so.
async fn mend(record: &Record, directory: &Directory) -> Result<(), Error> {
    if Measuring::was_killed(directory) {
        LabPrograms::of(&record.topology, record.hook)?.attach()?;
        Measuring::is_mended(directory)?;
        let _ = programs::resync_agent(directory).await;
    }
    Ok(())
}
