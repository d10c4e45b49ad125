//! The paths that are compared: how each is prepared, and how it is shown that frames took it.

use serde::{Deserialize, Serialize};
use vethpath_common::PairCounters;

use super::{
    Error,
    choose::{Chosen, Side},
    end,
    pingpong::{PingPong, Place},
    programs::Programs,
    schedule::{Executor, Slice, Timing},
    {cable, warnings::Warning},
};
use crate::{
    datapath::{Counters, Pins},
    kernel::Netns,
    state::{Directory, Record},
};

/// In a slice of the fast path, one frame in so many may be slow: ARP, above all.
const ONE_SLOW_IN: u64 = 100;

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
    lab: PingPong,
    cable: PingPong,
    counters: Counters,
    cpu: usize,
}

impl<'a> Bench<'a> {
    /// Opens sockets in the lab and lays a cable. All ends are on one CPU, the last that we may use:
    /// devices tend to interrupt the first.
    ///
    /// # Errors
    /// A namespace is gone, or the kernel refuses.
    pub async fn prepare(record: &Record, chosen: &'a Chosen, directory: Directory) -> Result<Self, Error> {
        let cpu = end::cpus().pop().unwrap_or_default();
        let Chosen { from, to } = chosen;
        let netns = |side: &Side| Netns::named(&side.pair.namespace);
        let (asks, answers) = (netns(from)?, netns(to)?);
        let place = |netns, side: &Side| Place { netns, address: side.address };
        let lab = PingPong::open(place(&asks, from), place(&answers, to), cpu).await?;
        lab.meet("bridge").await?;
        let cable = cable::lay(from.address, from.pair.inner.mtu, cpu).await?;
        cable.meet(Mode::Cable.name()).await?;
        Ok(Self {
            lab,
            cable,
            counters: Counters::open(&Pins::of(&record.topology.lab))?,
            programs: Programs::of(record, directory)?,
            chosen,
            cpu,
        })
    }

    /// What can be compared: without armed pairs there is no fast path.
    #[must_use]
    pub fn modes(&self) -> Vec<Mode> {
        let mut modes = vec![Mode::Cable, Mode::Bridge];
        modes.extend(self.chosen.is_armed().then_some(Mode::Fast));
        modes
    }

    /// The CPU of all ends.
    #[must_use]
    pub fn cpu(&self) -> usize {
        self.cpu
    }

    async fn lab(&self, mode: Mode, timing: Timing) -> Result<Slice, Error> {
        let before = self.counts()?;
        let measured = self.lab.slice(timing, mode.name()).await?;
        let after = self.counts()?;
        let sent = before.into_iter().zip(after).map(|(before, after)| Sent::between(&before, &after));
        let sent = sent
            .fold(Sent::default(), |sum, one| Sent { fast: sum.fast + one.fast, slow: sum.slow + one.slow });
        let fault = match mode {
            // Each round trip is two frames, one from each pair.
            Mode::Fast if !sent.is_fast(2 * (measured.asked - measured.lost)) => {
                Some(Warning::NotFast { fast: sent.fast, slow: sent.slow, pairs: self.states() })
            }
            Mode::Bridge if sent.fast > 0 => Some(Warning::NotPlain { fast: sent.fast }),
            _ => None,
        };
        Ok(Slice { measured, fault })
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
    async fn slice(&mut self, mode: Mode, timing: Timing) -> Result<Slice, Error> {
        match mode {
            Mode::Cable => {
                let measured = self.cable.slice(timing, mode.name()).await?;
                Ok(Slice { measured, fault: None })
            }
            Mode::Bridge => {
                self.programs.detach().await?;
                self.lab(mode, timing).await
            }
            Mode::Fast => {
                self.programs.attach(self.chosen).await?;
                self.lab(mode, timing).await
            }
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
        let nearly = |all: u64| all - all / ONE_SLOW_IN;
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
        assert!(!Sent { fast: 0, slow: 0 }.is_fast(2));
    }
}
