//! A changed record: what stays of the lab is kept, what is new is opened, and the rest is released.

use std::{fs, os::unix::fs::MetadataExt};

use log::{info, warn};

use super::Agent;
use crate::{
    agent::{Error, bridge_netns::BridgeNetns, drops::MachineDrops},
    datapath::{self, Receivers},
    kernel::netns,
    state::{Directory, Record},
    topology::{Place, Topology},
};

impl Agent {
    /// Applies a changed record. What stays of the lab keeps its entries, its numbers and its lease.
    pub(super) async fn reload(&mut self) -> Result<(), Error> {
        let journal = version(&self.directory);
        if self.journal == journal {
            return Ok(());
        }
        let is_retry = std::mem::replace(&mut self.is_reloading, true);
        if let Some(record) = Record::read(&self.directory)? {
            self.apply_record(record, is_retry).await?;
        }
        // Only now: a reload that fails is repeated.
        (self.journal, self.is_reloading) = (journal, false);
        Ok(())
    }

    /// Applies a record. `is_retry`: an earlier attempt may have applied a part of it.
    async fn apply_record(&mut self, record: Record, is_retry: bool) -> Result<(), Error> {
        let Record { topology, hook, .. } = record;
        let is_followed = |(number, place): &(u16, Place)| {
            self.namespaces.iter().any(|domain| domain.is(*number, place) && !domain.is_gone())
        };
        // `up` may have made a deleted bridge namespace again.
        if !is_retry && topology == self.topology && topology.domains().iter().all(is_followed) {
            return Ok(());
        }
        self.guests.set_range(topology.guests);
        let mut known = std::mem::take(&mut self.namespaces);
        for (number, place) in topology.domains() {
            let at = known.iter().position(|domain| domain.is(number, &place) && !domain.is_gone());
            let receivers = Receivers::open(&self.pins, number.into())?;
            let domain = match at.map(|at| known.swap_remove(at)) {
                Some(mut domain) => {
                    domain.reload(&topology, receivers);
                    domain
                }
                // A missing namespace has no port. It is opened when `up` has made it.
                None if !netns::place_exists(&place) => continue,
                None => {
                    datapath::forward_log(&self.pins, number.into())?;
                    let (pins, harmless) = (&self.pins, &self.harmless);
                    let mut domain =
                        BridgeNetns::open(number, &place, &topology, pins, hook, receivers, harmless)?;
                    domain.read_dirty(&mut self.guests)?;
                    domain
                }
            };
            self.namespaces.push(domain);
        }
        // Bridges of theirs are no longer the lab's.
        known.iter_mut().for_each(|domain| domain.leave_guests(&mut self.guests));
        self.machine_drops = machine_drops(&topology);
        self.topology = topology;
        self.is_unwritten = true;
        // The bits in `seen` may stand for other bridges now.
        self.maps.next_epoch();
        info!("the lab has changed: {} pairs now", self.topology.pairs.len());
        Ok(())
    }
}

/// What the machine's rules drop. If that cannot be known, the lab works all the same.
pub(super) fn machine_drops(topology: &Topology) -> Option<MachineDrops> {
    let unknown = |error: &_| warn!("whether rules of the machine drop packets is unknown: {error}");
    MachineDrops::of(topology).inspect_err(unknown).ok().flatten()
}

/// Inode and length of the journal. It changes when the journal is appended to or replaced.
pub(super) fn version(directory: &Directory) -> Option<(u64, u64)> {
    fs::metadata(directory.journal()).ok().map(|journal| (journal.ino(), journal.len()))
}
