//! The agent's part of the event log: each change of the lab's state, when the agent detects it.

use std::{collections::BTreeMap, time::Duration};

use log::warn;
use vethpath_common::Config;

use super::{
    Error,
    diff::{Snapshot, diff},
};
use crate::{
    state::{
        self, Directory, Measuring,
        events::{Former, How, Kind, Recorder},
    },
    topology::Topology,
};

/// The event log of one agent.
pub struct EventLog {
    recorder: Recorder,
    directory: Directory,
    /// The snapshot that was logged last.
    last: Snapshot,
    overruns: RateLimit,
}

impl EventLog {
    /// Starts the log of an agent that found `found` in the maps.
    #[must_use]
    pub fn start(directory: &Directory, found: Config) -> Self {
        let mut recorder = Recorder::of(directory).non_blocking();
        recorder.record([Kind::AgentStarted { pid: std::process::id(), former: former(found) }]);
        Self {
            recorder,
            directory: directory.clone(),
            last: Snapshot::default(),
            overruns: RateLimit::default(),
        }
    }

    /// Logs the exit of the agent.
    pub fn agent_ended(&mut self, ended: &Result<(), Error>) {
        let how = if ended.is_ok() { How::Terminated } else { How::Failed };
        self.recorder.blocking();
        let error = ended.as_ref().err().map(ToString::to_string);
        self.recorder.record([Kind::AgentEnded { pid: std::process::id(), how, error }]);
    }

    /// Logs changes since the last snapshot. While `bench` measures the lab, programs attached and detached are left
    /// out: hundreds of events would push out all earlier ones. Changes that remain are logged afterwards.
    pub fn record_snapshot(&mut self, topology: &Topology, mut now: Snapshot) {
        if now == self.last {
            return;
        }
        let all = now.clone();
        if now.mask_programs(&self.last) && !Measuring::is_on(&self.directory) {
            now = all;
        }
        self.recorder.record(diff(topology, &self.last, &now));
        self.last = now;
    }

    /// Logs events that are not part of a snapshot.
    pub fn record(&mut self, kinds: impl IntoIterator<Item = Kind>) {
        self.recorder.record(kinds);
    }

    /// Logs an expired lease. It was renewed at `now`, and held until `until` before that.
    pub fn lease_renewed(&mut self, until: Duration, now: Duration) {
        self.recorder.record(expired(until, now));
    }

    /// Logs an overrun: netlink events of a namespace were lost.
    pub fn overrun(&mut self, namespace: String, generation: u32) {
        self.recorder.record(self.overruns.lost(namespace, generation));
    }

    /// Called once a second: logs the rest of a burst of overruns, retries what could not be written, and rotates the
    /// agent's log.
    pub fn tick(&mut self) {
        self.recorder.record(self.overruns.flush());
        if let Err(error) = state::rotate_if_long(&self.directory) {
            warn!("cannot rotate the log: {error}");
        }
    }
}

/// Overruns since the last tick, by namespace: their number, and the last generation. The first is logged at once,
/// the rest together.
#[derive(Default)]
struct RateLimit(BTreeMap<String, (u32, u32)>);

impl RateLimit {
    fn lost(&mut self, namespace: String, generation: u32) -> Option<Kind> {
        let (times, last) = self.0.entry(namespace.clone()).or_default();
        (*times, *last) = (*times + 1, generation);
        (*times == 1).then_some(Kind::NetlinkLost { namespace, generation, times: 1 })
    }

    fn flush(&mut self) -> impl Iterator<Item = Kind> + use<> {
        let rest = std::mem::take(&mut self.0).into_iter().filter(|(_, (times, _))| *times > 1);
        rest.map(|(namespace, (times, generation))| Kind::NetlinkLost {
            namespace,
            generation,
            times: times - 1,
        })
    }
}

fn expired(until: Duration, now: Duration) -> Option<Kind> {
    let late = now.saturating_sub(until);
    let for_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
    (!late.is_zero()).then_some(Kind::LeaseExpired { for_ms })
}

/// What became of the agent that left the maps like this. Each agent starts a generation of its own, and ends its
/// lease on exit.
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
    fn the_maps_show_what_became_of_the_former_agent() {
        let found =
            |generation, lease_until_ns| former(Config { generation, lease_until_ns, ..Config::default() });
        assert_eq!(found(0, 0), Former::None);
        assert_eq!(found(3, 0), Former::Ended);
        assert_eq!(found(3, 7), Former::Died);
    }

    #[test]
    fn a_lease_that_ran_out_is_logged_and_one_that_held_is_not() {
        let at = Duration::from_millis;
        assert_eq!(expired(at(3_000), at(2_000)), None);
        assert_eq!(expired(at(3_000), at(3_000)), None);
        assert_eq!(expired(at(3_000), at(4_500)), Some(Kind::LeaseExpired { for_ms: 1_500 }));
    }

    #[test]
    fn a_storm_is_logged_at_once_and_then_once_a_tick() {
        let lost = |generation, times| Kind::NetlinkLost { namespace: "host".into(), generation, times };
        let mut storms = RateLimit::default();
        assert_eq!(storms.lost("host".into(), 5), Some(lost(5, 1)));
        assert_eq!((storms.lost("host".into(), 6), storms.lost("host".into(), 7)), (None, None));
        assert_eq!(storms.flush().collect::<Vec<_>>(), [lost(7, 2)]);
        assert_eq!(storms.lost("host".into(), 8), Some(lost(8, 1)), "the next one is new");
        assert_eq!(storms.flush().count(), 0);
    }
}
