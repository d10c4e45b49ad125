//! Measures a lab.

use std::time::Duration;

use super::{
    cases::{self, Wish},
    cpus::Cpus,
    endpoints::{self, placement},
    error::Error,
    executor::Bench,
    machine::Machine,
    mode::Mode,
    programs, reliability,
    report::Report,
    schedule::{self, Progress, Schedule},
    selection::{self, AtBridge, Selection},
    summary,
    temporary_lab::TemporaryLab,
    warning::Warning,
    workload::Spec,
    xdp::Beside,
};
use crate::{
    datapath::LabPrograms,
    kernel::process::interrupted,
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
    /// The bridge whose guest ports are measured, instead of the lab's own pairs.
    pub bridge: Option<AtBridge>,
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
    selection: Selection,
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
        let cases = cases::cases(&request.wish, endpoints::cpus().len())?;
        let directory = Directory::of(lab);
        let lock = LabLock::wait(&directory, waiting).await?;
        // The previous lock holder may have changed the lab or removed it.
        let Some(record) = Record::read(&directory)? else {
            directory.remove_empty();
            return Err(Error::NoLab(lab.clone()));
        };
        mend(&record, &directory).await?;
        let selection = match &request.bridge {
            Some(bridge) => selection::select_guests(&record.topology, bridge, &directory).await?,
            None => selection::select(&record.topology, request.between.as_ref(), &directory)?,
        };
        Ok(Self { record, directory, selection, cases, _lock: lock })
    }

    /// The same path on XDP in a generated lab: with the same number of bridges in a row, the same MTU and the same
    /// address family. Other hosts are left out, since no frame on this path reaches them.
    ///
    /// # Errors
    /// There are more bridges on the path than a chain may have.
    pub fn on_xdp(&self) -> Result<TemporaryLab, Error> {
        let mtus = self.selection.sides().map(|side| side.mtu);
        let ipv6 = self.selection.from.address.is_ipv6();
        Ok(TemporaryLab::on_xdp(self.selection.bridges, mtus.into_iter().flatten().min(), ipv6)?)
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
    let Subject { record, directory, selection, cases, .. } = subject;
    let first = placement(cases[0].cores);
    let machine = Machine::read(selection, record.hook, first.from_cpu);
    let mut events = Recorder::of(directory);
    let mut rng = request.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
    let mut bench = tokio::select! {
        biased;
        () = interrupted() => return Err(Error::Interrupted),
        bench = Bench::open(record, directory, selection, cases, beside) => bench?,
    };
    let measuring = Measuring::start(directory).await?;
    events.record([Kind::BenchStarted]);
    let modes = bench.modes();
    let schedule = Schedule::fit(request.time, modes.len(), cases.len());
    let placements = cases.iter().map(|spec| placement(spec.cores));
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
    let mut warnings = reliability::of_host(selection, cases, &machine);
    if modes.contains(&Mode::Xdp) {
        warnings.push(Warning::SocketsOnXdp);
    }
    warnings.extend(reliability::of_run(selection, &rounds, cpus.used()));
    warnings.extend(restored?.into_iter().map(|(pair, reason)| Warning::NotArmedAgain { pair, reason }));
    Ok(summary::report(&record.topology.lab, selection, &rounds, machine, warnings))
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
