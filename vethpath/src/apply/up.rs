//! Bringing a lab up, and making one that is up what its file says.

use std::pin::pin;

use tokio::signal::unix::{SignalKind, signal};

use super::{
    Error, Places, adopted, agent,
    converge::{Goal, converge},
    down,
    execute::Executor,
    nat, observe,
};
use crate::{
    agent::status::{self, Status},
    datapath::{Hook, Pins},
    kernel::{self, files},
    plan::{Change, plan},
    state::{
        AgentLock, Directory, History, Journal, LabLock, Record,
        events::{Kind, Recorder},
    },
    topology::{Datapath, IfName, Topology},
};

/// Choices of the user.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// How programs are attached; `None` is the best that the kernel has. A lab that is up keeps its own.
    pub hook: Option<Hook>,
    /// Is told how many steps of how many are done.
    pub progress: Option<fn(usize, usize)>,
}

/// What `up` has done.
#[derive(Debug)]
pub struct Outcome {
    /// What was changed; nothing if all was as the file says.
    pub changes: Vec<Change>,
    /// Ports that another program took off their bridges meanwhile, and that were put back.
    pub put_back: Vec<IfName>,
    /// What the agent says.
    pub status: Status,
}

/// Brings a lab up, or makes one that is up what the topology says. A failure, or Ctrl-C, goes back to
/// what the lab was; a second Ctrl-C stops that.
///
/// # Errors
/// See [`Error`].
pub async fn up(topology: &Topology, options: Options) -> Result<Outcome, Error> {
    files::allow_many();
    let directory = Directory::of(&topology.lab);
    directory.create()?;
    let _lock = LabLock::take(&directory)?;
    let mut places = Places::open()?;
    let history = History::read(&directory)?;
    let had_agent = AgentLock::holder(&directory)?.is_some();
    // A run that was killed before it wrote its record leaves an empty folder.
    let fresh = history.is_none() && !Pins::of(&topology.lab).directory().exists();
    let mut interrupt = pin!(interrupted());
    let prepared = tokio::select! {
        // First, or work that does not wait would begin before anybody listens.
        biased;
        () = &mut interrupt => Err(Error::Interrupted),
        prepared = prepare(topology, options, history.as_ref(), &mut places) => prepared,
    };
    let goal = match prepared {
        Ok(goal) => goal,
        Err(error) if fresh => {
            directory.remove()?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    if let Some(status) = goal.is_reached().filter(|_| is_settled(history.as_ref(), &goal.record)) {
        return Ok(Outcome { changes: Vec::new(), put_back: Vec::new(), status });
    }
    let journal = Journal::open(&directory, &goal.record)?;
    let mut executor = Executor::new(&topology.lab, &mut places, journal);
    let done = tokio::select! {
        biased;
        () = &mut interrupt => Err(Error::Interrupted),
        done = converge(&goal, &directory, &mut executor, options.progress) => done,
    };
    match done {
        Ok(outcome) => {
            if !outcome.changes.is_empty() {
                Recorder::of(&directory).record([Kind::LabUp { changes: outcome.changes.len() }]);
            }
            Ok(outcome)
        }
        Err(cause) => {
            let before = history.map(|history| history.record);
            let before = match before {
                _ if fresh => Before::Nothing,
                Some(record) => Before::Lab { record, had_agent },
                None => Before::Unknown,
            };
            Err(undo(cause, &mut executor, &goal, before, &directory).await)
        }
    }
}

/// What [`up`] would change, from what is there now. Changes nothing.
///
/// # Errors
/// See [`Error`].
pub async fn preview(topology: &Topology) -> Result<Vec<Change>, Error> {
    let directory = Directory::of(&topology.lab);
    let mut places = Places::open()?;
    let history = History::read(&directory)?;
    let goal = prepare(topology, Options::default(), history.as_ref(), &mut places).await?;
    let mut changes = goal.plan.changes();
    if goal.agent.is_none() {
        changes.push(Change::create("agent", &topology.lab));
    }
    Ok(changes)
}

/// Everything that can be found wrong before anything is changed.
async fn prepare(
    topology: &Topology,
    options: Options,
    history: Option<&History>,
    places: &mut Places,
) -> Result<Goal, Error> {
    if topology.pairs.iter().any(|pair| pair.datapath == Datapath::Xdp) {
        kernel::xdp::is_known().map_err(Error::NoXdp)?;
    }
    let former: Vec<Topology> = history.iter().flat_map(|history| history.topologies()).cloned().collect();
    let mut topology = topology.clone();
    topology.number(&former.iter().collect::<Vec<_>>());
    let hook = history.map(|history| history.record.hook);
    let observed = observe(&topology, &former, hook, places).await?;
    let plan = plan(&topology, &former, &observed).map_err(Error::Collisions)?;
    adopted::check(&plan)?;
    nat::check(&plan, &topology)?;
    let hook = hook.or(options.hook).unwrap_or_else(Hook::best);
    let agent = status::wait_for_answer(&Directory::of(&topology.lab)).await.ok();
    Ok(Goal { plan, record: Record::new(topology, hook), former, agent })
}

/// Whether the journal says of the lab that it is this, and nothing else.
fn is_settled(history: Option<&History>, record: &Record) -> bool {
    history.is_some_and(|history| history.former.is_empty() && &history.record == record)
}

/// What a run that failed goes back to.
enum Before {
    /// There was no lab.
    Nothing,
    /// There was something of which the journal is lost.
    Unknown,
    /// This was, or was to be, the lab.
    Lab {
        /// What it was.
        record: Record,
        /// Whether it had an agent, be it one that did not answer.
        had_agent: bool,
    },
}

/// Undoes a failed run: first what it has made, last first, then what it has changed.
async fn undo(
    cause: Error,
    executor: &mut Executor<'_>,
    goal: &Goal,
    before: Before,
    directory: &Directory,
) -> Error {
    let fresh = matches!(before, Before::Nothing);
    let work = async {
        let mut faults: Vec<String> = executor.undo().await.iter().map(ToString::to_string).collect();
        match before {
            Before::Nothing => {
                faults.extend(executor.end_agent(directory).await.err().map(|error| error.to_string()));
                let topologies = [goal.record.topology.clone()];
                let left = down::remove_lab(&topologies, directory).await;
                faults.extend(left.iter().map(ToString::to_string));
            }
            Before::Lab { record, .. } if record.topology != goal.record.topology => {
                faults
                    .extend(go_back(record, executor, directory).await.err().map(|error| error.to_string()));
            }
            // It may have been ended to be replaced. Where none comes up, another would not either.
            Before::Lab { had_agent: true, .. } if !matches!(cause, Error::Agent { .. }) => {
                faults.extend(agent::keep(directory).await.err().map(|error| error.to_string()));
            }
            Before::Lab { .. } | Before::Unknown => {}
        }
        faults
    };
    let faults = tokio::select! {
        biased;
        () = interrupted() => {
            let left = executor.left();
            let left = match &left[..] {
                [] if fresh => "the lab's agent, programs and state".to_owned(),
                [] => "changes of what was there".to_owned(),
                left => left.join(", "),
            };
            vec![format!("interrupted again, with this left: {left}")]
        }
        faults = work => faults,
    };
    if faults.is_empty() {
        cause
    } else {
        Error::NotUndone { cause: Box::new(cause), left: faults.join("; ") }
    }
}

/// Makes the lab what it was, as another `up` with its former file would.
async fn go_back(record: Record, executor: &mut Executor<'_>, directory: &Directory) -> Result<(), Error> {
    executor.end_agent(directory).await?;
    executor.journal = Journal::open(directory, &record)?;
    let history = History::read(directory)?;
    let former: Vec<Topology> = history.iter().flat_map(|history| history.topologies()).cloned().collect();
    let observed = observe(&record.topology, &former, Some(record.hook), executor.places).await?;
    let plan = plan(&record.topology, &former, &observed).map_err(Error::Collisions)?;
    let agent = status::wait_for_answer(directory).await.ok();
    let goal = Goal { plan, record, former, agent };
    converge(&goal, directory, executor, None).await.map(|_| ())
}

/// Returns at the next SIGINT or SIGTERM.
pub(super) async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
