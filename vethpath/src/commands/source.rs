//! The accounts of a lab, read again and again.

use std::{
    panic::resume_unwind,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{Failure, labs};
use crate::{
    state::{Directory, JournalStamp, Record},
    stats::{self, AgentView, Containers, Stats, collect, round_trips},
    topology::{LabName, Topology},
};

/// How long names of containers are taken for the present ones.
const NAMES_KEPT: Duration = Duration::from_secs(5);

/// Reads the accounts of a lab. The record is read again only if its file has changed.
pub(super) struct Source {
    lab: LabName,
    record: Option<(JournalStamp, Arc<Topology>)>,
    /// The names of containers, and when the engines were asked.
    names: Option<(Instant, Containers)>,
    /// When the counters of the last account were read.
    read_at: Instant,
}

impl Source {
    pub(super) fn of(lab: &LabName) -> Self {
        Self { lab: lab.clone(), record: None, names: None, read_at: Instant::now() }
    }

    /// The lab.
    pub(super) fn lab(&self) -> &LabName {
        &self.lab
    }

    /// When the counters of the last account were read.
    pub(super) fn read_at(&self) -> Instant {
        self.read_at
    }

    /// The account of the lab, which must be up, and the topology that it is of. The agent is queried, and the inner ends that
    /// it knows are read, while the record is read: all three take long in a large lab.
    pub(super) fn account(&mut self) -> Result<(Stats, Arc<Topology>), Failure> {
        let lab = self.lab.clone();
        let (view, topology) = thread::scope(|scope| {
            let view = scope.spawn(|| AgentView::with_inner_ends(&lab));
            let topology = self.topology();
            (view.join().unwrap_or_else(|panic| resume_unwind(panic)), topology)
        });
        let topology = topology?;
        let account = collect(&topology, view?, Some(self.names(&topology)?))?;
        self.read_at = Instant::now();
        Ok((account, topology))
    }

    /// The names of containers. Engines are asked again after some seconds.
    fn names(&mut self, topology: &Topology) -> Result<&Containers, Failure> {
        let is_fresh = |(since, _): &(Instant, Containers)| since.elapsed() < NAMES_KEPT;
        let names = match self.names.take().filter(is_fresh) {
            Some(names) => names,
            None => {
                let names = stats::containers(topology)?;
                // How long the engines took to reply does not count.
                (Instant::now(), names)
            }
        };
        Ok(&self.names.insert(names).1)
    }

    fn topology(&mut self) -> Result<Arc<Topology>, Failure> {
        // Read before the file, so that a later change is noticed.
        let stamp = Record::stamp(&Directory::of(&self.lab));
        if let (Some(stamp), Some((former, topology))) = (stamp, &self.record)
            && stamp == *former
        {
            return Ok(Arc::clone(topology));
        }
        let topology = Arc::new(labs::record_of(&self.lab)?.topology);
        self.record = stamp.map(|stamp| (stamp, Arc::clone(&topology)));
        Ok(topology)
    }
}

/// Reads the round-trip times of the pairs with these names.
pub(super) fn add_round_trips(
    account: &mut Stats,
    topology: &Topology,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<(), Failure> {
    let pairs: Vec<_> = topology.pairs.iter().filter(|pair| is_wanted(&pair.name())).collect();
    account.add_round_trips(round_trips(topology, &pairs)?);
    Ok(())
}
