//! Brings a lab up, or changes one that is up to match its file.

use std::{collections::BTreeSet, pin::pin};

use super::{
    Error, NetnsCache, adopted, agent,
    converge::{Goal, Outcome, converge},
    down::{self, Target},
    execute::Executor,
    foreign::Doomed,
    metrics::Metrics,
    namespaces, nat, observe, subnets,
};
use crate::{
    agent::status,
    datapath::{self, Hook, Pins},
    kernel::{
        self, Adoptions,
        home::{self, Intent},
        netns,
        process::{self, interrupted},
    },
    plan::{Change, Changes, Observed, plan},
    state::{
        self, AdoptionLock, AgentLock, Directory, History, Journal, LabLock, Occupants, Record, Saved,
        events::{Kind, Recorder},
        test_hooks,
    },
    topology::{Adopt, Datapath, Namespace, NsName, Place, Topology, USUAL_SIZE},
};

/// Options of the user.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How programs are attached; `None` selects the best hook of the kernel. A lab that is up keeps its hook.
    pub hook: Option<Hook>,
    /// Called with the numbers of completed and of all steps.
    pub progress: Option<fn(usize, usize)>,
    /// Called with the error that names the lock's holder, if the lab's lock is waited for.
    pub waiting: Option<fn(&state::Error)>,
    /// Whether the lab must be up already: the calling thread was moved into its namespaces, or follows it. A lab that
    /// went down meanwhile is not created.
    pub is_known: bool,
    /// Hosts that are stopped or started. The lab is otherwise left as its record has it, whatever topology is given.
    pub switch: Option<Switch>,
}

/// Which hosts are stopped or started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Switch {
    /// These are stopped.
    Off(BTreeSet<NsName>),
    /// These are started.
    On(BTreeSet<NsName>),
}

/// Brings a lab up, or changes it to match the topology. A failure or Ctrl-C restores the former state. A second Ctrl-C
/// stops that.
///
/// The namespace of a container that is not among `adoptions` stays as it is if the lab has it, and is left out
/// otherwise.
///
/// # Errors
/// See [`Error`].
pub async fn up(topology: &Topology, adoptions: Adoptions, options: Options) -> Result<Outcome, Error> {
    process::raise_descriptor_limit();
    // Handlers are installed before anything is made: an unhandled interrupt would leave it.
    let mut interrupt = pin!(interrupted());
    let directory = Directory::of(&topology.lab);
    let _lock = tokio::select! {
        biased;
        () = &mut interrupt => return Err(Error::Interrupted),
        lock = LabLock::wait(&directory, options.waiting.unwrap_or(|_| ())) => lock?,
    };
    let opened = open_lab(&directory, adoptions).and_then(|opened| match &opened {
        (None, ..) if options.is_known => Err(Error::WentDown(topology.lab.clone())),
        _ => Ok(opened),
    });
    if opened.is_err() {
        // Only if nothing of the lab exists yet.
        directory.remove_empty();
    }
    let (history, mut places, had_agent) = opened?;
    // A run that was killed before it wrote its record leaves an empty folder.
    let fresh = history.is_none() && !Pins::of(&topology.lab).directory().exists();
    let prepared = tokio::select! {
        // Polled first: work that does not await would otherwise run before a pending interrupt is seen.
        biased;
        () = &mut interrupt => Err(Error::Interrupted),
        prepared = load(topology, &options, history.as_ref(), &mut places) => prepared,
    };
    let prepared = prepared.and_then(|goal| {
        goal.record.check_size()?;
        check_foreign(&goal)?;
        Ok(goal)
    });
    let goal = match prepared {
        Ok(goal) => goal,
        Err(error) if fresh => {
            directory.remove()?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    if let Some(status) = goal.is_reached().filter(|_| is_settled(history.as_ref(), &goal.record)) {
        namespaces::occupants(&goal.record.topology, &places)?.write(&directory)?;
        let (reattached, warnings) = (Vec::new(), Vec::new());
        let (left_out, stopped) = (goal.left_out, goal.record.topology.stopped_hosts());
        let (changes, switched) = (Changes::default(), BTreeSet::new());
        return Ok(Outcome { changes, reattached, warnings, status, left_out, stopped, switched });
    }
    let journal = match record(&goal, &directory).await {
        Ok(journal) => journal,
        Err(error) => {
            if fresh {
                directory.remove()?;
            }
            return Err(error);
        }
    };
    let mut executor = Executor::new(&topology.lab, &mut places, journal);
    let occupants = Occupants::read(&directory);
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
            Recorder::of(&directory).record(outcome.switched.iter().map(|host| {
                let namespace = host.to_string();
                match outcome.stopped.contains(host) {
                    true => Kind::HostStopped { namespace },
                    false => Kind::HostStarted { namespace },
                }
            }));
            Ok(outcome)
        }
        Err(cause) => {
            let before = history.map(|history| history.record);
            let before = match before {
                _ if fresh => Previous::Nothing,
                Some(record) => Previous::Lab { record: Box::new(record), had_agent },
                None => Previous::Unknown,
            };
            let error = undo(cause, &mut executor, &goal, before, &directory).await;
            if !fresh {
                // Namespaces that the lab has again have these. If that cannot be written, their end is not noticed.
                let mut now = Occupants::read(&directory);
                for (name, all) in occupants.0 {
                    let _ = now.0.entry(name).or_insert(all);
                }
                let _ = now.write(&directory);
            }
            Err(error)
        }
    }
}

/// Writes the record of what the lab is to be. No other lab can adopt its bridges since they were checked.
async fn record(goal: &Goal, directory: &Directory) -> Result<Journal, Error> {
    let record = &goal.record;
    test_hooks::wait_point("adopt").await;
    let _lock = match record.adopted.is_empty() {
        true => None,
        false => Some(AdoptionLock::wait(&record.topology.lab).await?),
    };
    adopted::check(&record.topology, &record.adopted)?;
    Ok(Journal::open(directory, record)?)
}

/// Reads the lab's history, opens connections, and checks for an agent. The caller holds the lab's lock.
fn open_lab(
    directory: &Directory,
    adoptions: Adoptions,
) -> Result<(Option<History>, NetnsCache, bool), Error> {
    let history = History::read(directory)?;
    check_place(history.as_ref(), directory)?;
    Ok((history, NetnsCache::with(adoptions)?, AgentLock::holder(directory)?.is_some()))
}

/// Fails if the lab lives in other namespaces, or if its mounts here would not last.
fn check_place(history: Option<&History>, directory: &Directory) -> Result<(), Error> {
    let Some(history) = history else {
        let is_transient = home::is_transient(directory.path());
        return if is_transient { Err(Error::Transient(directory.lab().clone())) } else { Ok(()) };
    };
    match Record::route(history.record.home.as_ref(), directory)? {
        Some(route) if !route.is_here() || route.obstacle(Intent::Change).is_some() => {
            Err(Error::Elsewhere { lab: directory.lab().clone(), obstacle: route.obstacle(Intent::Change) })
        }
        _ => Ok(()),
    }
}

/// The result of [`preview`].
#[derive(Debug)]
pub struct Preview {
    /// The changes that [`up`] would make.
    pub changes: Changes,
    /// The error with which it would fail.
    pub refusal: Option<Error>,
}

/// Computes what [`up`] would change in the present state. Changes nothing.
///
/// # Errors
/// See [`Error`].
pub async fn preview(topology: &Topology, adoptions: Adoptions) -> Result<Preview, Error> {
    let directory = Directory::of(&topology.lab);
    let history = History::read(&directory)?;
    check_place(history.as_ref(), &directory)?;
    let mut places = NetnsCache::with(adoptions)?;
    let goal = load(topology, &Options::default(), history.as_ref(), &mut places).await?;
    let refusal = goal.record.check_size().map_err(Error::from).and_then(|()| check_foreign(&goal)).err();
    let mut changes = Changes::of(goal.plan);
    if goal.agent.is_none() {
        changes.push(Change::create("agent", &topology.lab));
    }
    changes.extend(goal.metrics.change);
    Ok(Preview { changes, refusal })
}

/// Computes what is not as a lab's record says: the changes that [`up`] would make, as `plan` prints them, or what is in
/// their way. Changes nothing, and asks no agent.
///
/// # Errors
/// The state cannot be read.
pub async fn drift(record: &Record) -> Result<Vec<String>, Error> {
    let topology = &record.topology;
    let history = History::read(&Directory::of(&topology.lab))?;
    let former: Vec<Topology> = history.iter().flat_map(|history| history.topologies()).cloned().collect();
    let observed = observe(topology, &former, Some(record.hook), &mut NetnsCache::open()?).await?;
    Ok(match plan(topology, &former, &observed) {
        Ok(plan) => {
            Changes::of(plan).iter().map(|change| format!("{} {change}", change.action.sign())).collect()
        }
        Err(collisions) => collisions.iter().map(ToString::to_string).collect(),
    })
}

/// Reads the state, plans, and makes all checks that are possible before anything is changed.
async fn load(
    topology: &Topology,
    options: &Options,
    history: Option<&History>,
    places: &mut NetnsCache,
) -> Result<Goal, Error> {
    let as_recorded = history.filter(|_| options.switch.is_some()).map(|history| &history.record.topology);
    let topology = &as_recorded.unwrap_or(topology).clone().with_all_started();
    if topology.pairs.iter().any(|pair| pair.datapath == Datapath::Xdp) {
        kernel::xdp::is_known().map_err(Error::NoXdp)?;
    }
    let former: Vec<Topology> = history.iter().flat_map(|history| history.topologies()).cloned().collect();
    let left_out = not_running(topology, history, places.adoptions());
    let topology = topology.clone().without(&left_out);
    let (stopped, switched) = stopped(history, options.switch.as_ref(), &topology);
    let mut topology = topology.with_stopped(&stopped);
    let earlier: Vec<_> = former.iter().collect();
    topology.assign_ports(&earlier);
    topology.assign_numbers(&earlier);
    let hook = history.map(|history| history.record.hook);
    datapath::check_version(&Pins::of(&topology.lab))?;
    let adopted = adopted::bridges(&topology, places)?;
    let observed = observe(&topology, &former, hook, places).await?;
    check_sizes(&topology, &observed)?;
    let plan = plan(&topology, &former, &observed).map_err(Error::Collisions)?;
    if topology.uplink().is_some() {
        subnets::check_ipv6(places)?;
    }
    let saved = Saved::read(&Directory::of(&topology.lab))?;
    namespaces::check_adopted(&plan, &topology, &saved, places.adoptions())?;
    nat::check(&plan, &topology, places.adoptions())?;
    let hook = hook.or(options.hook).unwrap_or_else(Hook::best);
    // An agent of the former version may not understand the new record, so it is replaced.
    let is_former = history.is_some_and(|history| history.record.is_former());
    let agent = match is_former {
        true => None,
        false => status::wait_for_status(&Directory::of(&topology.lab)).await.ok(),
    };
    let metrics = Metrics::of(&topology).await?;
    let mut record = Record::new(topology, hook)?;
    record.adopted = adopted;
    let was_settled = observed.is_settled;
    Ok(Goal { plan, record, former, agent, metrics, was_settled, left_out, switched })
}

/// The hosts that are to be stopped, and those of them that are switched by this. A host stays as it was, until it is
/// switched, has become a namespace with bridges, or is no host of the lab any more.
fn stopped(
    history: Option<&History>,
    switch: Option<&Switch>,
    topology: &Topology,
) -> (BTreeSet<NsName>, BTreeSet<NsName>) {
    let before = history.map(|history| history.record.topology.stopped_hosts()).unwrap_or_default();
    let mut stopped = before.clone();
    match switch {
        Some(Switch::Off(hosts)) => stopped.extend(hosts.iter().cloned()),
        Some(Switch::On(hosts)) => stopped.retain(|host| !hosts.contains(host)),
        None => {}
    }
    let has_bridges = |host: &NsName| {
        topology.bridges.iter().any(|bridge| matches!(&bridge.place, Place::Namespace(name) if name == host))
    };
    let can_be = |namespace: &&Namespace| namespace.adopt.is_none() && !has_bridges(&namespace.name);
    let hosts: BTreeSet<_> = topology.namespaces.iter().filter(can_be).map(|it| it.name.clone()).collect();
    stopped.retain(|host| hosts.contains(host));
    let switched =
        before.symmetric_difference(&stopped).filter(|host| hosts.contains(host)).cloned().collect();
    (stopped, switched)
}

/// Fails if the kernel cannot have an offload size of the file: without this, it would leave out what it does not know. It
/// reports those that it knows of every device.
fn check_sizes(topology: &Topology, observed: &Observed) -> Result<(), Error> {
    let known = observed.link(&Place::Host, "lo").map(|lo| lo.sizes).unwrap_or_default();
    for sizes in topology.offload_sizes() {
        for ((key, wanted), (_, known_size)) in sizes.each().into_iter().zip(known.each()) {
            let Some(size) = wanted else { continue };
            // The large ones came together with that of GRO.
            let since = if key == "gso_ipv4_max_size" { "6.3" } else { "5.19" };
            if known_size.is_none() || size > USUAL_SIZE && known.gro.is_none() {
                return Err(Error::OffloadSize { key, size, since });
            }
        }
    }
    Ok(())
}

/// The namespaces of containers that were not found and that the lab has not adopted before.
fn not_running(topology: &Topology, history: Option<&History>, adoptions: &Adoptions) -> BTreeSet<NsName> {
    let has = |namespace: &Namespace| {
        let former = history.map_or(&[][..], |history| &history.record.topology.namespaces);
        let is_it = |one: &Namespace| one.name == namespace.name && one.adopt == namespace.adopt;
        former.iter().any(is_it) && netns::exists(&namespace.name)
    };
    let is_found = |namespace: &Namespace| {
        let container = namespace.adopt.as_ref().and_then(Adopt::container);
        container.is_none_or(|container| adoptions.have(container))
    };
    let missing = topology.namespaces.iter().filter(|namespace| !is_found(namespace) && !has(namespace));
    missing.map(|namespace| namespace.name.clone()).collect()
}

/// Fails if foreign devices depend on a bridge or a namespace that the plan deletes.
fn check_foreign(goal: &Goal) -> Result<(), Error> {
    let Goal { plan, record: Record { topology, .. }, former, .. } = goal;
    let (doomed, lab) = (Doomed::of_plan(plan), &topology.lab);
    let all: Vec<&Topology> = former.iter().chain([topology]).collect();
    doomed.check(lab, &all, &Saved::read(&Directory::of(lab))?)
}

/// Whether the journal has this record and no other.
fn is_settled(history: Option<&History>, record: &Record) -> bool {
    history.is_some_and(|history| history.former.is_empty() && &history.record == record)
}

/// The state that a failed run restores.
enum Previous {
    /// There was no lab.
    Nothing,
    /// There was something, but its journal is lost.
    Unknown,
    /// The lab was, or was becoming, this.
    Lab {
        /// Its record.
        record: Box<Record>,
        /// Whether it had an agent, even one that did not reply.
        had_agent: bool,
    },
}

/// Undoes a failed run: first removes what it has made in reverse order, then reverts its changes.
async fn undo(
    cause: Error,
    executor: &mut Executor<'_>,
    goal: &Goal,
    before: Previous,
    directory: &Directory,
) -> Error {
    let fresh = matches!(before, Previous::Nothing);
    let work = async {
        let mut faults: Vec<String> = executor.undo().await.iter().map(ToString::to_string).collect();
        match before {
            Previous::Nothing => {
                faults.extend(executor.end_daemons(directory).await.err().map(|error| error.to_string()));
                let doomed = Target {
                    lab: directory.lab(),
                    topologies: std::slice::from_ref(&goal.record.topology),
                    home: goal.record.home.as_ref(),
                    has_netns: true,
                    by_marks: false,
                    is_recorded: true,
                };
                let removed = down::remove_lab(&doomed, directory).await;
                faults.extend(removed.left.iter().map(ToString::to_string));
            }
            Previous::Lab { record, .. }
                if record.topology != goal.record.topology || goal.plan.leaves_a_namespace() =>
            {
                faults.extend(
                    roll_back(*record, goal.was_settled, executor, directory)
                        .await
                        .err()
                        .map(|error| error.to_string()),
                );
            }
            // It may have been ended to be replaced. If the failure is that none came up, another would not either.
            Previous::Lab { had_agent: true, .. } if !matches!(cause, Error::Agent { .. }) => {
                faults.extend(agent::ensure(directory).await.err().map(|error| error.to_string()));
            }
            Previous::Lab { .. } | Previous::Unknown => {}
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

/// Restores the lab as another `up` with its former file would. `was_settled`: whether that file's `up` had reached its
/// end.
async fn roll_back(
    record: Record,
    was_settled: bool,
    executor: &mut Executor<'_>,
    directory: &Directory,
) -> Result<(), Error> {
    executor.end_daemons(directory).await?;
    executor.namespaces.adoptions_mut().restore();
    executor.journal = Journal::open(directory, &record)?;
    let history = History::read(directory)?;
    let former: Vec<Topology> = history.iter().flat_map(|history| history.topologies()).cloned().collect();
    let mut observed = observe(&record.topology, &former, Some(record.hook), executor.namespaces).await?;
    observed.is_settled = was_settled;
    let plan = plan(&record.topology, &former, &observed).map_err(Error::Collisions)?;
    let agent = status::wait_for_status(directory).await.ok();
    let metrics = Metrics::of(&record.topology).await?;
    let goal = Goal {
        plan,
        record,
        former,
        agent,
        metrics,
        was_settled,
        left_out: BTreeSet::new(),
        switched: BTreeSet::new(),
    };
    converge(&goal, directory, executor, None).await.map(|_| ())
}
