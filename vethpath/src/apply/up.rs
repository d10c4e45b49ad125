//! Bringing a lab up.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use tokio::signal::unix::{SignalKind, signal};
use vethpath_common::PortKey;

use super::{Error, Places, adopted, agent, down, execute::Executor, observe};
use crate::{
    agent::{
        counted_pairs, largest_segment,
        status::{self, Status},
    },
    datapath::{self, Hook, Maps, Pins, Sizes},
    kernel::{self, Direct, LinkFacts, PortAttribute, bpffs, files, grace::Expedited, netns, watch::Watch},
    plan::{Change, Plan, plan},
    state::{
        self, AgentLock, Directory, Journal, LabLock, Record,
        events::{Kind, Recorder},
    },
    topology::{IfName, Pair, Place, Topology},
};

/// How long ports may take until the bridge forwards to them.
const FORWARDING: Duration = Duration::from_secs(3);

/// Choices of the user.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// How programs are attached; `None` is the best that the kernel has.
    pub hook: Option<Hook>,
    /// Is told how many steps of how many are done.
    pub progress: Option<fn(usize, usize)>,
}

/// What `up` has done.
#[derive(Debug)]
pub struct Outcome {
    /// What was changed; nothing if all was as the file says.
    pub changes: Vec<Change>,
    /// What the agent says.
    pub status: Status,
}

/// Brings a lab up, or completes one that is up in part. A failure leaves what was there before.
///
/// # Errors
/// See [`Error`].
pub async fn up(topology: &Topology, options: Options) -> Result<Outcome, Error> {
    files::allow_many();
    let directory = Directory::of(&topology.lab);
    let fresh = !directory.exists();
    directory.create()?;
    let _lock = LabLock::take(&directory)?;
    let mut places = Places::open()?;
    let prepared = prepare(topology, options, &directory, &mut places).await;
    let (plan, record) = match prepared {
        Ok(prepared) => prepared,
        Err(error) if fresh => {
            directory.remove()?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    let journal = Journal::open(&directory, &record)?;
    let mut executor = Executor::new(&topology.lab, &mut places, journal);
    let done = tokio::select! {
        done = work(&plan, &record, &directory, &mut executor, options.progress) => done,
        () = interrupted() => Err(Error::Interrupted),
    };
    match done {
        Ok(outcome) => {
            if !outcome.changes.is_empty() {
                Recorder::of(&directory).record([Kind::LabUp { changes: outcome.changes.len() }]);
            }
            Ok(outcome)
        }
        Err(cause) => Err(undo(cause, executor, &record, &directory, fresh).await),
    }
}

/// What [`up`] would change, from what is there now. Changes nothing.
///
/// # Errors
/// See [`Error`].
pub async fn preview(topology: &Topology) -> Result<Vec<Change>, Error> {
    let directory = Directory::of(&topology.lab);
    let mut places = Places::open()?;
    let (plan, _) = prepare(topology, Options::default(), &directory, &mut places).await?;
    let mut changes: Vec<_> = plan.steps().map(crate::plan::Step::change).collect();
    if status::ask(&directory.socket()).is_err() {
        changes.push(Change { action: "create", kind: "agent", name: topology.lab.to_string() });
    }
    Ok(changes)
}

/// Everything that can be found wrong before anything is changed.
async fn prepare(
    topology: &Topology,
    options: Options,
    directory: &Directory,
    places: &mut Places,
) -> Result<(Plan, Record), Error> {
    let previous = Record::read(directory)?;
    if previous.as_ref().is_some_and(|previous| &previous.topology != topology) {
        return Err(Error::Changed(topology.lab.clone()));
    }
    let observed = observe(topology, places, previous.is_some()).await?;
    adopted::check(topology, &observed)?;
    let plan = plan(topology, &observed).map_err(Error::Collisions)?;
    let hook = || options.hook.unwrap_or_else(Hook::best);
    Ok((plan, previous.unwrap_or_else(|| Record::new(topology.clone(), hook()))))
}

async fn work(
    plan: &Plan,
    record: &Record,
    directory: &Directory,
    executor: &mut Executor<'_>,
    progress: Option<fn(usize, usize)>,
) -> Result<Outcome, Error> {
    let (mut done, all) = (0, plan.steps().count());
    let mut progress = |more: usize| {
        done += more;
        progress.into_iter().for_each(|tell| tell(done, all));
    };
    let topology = &record.topology;
    bpffs::prepare()?;
    if netns::prepare_directory()? {
        state::note_netns_mount()?;
    }
    let mut changes: Vec<_> = plan.steps().map(crate::plan::Step::change).collect();
    executor.run_all(&plan.make, &mut progress).await?;
    let (attached, anew) = attach(record, executor.places()).await?;
    changes.extend(attached.iter().map(|port| Change {
        action: "create",
        kind: "program",
        name: port.to_string(),
    }));
    executor.run_all(&plan.raise, &mut progress).await?;
    if plan.steps().next().is_some() {
        introduce(topology, executor.places()).await?;
    }
    let status = match status::ask(&directory.socket()) {
        // With maps made anew, an agent that lives still writes to the old ones.
        Ok(_) if !anew => {
            if !attached.is_empty() {
                // Programs were off, as after a killed `bench`. It would see by itself, a second later.
                let _ = status::look(directory).await;
            }
            agent::settled(directory, None).await?
        }
        _ => {
            // It may be stopped, or hang: then it must not come back to life beside a new one.
            AgentLock::end_holder(directory)?;
            changes.push(Change { action: "create", kind: "agent", name: topology.lab.to_string() });
            agent::settled(directory, Some(agent::start(directory)?)).await?
        }
    };
    Ok(Outcome { changes, status })
}

/// Loads the programs and attaches them to the ports that want them. Returns the ports that are news,
/// and whether the maps are.
async fn attach(record: &Record, places: &mut Places) -> Result<(Vec<IfName>, bool), Error> {
    let topology = &record.topology;
    let pins = Pins::of(&topology.lab);
    let domains = topology.domains();
    // A lab without bridges gets one copy too: its agent is like any other.
    let count = u32::try_from(domains.len().max(1)).unwrap_or(u32::MAX);
    let anew = datapath::load(&pins, count, Sizes::of(topology.pairs.len(), largest_segment(topology)))?;
    let mut maps = Maps::open(&pins)?;
    let mut news = Vec::new();
    for (domain, place) in (0..).zip(&domains) {
        let ports: Vec<_> = topology.ports_with_programs(place).collect();
        let rtnl = places.get(place)?;
        introduce_ports(topology, place, domain, &rtnl.links().await?, &mut maps)?;
        let _soon = Expedited::for_ports(ports.len());
        news.extend(datapath::attach(rtnl.netns(), &pins, domain, record.hook, &ports)?);
    }
    Ok((news, anew))
}

/// Makes the ports of a place known to its program before it is attached.
fn introduce_ports(
    topology: &Topology,
    place: &Place,
    domain: u32,
    links: &[LinkFacts],
    maps: &mut Maps,
) -> Result<(), datapath::Error> {
    let by_name: HashMap<&str, &LinkFacts> = links.iter().map(|link| (link.name.as_str(), link)).collect();
    for (counter, pair) in counted_pairs(topology).filter(|(_, pair)| &pair.place == place) {
        if let Some(link) = by_name.get(pair.port.as_str()) {
            let bridge = topology.bridge_number(place, &pair.bridge);
            maps.introduce(PortKey { ifindex: link.ifindex, domain }, counter, bridge)?;
        }
    }
    Ok(())
}

/// Waits until bridges forward to the ports that are up, and tells them the MACs that we assigned,
/// as if each host had sent a frame. Spanning tree takes its own time and is not waited for.
async fn introduce(topology: &Topology, places: &mut Places) -> Result<(), kernel::Error> {
    for place in topology.domains() {
        let rtnl = places.get(&place)?;
        let quick = |pair: &&Pair| {
            pair.place == place
                && pair.inner.up
                && topology.bridge(&place, &pair.bridge).is_some_and(|bridge| !bridge.stp)
        };
        let pairs: Vec<_> = topology.pairs.iter().filter(quick).collect();
        let mut waiting: BTreeSet<&str> = pairs.iter().map(|pair| pair.port.as_str()).collect();
        let mut watch = Watch::bridges(rtnl.netns())?;
        let deadline = Instant::now() + FORWARDING;
        let links = loop {
            let links = rtnl.links().await?;
            for link in &links {
                let attributes = link.port.iter().flatten();
                if attributes.into_iter().any(|a| *a == PortAttribute::State(FORWARDING_STATE)) {
                    waiting.remove(link.name.as_str());
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if waiting.is_empty() || left.is_zero() {
                break links;
            }
            // Whatever happens, or the deadline: look again.
            let _ = tokio::time::timeout(left, watch.next()).await;
        };
        let ports: HashMap<&str, u32> = links.iter().map(|link| (link.name.as_str(), link.ifindex)).collect();
        let station = |pair: &Pair| Some((*ports.get(pair.port.as_str())?, pair.inner.mac));
        let stations: Vec<_> = pairs.into_iter().filter_map(station).collect();
        Direct::open(rtnl.netns())?.learn(&stations)?.into_iter().collect::<Result<(), _>>()?;
    }
    Ok(())
}

/// `BR_STATE_FORWARDING`.
const FORWARDING_STATE: netlink_packet_route::link::BridgePortState =
    netlink_packet_route::link::BridgePortState::Forwarding;

/// Undoes a failed run. A lab that was not there before is removed wholly.
async fn undo(
    cause: Error,
    executor: Executor<'_>,
    record: &Record,
    directory: &Directory,
    fresh: bool,
) -> Error {
    let work = async {
        let mut faults: Vec<String> = executor.undo().await.iter().map(ToString::to_string).collect();
        if fresh {
            faults
                .extend(down::remove_lab(&record.topology, directory).await.iter().map(ToString::to_string));
        }
        faults
    };
    let faults = tokio::select! {
        faults = work => faults,
        () = interrupted() => vec!["interrupted again".to_owned()],
    };
    if faults.is_empty() {
        cause
    } else {
        Error::NotUndone { cause: Box::new(cause), left: faults.join("; ") }
    }
}

/// Returns at the next SIGINT or SIGTERM.
async fn interrupted() {
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
