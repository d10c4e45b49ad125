//! Attaches programs again that a killed `bench` or another process has detached.

use log::{info, warn};

use crate::{
    datapath::{Hook, LabPrograms},
    state::{self, Directory, LabLock, Measuring, events::Kind},
    topology::Topology,
};

use super::{Error, bridge_netns::BridgeNetns};

/// Attaches the lab's programs if a `bench` was killed while they may have been detached. If another command holds
/// the lab's lock, nothing is done: the next tick repairs it, unless that command does.
#[must_use]
pub fn after_killed_bench(directory: &Directory, topology: &Topology, hook: Hook) -> Option<Kind> {
    if !Measuring::was_killed(directory) {
        return None;
    }
    match attach(directory, topology, hook) {
        Ok(0) | Err(Error::State(state::Error::Busy { .. })) => None,
        Ok(programs) => {
            info!("a bench was killed: {programs} programs are attached again");
            Some(Kind::BenchKilled { programs })
        }
        Err(error) => {
            warn!("cannot reattach programs after a killed bench: {error}");
            None
        }
    }
}

/// Attaches filters again that another process has removed, with or without their `clsact` qdisc. If another command holds the lab's
/// lock, nothing is done. (A tcx program is detached only with its link, which does not happen by mistake.)
#[must_use]
pub fn filters(directory: &Directory, topology: &Topology, domains: &mut [BridgeNetns]) -> Option<Kind> {
    if domains.iter().all(|domain| domain.removed_filters(topology).is_empty()) {
        return None;
    }
    let _lock = LabLock::acquire(directory).ok()?;
    let mut ports = Vec::new();
    for domain in domains {
        match domain.put_filters_back(topology) {
            Ok(attached) => ports.extend(attached.iter().map(ToString::to_string)),
            Err(error) => warn!("cannot reattach a program: {error}"),
        }
    }
    if ports.is_empty() {
        return None;
    }
    info!("program detached from {} by another process; reattached", ports.join(", "));
    Some(Kind::ProgramsPutBack { ports })
}

fn attach(directory: &Directory, topology: &Topology, hook: Hook) -> Result<usize, Error> {
    let _lock = LabLock::acquire(directory)?;
    // The former holder of the lock may have attached them.
    if !Measuring::was_killed(directory) {
        return Ok(0);
    }
    let attached = LabPrograms::of(topology, hook)?.attach()?;
    Measuring::is_mended(directory)?;
    Ok(attached.len())
}
