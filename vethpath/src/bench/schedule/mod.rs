//! What is measured when: rounds in which each mode is set up once and every case has a slice, in
//! random order, so that whatever changes on the machine meanwhile meets all modes alike. A case whose
//! interval is narrow enough is done; the time limit ends them all.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Error, Mode, Warning,
    measured::Measured,
    report::{Ended, Why},
    tally::Tally,
    work::Spec,
};

/// A slice of the only case, warm-up included, where there is time enough. Short, so that the slices of
/// a round meet the same machine. Beside compilers on both CPUs, runs of 10 s had 95 % intervals 0.1 to
/// 0.2 wide with slices of 50 ms, 0.2 to 1.1 with 100 ms, 0.3 to 2 with 200 ms, and with 500 ms every
/// second run could not tell any. What is between modes took 3 s more with 100 ms, 6 to 8 s with 50 ms.
const SLICE: Duration = Duration::from_millis(100);

/// A slice of one of several cases, which share what is between modes.
const SHORT_SLICE: Duration = Duration::from_millis(50);

/// The shortest slice: some hundred round trips.
const SHORTEST: Duration = Duration::from_millis(2);

/// Rounds for which slices are made shorter.
const ROUNDS: u32 = 8;

/// The part of a slice that is not measured: caches, ARP, and the frequency of the CPU settle.
const WARM_UP: u32 = 10;

/// An interval of fewer rounds is not believed, however narrow it is. Of three runs that ended after 20, within
/// half of their time, two fast/bridge in 36 pairs of intervals did not overlap; with 40 all did.
pub const FEWEST: usize = 40;

/// Rounds that are added beyond the time, where a case has no good one yet: on a busy machine a slice may
/// pass without a figure.
const MORE: usize = 30;

/// It is looked at every so many rounds whether an interval is narrow. It takes some milliseconds.
const EVERY: usize = 5;

/// The times of one slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// What does not count.
    pub warm_up: Duration,
    /// What does.
    pub measure: Duration,
}

/// How long all rounds may take, of which slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// All rounds together, with what is between slices. A good round of each case is waited for longer.
    pub limit: Duration,
    /// Of every slice.
    pub timing: Timing,
}

impl Schedule {
    /// Slices of which some rounds of `modes` and `cases` fit into `limit`.
    #[must_use]
    pub fn fit(limit: Duration, modes: usize, cases: usize) -> Self {
        let in_a_round = u32::try_from(modes.saturating_mul(cases)).unwrap_or(u32::MAX).max(1);
        let longest = if cases > 1 { SHORT_SLICE } else { SLICE };
        let slice = (limit / in_a_round / ROUNDS).clamp(SHORTEST, longest);
        let warm_up = slice / WARM_UP;
        Self { limit, timing: Timing { warm_up, measure: slice - warm_up } }
    }
}

/// What came of one slice.
#[derive(Clone, Debug)]
pub struct Slice {
    /// What was measured.
    pub measured: Measured,
    /// Why it does not tell anything of the mode, if it does not.
    pub fault: Option<Warning>,
}

/// Measures slices.
pub trait Executor {
    /// The time since measuring began.
    fn elapsed(&self) -> Duration;

    /// Makes anew what one round is measured with. Where a socket and a veth happen to be in memory makes
    /// them faster or slower by some percent for as long as they are there: with the same ones in all rounds
    /// the cable of one run was 5 % slower than that of the next, and no interval of rounds told so.
    async fn begin_round(&mut self) -> Result<(), Error>;

    /// Makes sure that everything is as `mode` says.
    async fn enter(&mut self, mode: Mode) -> Result<(), Error>;

    /// Measures a case, by its number, in the mode that was entered.
    async fn slice(&mut self, mode: Mode, case: usize, timing: Timing) -> Result<Slice, Error>;
}

/// What is about to be measured, for whoever waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// From 1.
    pub round: usize,
    /// How long it will take at most.
    pub left: Duration,
    /// The mode of the slice.
    pub mode: Mode,
    /// The case.
    pub case: Spec,
}

/// Everything that was measured.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    /// What came of each case.
    pub tallies: Vec<Tally>,
    /// How many rounds there were, those put aside included.
    pub rounds: usize,
    /// Why slices were put aside, with the others of their case and round: one for each.
    pub faults: Vec<Warning>,
}

/// Measures until every case is done, or the time is over.
///
/// # Errors
/// Those of the executor, or a case had no good round.
pub async fn run(
    executor: &mut impl Executor,
    schedule: Schedule,
    modes: &[Mode],
    cases: &[Spec],
    rng: &mut fastrand::Rng,
    progress: &mut dyn FnMut(Progress),
) -> Result<Rounds, Error> {
    let tallies = cases.iter().map(|&case| Tally::new(case)).collect();
    let mut rounds = Rounds { tallies, ..Rounds::default() };
    let mut modes = modes.to_vec();
    let began = executor.elapsed();
    loop {
        let mut open: Vec<usize> =
            (0..cases.len()).filter(|&case| rounds.tallies[case].ended.is_none()).collect();
        let spent = executor.elapsed().saturating_sub(began);
        if open.is_empty() || rounds.is_time_over(spent, schedule.limit) {
            break;
        }
        rounds.rounds += 1;
        executor.begin_round().await?;
        rng.shuffle(&mut modes);
        rng.shuffle(&mut open);
        let mut slices: Vec<BTreeMap<Mode, Slice>> = vec![BTreeMap::new(); cases.len()];
        for &mode in &modes {
            executor.enter(mode).await?;
            for &case in &open {
                let left = schedule.limit.saturating_sub(executor.elapsed().saturating_sub(began));
                progress(Progress { round: rounds.rounds, left, mode, case: cases[case] });
                slices[case].insert(mode, executor.slice(mode, case, schedule.timing).await?);
            }
        }
        for &case in &open {
            rounds.take_in(case, std::mem::take(&mut slices[case]));
        }
    }
    rounds.close()
}

impl Rounds {
    /// Whether another round like those before would not fit in.
    fn is_time_over(&self, spent: Duration, limit: Duration) -> bool {
        let round = spent.checked_div(u32::try_from(self.rounds).unwrap_or(u32::MAX)).unwrap_or_default();
        let wanting = self.tallies.iter().any(|tally| tally.rounds == 0);
        spent + round > limit && !(wanting && self.rounds < MORE) && self.rounds > 0
    }

    /// Takes in a case's slices of one round, unless there is a fault with one.
    fn take_in(&mut self, case: usize, slices: BTreeMap<Mode, Slice>) {
        let tally = &mut self.tallies[case];
        let fault = slices.iter().find_map(|(mode, slice)| {
            let empty = || Warning::Empty { mode: mode.name(), case: tally.spec };
            let is_empty = slice.measured.figure(tally.spec.work).is_none();
            slice.fault.clone().or_else(|| is_empty.then(empty))
        });
        match fault {
            Some(fault) => self.faults.push(fault),
            None => {
                tally.add(slices.into_iter().map(|(mode, slice)| (mode, slice.measured)));
                if tally.rounds >= FEWEST && tally.rounds.is_multiple_of(EVERY) {
                    tally.end_if_narrow();
                }
            }
        }
    }

    fn close(mut self) -> Result<Self, Error> {
        for tally in &mut self.tallies {
            if tally.rounds == 0 {
                let fault = self.faults.first().map(ToString::to_string);
                return Err(Error::NoRound(fault.unwrap_or_else(|| tally.spec.name())));
            }
            if tally.ended.is_none() {
                tally.ended = Some(Ended { why: Why::Time, width: tally.width(), wanted: tally.wanted() });
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
