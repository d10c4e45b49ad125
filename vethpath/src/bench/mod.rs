//! Measuring what goes over a cable, the plain bridge and the fast path, and by XDP, in turns.
//!
//! Data flow: `choose` two ends and `cases` what they do (both pure) -> rounds of slices in random order
//! (`schedule`) that `modes` prepares and checks by the programs' counters, and `load` measures with a
//! thread or a process in each namespace -> a `tally` of each case with `statistics` (both
//! pure) -> [`Report`], which `output` renders.

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
mod own;
mod programs;
mod report;
#[cfg(test)]
pub(crate) mod samples;
mod schedule;
mod site;
mod statistics;
mod summary;
mod tally;
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
pub use own::{Own, Shape};
pub use report::{Case, Caveat, Ended, PerMode, Placement, Rate, Report, Results, VERSION, Why};
pub use schedule::Progress;
pub use statistics::Interval;
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
    /// The namespaces that ask and answer; `None` chooses them.
    pub between: Option<(NsName, NsName)>,
    /// Which cases.
    pub wish: Wish,
    /// How long to measure at most, with what is between slices.
    pub time: Duration,
    /// Of the random order; `None` draws one.
    pub seed: Option<u64>,
}

/// A lab that is locked, and the two in it that are to be measured.
pub struct Subject {
    record: Record,
    directory: Directory,
    chosen: Chosen,
    cases: Vec<Spec>,
    _lock: LabLock,
}

impl Subject {
    /// Locks the lab and chooses the two. What a killed run has left behind is put right. `waiting` is told who is at
    /// work on the lab, if that is waited for.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn of(lab: &LabName, request: &Request, waiting: fn(&state::Error)) -> Result<Self, Error> {
        let cases = cases::cases(&request.wish, end::cpus().len())?;
        let directory = Directory::of(lab);
        let lock = LabLock::wait(&directory, waiting).await?;
        // Only now: whoever was waited for may have changed the lab, or taken it down.
        let Some(record) = Record::read(&directory)? else {
            directory.remove_empty();
            return Err(Error::NoLab(lab.clone()));
        };
        mend(&record, &directory).await?;
        let chosen = choose::choose(&record.topology, request.between.as_ref(), &directory)?;
        Ok(Self { record, directory, chosen, cases, _lock: lock })
    }

    /// The lab in which the same way is on XDP.
    ///
    /// # Errors
    /// There are too many bridges on the way.
    pub fn on_xdp(&self) -> Result<Own, Error> {
        Own::on_xdp(&self.chosen)
    }
}

/// Measures, and what lies `beside` too. The lab's programs are attached again whatever happens; after
/// SIGKILL the lab's agent does it.
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
    let machine = Machine::look(chosen, record.hook, first.from_cpu);
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
    // Nobody sends anything while they are put back.
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

/// Puts back what a killed run has taken off, if the agent has not yet.
async fn mend(record: &Record, directory: &Directory) -> Result<(), Error> {
    if Measuring::was_killed(directory) {
        LabPrograms::of(&record.topology, record.hook)?.attach()?;
        Measuring::is_mended(directory)?;
        let _ = programs::look(directory).await;
    }
    Ok(())
}
