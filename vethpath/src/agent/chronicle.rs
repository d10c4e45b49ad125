//! What the agent writes down: each change of the lab's state, as it notices it.

use std::{collections::BTreeMap, time::Duration};

use log::warn;
use vethpath_common::Config;

use super::{
    Error,
    changes::{Standing, changes},
    facts,
};
use crate::{
    state::{
        self, Directory,
        events::{Former, How, Kind, Recorder},
    },
    topology::Topology,
};

/// The events of one agent.
pub struct Chronicle {
    recorder: Recorder,
    standing: Standing,
    /// By namespace: how many times events were lost since the last tick.
    lost: BTreeMap<String, (u32, u32)>,
}

impl Chronicle {
    /// Of an agent that has just found the maps with `found` in them.
    #[must_use]
    pub fn begin(directory: &Directory, found: Config) -> Self {
        let mut recorder = Recorder::of(directory);
        recorder.record([Kind::AgentStarted { pid: std::process::id(), former: former(found) }]);
        Self { recorder, standing: Standing::default(), lost: BTreeMap::new() }
    }

    /// The agent ends.
    pub fn end(&mut self, ended: &Result<(), Error>) {
        let how = if ended.is_ok() { How::Terminated } else { How::Failed };
        let error = ended.as_ref().err().map(ToString::to_string);
        self.recorder.record([Kind::AgentEnded { pid: std::process::id(), how, error }]);
    }

    /// How the lab stands now.
    pub fn note(&mut self, topology: &Topology, now: Standing) {
        if now != self.standing {
            self.recorder.record(changes(facts::counted_pairs(topology), &self.standing, &now));
            self.standing = now;
        }
    }

    /// What is no state that lasts.
    pub fn tell(&mut self, kinds: impl IntoIterator<Item = Kind>) {
        self.recorder.record(kinds);
    }

    /// The lease was renewed at `now`, until when it held having been `until`.
    pub fn lease(&mut self, until: Duration, now: Duration) {
        let late = now.saturating_sub(until);
        if !late.is_zero() {
            let for_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
            self.recorder.record([Kind::LeaseExpired { for_ms }]);
        }
    }

    /// Netlink events of a namespace were lost. The first time in a second is told at once.
    pub fn lost(&mut self, namespace: String, generation: u32) {
        let (times, last) = self.lost.entry(namespace.clone()).or_insert((0, generation));
        (*times, *last) = (*times + 1, generation);
        if *times == 1 {
            self.recorder.record([Kind::NetlinkLost { namespace, generation, times: 1 }]);
        }
    }

    /// Once a second: the rest of a storm, and what could not be written before. The agent's log is
    /// kept short here too.
    pub fn tick(&mut self, directory: &Directory) {
        let storms = std::mem::take(&mut self.lost).into_iter();
        let rest = storms.filter(|(_, (times, _))| *times > 1);
        self.recorder.record(rest.map(|(namespace, (times, generation))| Kind::NetlinkLost {
            namespace,
            generation,
            times: times - 1,
        }));
        if let Err(error) = state::keep_short(directory) {
            warn!("cannot put the log aside: {error}");
        }
    }
}

/// What became of the agent that has left maps like this. Each makes a generation of its own when it
/// begins, and takes the lease back when it ends.
fn former(found: Config) -> Former {
    match found {
        Config { generation: 0, .. } => Former::None,
        Config { lease_until_ns: 0, .. } => Former::Ended,
        _ => Former::Died,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maps_tell_of_the_agent_before() {
        let found = |generation, lease_until_ns| former(Config { abi: 1, generation, lease_until_ns });
        assert_eq!(found(0, 0), Former::None);
        assert_eq!(found(3, 0), Former::Ended);
        assert_eq!(found(3, 7), Former::Died);
    }
}
