//! What the agent writes down: each change of the lab's state, as it notices it.

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

/// The events of one agent.
pub struct EventLog {
    recorder: Recorder,
    directory: Directory,
    /// What was told last.
    last: Snapshot,
    overruns: RateLimit,
}

impl EventLog {
    /// Of an agent that has found the maps with `found` in them.
    #[must_use]
    pub fn begin(directory: &Directory, found: Config) -> Self {
        let mut recorder = Recorder::of(directory).in_haste();
        recorder.record([Kind::AgentStarted { pid: std::process::id(), former: former(found) }]);
        Self {
            recorder,
            directory: directory.clone(),
            last: Snapshot::default(),
            overruns: RateLimit::default(),
        }
    }

    /// The agent ends.
    pub fn agent_ended(&mut self, ended: &Result<(), Error>) {
        let how = if ended.is_ok() { How::Terminated } else { How::Failed };
        self.recorder.take_time();
        let error = ended.as_ref().err().map(ToString::to_string);
        self.recorder.record([Kind::AgentEnded { pid: std::process::id(), how, error }]);
    }

    /// How the lab stands now. While it is measured, the programs' coming and going is not told:
    /// hundreds of times it would push out all that was before. What is left of it is told after.
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

    /// What is no state that lasts.
    pub fn record(&mut self, kinds: impl IntoIterator<Item = Kind>) {
        self.recorder.record(kinds);
    }

    /// The lease was renewed at `now`; before that it held until `until`.
    pub fn lease_renewed(&mut self, until: Duration, now: Duration) {
        self.recorder.record(expired(until, now));
    }

    /// Netlink events of a namespace were lost.
    pub fn overrun(&mut self, namespace: String, generation: u32) {
        self.recorder.record(self.overruns.lost(namespace, generation));
    }

    /// Once a second: the rest of a storm, and what could not be written before. The agent's log is
    /// kept short here too.
    pub fn tick(&mut self) {
        self.recorder.record(self.overruns.flush());
        if let Err(error) = state::keep_short(&self.directory) {
            warn!("cannot rotate the log: {error}");
        }
    }
}

/// Losses of netlink events since the last tick: how many times and the last generation, by namespace.
/// The first is told at once, the rest together.
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
        let found =
            |generation, lease_until_ns| former(Config { generation, lease_until_ns, ..Config::default() });
        assert_eq!(found(0, 0), Former::None);
        assert_eq!(found(3, 0), Former::Ended);
        assert_eq!(found(3, 7), Former::Died);
    }
    #[test]
    fn a_lease_that_ran_out_is_told_and_one_that_held_is_not() {
        let at = Duration::from_millis;
        assert_eq!(expired(at(3_000), at(2_000)), None);
        assert_eq!(expired(at(3_000), at(3_000)), None);
        assert_eq!(expired(at(3_000), at(4_500)), Some(Kind::LeaseExpired { for_ms: 1_500 }));
    }

    #[test]
    fn a_storm_is_told_at_once_and_then_once_a_tick() {
        let told = |generation, times| Kind::NetlinkLost { namespace: "host".into(), generation, times };
        let mut storms = RateLimit::default();
        assert_eq!(storms.lost("host".into(), 5), Some(told(5, 1)));
        assert_eq!((storms.lost("host".into(), 6), storms.lost("host".into(), 7)), (None, None));
        assert_eq!(storms.flush().collect::<Vec<_>>(), [told(7, 2)]);
        assert_eq!(storms.lost("host".into(), 8), Some(told(8, 1)), "the next one is new");
        assert_eq!(storms.flush().count(), 0);
    }
}
