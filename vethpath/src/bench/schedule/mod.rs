//! The schedule: in each round every mode is set up once and every case has a slice, in random order. A change of the
//! machine's speed then affects all modes alike. A case ends when its interval is narrow enough; the time limit ends
//! all.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Error, Mode, Warning,
    measured::Measured,
    report::{Ended, Why},
    tally::Tally,
    work::Spec,
};

/// Length of a slice of a single case, including the warm-up, if time allows. It is short so that the machine's speed
/// is the same for all slices of a round. With compilers on both CPUs, runs of 10 s had 95 % intervals 0.1 to 0.2 wide
/// with slices of 50 ms, 0.2 to 1.1 with 100 ms, 0.3 to 2 with 200 ms. With 500 ms every second run had no result. The
/// time between modes took 3 s more with 100 ms, and 6 to 8 s with 50 ms.
const SLICE: Duration = Duration::from_millis(100);

/// Length of a slice if there are several cases, which share the time between modes.
const SHORT_SLICE: Duration = Duration::from_millis(50);

/// The shortest slice: some hundred round trips.
const SHORTEST: Duration = Duration::from_millis(2);

/// Slices are shortened until this many rounds fit.
const ROUNDS: u32 = 8;

/// One part in this many of a slice is warm-up: caches, ARP and the CPU frequency settle.
const WARM_UP: u32 = 10;

/// An interval of fewer rounds does not end a case. Three runs that ended after 20, within half of their time, had 2 of
/// 36 pairs of fast/bridge intervals that did not overlap; with 40 all did.
pub const FEWEST: usize = 40;

/// Rounds that may follow after the time limit if a case has no valid round yet. On a busy machine a slice may have no
/// figure.
const MORE: usize = 30;

/// The interval is computed once per this many rounds, since that takes some milliseconds.
const EVERY: usize = 5;

/// The times of one slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// The warm-up, which does not count.
    pub warm_up: Duration,
    /// The measurement.
    pub measure: Duration,
}

/// The time limit, and the times of each slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Limit of all rounds, including the time between slices. It is exceeded until each case has a valid round.
    pub limit: Duration,
    /// The times of each slice.
    pub timing: Timing,
}

impl Schedule {
    /// Sets the slice length so that some rounds of `modes` and `cases` fit into `limit`.
    #[must_use]
    pub fn fit(limit: Duration, modes: usize, cases: usize) -> Self {
        let in_a_round = u32::try_from(modes.saturating_mul(cases)).unwrap_or(u32::MAX).max(1);
        let longest = if cases > 1 { SHORT_SLICE } else { SLICE };
        let slice = (limit / in_a_round / ROUNDS).clamp(SHORTEST, longest);
        let warm_up = slice / WARM_UP;
        Self { limit, timing: Timing { warm_up, measure: slice - warm_up } }
    }
}

/// The result of one slice.
#[derive(Clone, Debug)]
pub struct Slice {
    /// What was measured.
    pub measured: Measured,
    /// Why the slice is invalid, if it is.
    pub fault: Option<Warning>,
}

/// Measures slices.
pub trait Executor {
    /// The time since measuring began.
    fn elapsed(&self) -> Duration;

    /// Replaces what a round is measured with. The memory addresses of a socket and a veth change their speed by some
    /// percent while they exist. With the same ones in all rounds, the cable of one run was 5 % slower than that of the
    /// next, and no interval showed it.
    async fn begin_round(&mut self) -> Result<(), Error>;

    /// Sets up a mode.
    async fn enter(&mut self, mode: Mode) -> Result<(), Error>;

    /// Measures a case, by its index, in the mode that was entered.
    async fn slice(&mut self, mode: Mode, case: usize, timing: Timing) -> Result<Slice, Error>;
}

/// The slice that comes next, for the progress display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The round, from 1.
    pub round: usize,
    /// The time left at most.
    pub left: Duration,
    /// The mode of the slice.
    pub mode: Mode,
    /// The case.
    pub case: Spec,
}

/// The result of all rounds.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    /// The results of each case.
    pub tallies: Vec<Tally>,
    /// How many rounds there were, including discarded ones.
    pub rounds: usize,
    /// Faults for which a case's slices of a round were discarded, one per case and round.
    pub faults: Vec<Warning>,
}

/// Measures until every case has ended or the time limit is reached.
///
/// # Errors
/// Those of the executor, or a case has no valid round.
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
    /// Whether another round of average length would exceed the limit.
    fn is_time_over(&self, spent: Duration, limit: Duration) -> bool {
        let round = spent.checked_div(u32::try_from(self.rounds).unwrap_or(u32::MAX)).unwrap_or_default();
        let wanting = self.tallies.iter().any(|tally| tally.rounds == 0);
        spent + round > limit && !(wanting && self.rounds < MORE) && self.rounds > 0
    }

    /// Adds a case's slices of one round, or discards them all if one has a fault.
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
