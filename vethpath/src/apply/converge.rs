//! Runs a plan: steps, programs, agent. The journal then has only the new record.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use vethpath_common::NO_PAIR;

use super::{
    Error, agent as agents,
    announce::announce,
    execute::Executor,
    metrics::Metrics,
    namespaces, programs,
    seed_fdb::{Reattached, seed_fdb},
    xdp_offloads,
};
use crate::{
    agent::status::Status,
    datapath::{self, Counters, Pins},
    kernel::{LinkFacts, bpffs, netns},
    plan::{Change, Changes, Plan, ProgramStep},
    state::{self, AgentLock, Counts, Directory, Occupants, Record, Unseen, test_hooks},
    topology::{Bridge, Datapath, IfName, NsName, Place, Topology},
};

/// The wanted state of a lab, and the plan for it.
pub(super) struct Goal {
    /// The plan.
    pub(super) plan: Plan,
    /// The record of the wanted state.
    pub(super) record: Record,
    /// The former topologies, oldest first.
    pub(super) former: Vec<Topology>,
    /// The status of its agent, if it has one that replies.
    pub(super) agent: Option<Status>,
    /// Where its metrics are to be served.
    pub(super) metrics: Metrics,
    /// Whether the run before reached its end.
    pub(super) was_settled: bool,
    /// The namespaces that were left out, as their containers do not run.
    pub(super) left_out: BTreeSet<NsName>,
    /// The hosts that are stopped or started by this run.
    pub(super) switched: BTreeSet<NsName>,
}

impl Goal {
    /// The agent's status, if nothing at all has to be done.
    pub(super) fn is_reached(&self) -> Option<Status> {
        let topology = &self.record.topology;
        let has_all_pins = datapath::is_complete(&Pins::of(&topology.lab), &programs::copies(topology));
        let status = self.agent.as_ref().filter(|_| has_all_pins && self.plan.is_empty())?;
        let is_healthy = status.settled && status.steady && status.failure.is_none();
        let wants_xdp = topology.pairs.iter().any(|pair| pair.datapath == Datapath::Xdp);
        let has_missed = !status.xdp_missed.as_ref().is_some_and(BTreeSet::is_empty);
        let is_served = self.metrics.change.is_none();
        (is_healthy && is_served && !(wants_xdp && has_missed)).then(|| status.clone())
    }
}

/// The result of `up`.
#[derive(Debug)]
pub struct Outcome {
    /// The changes; none if the lab matched the file.
    pub changes: Changes,
    /// Ports that another program released from their bridges meanwhile, and that were enslaved again.
    pub reattached: Vec<IfName>,
    /// What could not be restored of what others had.
    pub warnings: Vec<String>,
    /// The agent's status.
    pub status: Status,
    /// The namespaces that were left out, as their containers do not run.
    pub left_out: BTreeSet<NsName>,
    /// The hosts that are stopped.
    pub stopped: BTreeSet<NsName>,
    /// The hosts that were stopped or started.
    pub switched: BTreeSet<NsName>,
}

/// Runs the plan. `progress` is called with the numbers of completed and of all steps.
///
/// # Errors
/// See [`Error`]. The caller must undo what had been done.
pub(super) async fn converge(
    goal: &Goal,
    directory: &Directory,
    executor: &mut Executor<'_>,
    progress: Option<fn(usize, usize)>,
) -> Result<Outcome, Error> {
    let Goal { plan, record, former, agent, .. } = goal;
    let (mut done, all) = (0, plan.len());
    let mut progress = |more: usize| {
        done += more;
        progress.into_iter().for_each(|report| report(done, all));
    };
    let topology = &record.topology;
    let with_guests = topology.bridges_with_guests();
    executor.bridges_with_guests =
        with_guests.map(|(place, bridge)| (place.clone(), bridge.clone())).collect();
    bpffs::ensure_mounted()?;
    if netns::mount_directory()? {
        state::record_netns_mount()?;
    }
    let mut changes = Changes::of(plan.clone());
    let has_agent = agent.is_some();
    if !has_agent {
        changes.push(Change::create("agent", &topology.lab));
    }
    changes.extend(goal.metrics.change.clone());
    // The agent takes the ports of a namespace without processes down. A port of the same name is about to lead to another
    // namespace, and must stay up.
    let mut occupants = Occupants::read(directory);
    occupants.0.retain(|name, _| !plan.make.iter().any(|step| step.adopts(name)));
    occupants.write(directory)?;
    let kept: Vec<Place> = topology.domains().into_iter().map(|(_, place)| place).collect();
    let released = programs::with_guests(former, &kept);
    executor.run_all(&plan.clear, &mut progress).await?;
    clear_counters(plan, topology, former)?;
    executor.run_all(&plan.make, &mut progress).await?;
    if !plan.clear.is_empty() || !plan.make.is_empty() {
        bridge_mtus(topology, executor).await?;
    }
    executor.journal.append("attach programs")?;
    let recreated = programs::ensure(record, former, executor).await?;
    let mut detached = Vec::new();
    for step in &plan.programs {
        executor.journal.append(&step.change().to_string())?;
        match step {
            ProgramStep::Detach { place, port } => {
                programs::detach(record, place, port, executor)?;
                detached.push((place, port));
            }
            ProgramStep::DetachXdp { place, port } => {
                programs::detach_xdp(record, place, port, executor).await?
            }
            ProgramStep::RestoreOffloads(found) => executor.restore_xdp(found).await?,
            // Done by `programs::ensure`, together with those of new ports.
            ProgramStep::Attach { .. } | ProgramStep::SetUpXdp(_) | ProgramStep::AttachXdp { .. } => {}
            // The agent reads the record below.
            ProgramStep::Guests { .. } => {}
        }
        progress(1);
    }
    programs::release(record, &detached, executor).await?;
    executor.run_all(&plan.raise, &mut progress).await?;
    executor.ask_for_links(&plan.last).await?;
    executor.run_all(&plan.last, &mut progress).await?;
    changes.extend(xdp_offloads::refresh_features(topology, executor).await?);
    test_hooks::wait_point("introduce").await;
    let mut reattached = Reattached::default();
    seed_fdb(topology, plan, executor.namespaces(), &mut reattached).await?;
    // Hosts of a new lab have no neighbour entries.
    if !former.is_empty() {
        announce(plan, executor.namespaces()).await?;
    }
    namespaces::occupants(topology, executor.namespaces())?.write(directory)?;
    let takes_over = !recreated && has_agent && agents::reload(directory, topology).await.is_ok();
    if !takes_over {
        // A stopped or hanging agent must not resume beside a new one. After new maps were made, a live agent still
        // writes to the old ones.
        executor.journal.append("start agent")?;
        AgentLock::terminate_holder(directory).await?;
        // The next one follows no ports there.
        programs::detach_guests(&topology.lab, &released).await?;
        test_hooks::wait_point("no-agent").await;
        executor.agent = Some(agents::start(directory)?);
    }
    test_hooks::wait_point("agent").await;
    let mut status = agents::wait_until_settled(directory, executor.agent.as_mut()).await?;
    while reattached.check_all(topology, plan, executor.namespaces()).await? {
        status = agents::wait_until_settled(directory, executor.agent.as_mut()).await?;
    }
    goal.metrics.ensure(directory, executor).await?;
    // The home is read again: this run may have mounted the bpffs.
    executor.journal.settle(&record.clone().here()?)?;
    let warnings = std::mem::take(&mut executor.warnings);
    let left_out = goal.left_out.clone();
    let (stopped, switched) = (topology.stopped_hosts(), goal.switched.clone());
    let reattached = reattached.ports();
    Ok(Outcome { changes, reattached, warnings, status, left_out, stopped, switched })
}

/// Clears the counters of new pairs. A recreated pair counts from zero, as its interfaces do, and its number may have
/// been another pair's. What other pairs sent to that one, or received from it, stays counted.
fn clear_counters(plan: &Plan, topology: &Topology, former: &[Topology]) -> Result<(), Error> {
    let pins = Pins::of(&topology.lab);
    let mut pairs: BTreeSet<u32> = plan.new_pairs().map(|pair| pair.number).collect();
    // Numbers that guest ports get for the first time may have been those of pairs.
    let new = topology.guests.filter(|_| former.iter().all(|lab| lab.guests.is_none()));
    pairs.extend(new.into_iter().flat_map(|range| range.former..=range.last()));
    let directory = Directory::of(&topology.lab);
    // An incomplete set of maps, as after a kill, is recreated later in this run.
    match datapath::is_complete(&pins, &[]) {
        true => Counts::move_away(&directory, &mut Counters::open(&pins)?, &pairs, NO_PAIR)?,
        false => Unseen::forget(&directory, &pairs)?,
    }
    Ok(())
}

/// Sets bridges to the MTU of the file where the kernel has changed it. Whenever a port is added or removed, the kernel
/// sets a bridge's MTU to the least of its ports', unless a different one was set explicitly before
/// (`br_mtu_auto_adjust` in net/bridge/br_if.c). Whether that is so cannot be read. An MTU equal to the least of the
/// ports is accepted.
async fn bridge_mtus(topology: &Topology, executor: &mut Executor<'_>) -> Result<(), Error> {
    let mut listed: BTreeMap<&Place, Vec<LinkFacts>> = BTreeMap::new();
    for (bridge, mtu) in topology.bridges.iter().filter_map(|bridge| Some((bridge, bridge.mtu?))) {
        let Bridge { place, name, .. } = bridge;
        let rtnl = executor.namespaces().get(place)?;
        let links = match listed.entry(place) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(rtnl.socket().links()?),
        };
        let Some(there) = links.iter().find(|link| link.name == name.as_str()) else { continue };
        let ports = links.iter().filter(|link| link.controller == Some(there.ifindex));
        if there.mtu != mtu && ports.map(|port| port.mtu).min() != Some(there.mtu) {
            executor.journal.append(&format!("keep mtu {place}:{name}: {} -> {mtu}", there.mtu))?;
            rtnl.set_mtu(there.ifindex, mtu, format_args!("{place}:{name}")).await?;
        }
    }
    Ok(())
}
