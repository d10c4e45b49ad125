//! The paths that are compared: how each is prepared, and how it is shown that frames took it.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use vethpath_common::PairCounters;

use super::{
    Error, cable,
    choose::{Chosen, Side},
    load::Worker,
    measured::Measured,
    programs::Programs,
    schedule::{Executor, Slice, Timing},
    site::Site,
    warnings::Warning,
    work::Spec,
};
use crate::{
    datapath::{Counters, Pins},
    kernel::Netns,
    state::{Directory, Record},
};

/// In a slice of the fast path, one frame in so many may be slow: ARP, above all.
const ONE_SLOW_IN: u64 = 100;

/// So many may in any case: a short slice has few frames.
const SOME_SLOW: u64 = 4;

/// A path between two namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A veth pair and nothing else: the floor.
    Cable,
    /// The lab's own bridge with the programs detached.
    Bridge,
    /// The same with the programs attached and both pairs armed.
    Fast,
}

impl Mode {
    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cable => "cable",
            Self::Bridge => "plain bridge",
            Self::Fast => "fast path",
        }
    }
}

/// Everything that slices are measured with.
pub struct Bench<'a> {
    /// The lab's programs.
    pub programs: Programs,
    chosen: &'a Chosen,
    /// Each case over the lab and over a cable.
    workers: Vec<(Worker, Worker)>,
    counters: Counters,
    began: Instant,
}

impl<'a> Bench<'a> {
    /// Opens sockets in the lab, lays a cable and does the same there.
    ///
    /// # Errors
    /// A namespace is gone, the kernel refuses, or nobody answers.
    pub async fn prepare(
        record: &Record,
        chosen: &'a Chosen,
        cases: &[Spec],
        directory: Directory,
    ) -> Result<Self, Error> {
        let Chosen { from, to, .. } = chosen;
        let netns = |side: &Side| Netns::named(&side.pair.namespace);
        let mut lab = Site::new([(netns(from)?, from.address), (netns(to)?, to.address)]);
        let mut cable = cable::lay(from.address, from.pair.inner.mtu).await?;
        let mut workers = Vec::new();
        for &case in cases {
            let over_lab = Worker::open(case, &mut lab, "bridge").await?;
            workers.push((over_lab, Worker::open(case, &mut cable, Mode::Cable.name()).await?));
        }
        Ok(Self {
            workers,
            counters: Counters::open(&Pins::of(&record.topology.lab))?,
            programs: Programs::of(record, directory)?,
            chosen,
            began: Instant::now(),
        })
    }

    /// What can be compared: without armed pairs there is no fast path.
    #[must_use]
    pub fn modes(&self) -> Vec<Mode> {
        let mut modes = vec![Mode::Cable, Mode::Bridge];
        modes.extend(self.chosen.is_armed().then_some(Mode::Fast));
        modes
    }

    async fn lab(&self, mode: Mode, worker: &Worker, timing: Timing) -> Result<Slice, Error> {
        let before = self.counts()?;
        let measured = worker.slice(timing, mode.name()).await?;
        let after = self.counts()?;
        let sent = before.into_iter().zip(after).map(|(before, after)| Sent::between(&before, &after));
        let sent = sent
            .fold(Sent::default(), |sum, one| Sent { fast: sum.fast + one.fast, slow: sum.slow + one.slow });
        let fault = self.fault(mode, sent, worker.fewest_frames(&measured));
        Ok(Slice { measured, fault })
    }

    fn fault(&self, mode: Mode, sent: Sent, fewest: u64) -> Option<Warning> {
        match mode {
            Mode::Fast if !sent.is_fast(fewest) => {
                Some(Warning::NotFast { fast: sent.fast, slow: sent.slow, pairs: self.states() })
            }
            Mode::Bridge if sent.fast > 0 => Some(Warning::NotPlain { fast: sent.fast }),
            _ => None,
        }
    }

    fn counts(&self) -> Result<[PairCounters; 2], Error> {
        let [from, to] = self.chosen.sides();
        let matrix = self.counters.matrix()?;
        Ok([self.counters.of(from.counter, &matrix)?, self.counters.of(to.counter, &matrix)?])
    }

    /// What the agent says of the two pairs.
    fn states(&self) -> String {
        let states = self.programs.states();
        let say = |side: &Side| {
            let pair = side.pair.name();
            match states.get(&pair) {
                Some(None) => format!("{pair} is armed"),
                Some(Some(reason)) => format!("{pair} is not armed: {reason}"),
                None => format!("{pair}: the agent does not answer"),
            }
        };
        self.chosen.sides().map(say).join(", ")
    }
}

impl Executor for Bench<'_> {
    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    async fn enter(&mut self, mode: Mode) -> Result<(), Error> {
        match mode {
            Mode::Cable => Ok(()),
            Mode::Bridge => self.programs.detach().await,
            Mode::Fast => self.programs.attach(self.chosen).await,
        }
    }

    async fn slice(&mut self, mode: Mode, case: usize, timing: Timing) -> Result<Slice, Error> {
        let (over_lab, over_cable) = &self.workers[case];
        match mode {
            Mode::Cable => {
                let measured: Measured = over_cable.slice(timing, mode.name()).await?;
                Ok(Slice { measured, fault: None })
            }
            Mode::Bridge | Mode::Fast => self.lab(mode, over_lab, timing).await,
        }
    }
}

/// Frames that a pair's namespace has sent, by path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sent {
    fast: u64,
    slow: u64,
}

impl Sent {
    fn between(before: &PairCounters, after: &PairCounters) -> Self {
        let slow = |counters: &PairCounters| counters.slow.iter().map(|count| count.frames).sum::<u64>();
        Self {
            fast: after.fast_tx.frames.wrapping_sub(before.fast_tx.frames),
            slow: slow(after).wrapping_sub(slow(before)),
        }
    }

    /// Whether nearly all of at least `expected` frames were fast.
    fn is_fast(self, expected: u64) -> bool {
        let nearly = |all: u64| all - (all / ONE_SLOW_IN).max(SOME_SLOW.min(all / 2));
        self.fast >= nearly(expected) && self.fast >= nearly(self.fast + self.slow)
    }
}

#[cfg(test)]
mod tests {
    use vethpath_common::Reason;

    use super::*;

    #[test]
    fn frames_are_counted_by_path() {
        let mut before = PairCounters::default();
        before.fast_tx.add(1, 60);
        before.slow[Reason::Arp as usize].add(1, 42);
        let mut after = before;
        after.fast_tx.add(4, 6000);
        after.slow[Reason::Arp as usize].add(1, 42);
        after.slow[Reason::Stale as usize].add(1, 60);
        assert_eq!(Sent::between(&before, &after), Sent { fast: 1, slow: 2 });
    }

    #[test]
    fn nearly_all_is_enough_and_not_less() {
        assert!(Sent { fast: 1000, slow: 4 }.is_fast(1000));
        assert!(!Sent { fast: 1000, slow: 40 }.is_fast(1000), "too many were slow");
        assert!(!Sent { fast: 900, slow: 0 }.is_fast(1000), "some were not counted at all");
        assert!(Sent { fast: 100, slow: 4 }.is_fast(100), "ARP, in a short slice");
        assert!(!Sent { fast: 0, slow: 0 }.is_fast(2));
        assert!(!Sent { fast: 1, slow: 7 }.is_fast(1));
    }
}
