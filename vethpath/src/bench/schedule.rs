//! Which mode is measured when: rounds of one slice a mode, in random order, so that whatever
//! changes on the machine meanwhile meets all modes alike.

use std::{collections::BTreeMap, time::Duration};

use super::{Error, Mode, Warning, pingpong::Measured};

/// A slice, warm-up included, where there is time enough. Short, so that the slices of a round meet
/// the same machine. Beside compilers on both CPUs, runs of 10 s had 95 % intervals 0.1 to 0.2 wide
/// with slices of 50 ms, 0.2 to 1.1 with 100 ms, 0.3 to 2 with 200 ms, and with 500 ms every second
/// run could not tell any. What is between slices took 3 s more with 100 ms, 6 to 8 s with 50 ms.
const SLICE: Duration = Duration::from_millis(100);

/// Rounds for which slices are made shorter.
const ROUNDS: u32 = 8;

/// The part of a slice that is not measured: caches, ARP, and the frequency of the CPU settle.
const WARM_UP: u32 = 10;

/// The times of one slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Round trips that do not count.
    pub warm_up: Duration,
    /// Round trips that do.
    pub measure: Duration,
}

/// How many rounds there are, of which slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// At least one.
    pub rounds: usize,
    /// Of every slice.
    pub timing: Timing,
}

impl Schedule {
    /// Whole rounds of `modes` slices that fit into `time`. What is done between slices (attaching,
    /// detaching, arming) is no measuring and does not count.
    #[must_use]
    pub fn fit(time: Duration, modes: usize) -> Self {
        let modes = u32::try_from(modes).unwrap_or(u32::MAX).max(1);
        let slice = SLICE.min(time / modes / ROUNDS).max(Duration::from_millis(1));
        let rounds = time.as_nanos() / (slice * modes).as_nanos();
        let warm_up = slice / WARM_UP;
        let timing = Timing { warm_up, measure: slice - warm_up };
        Self { rounds: usize::try_from(rounds).unwrap_or(usize::MAX).max(1), timing }
    }
}

/// What came of one slice.
#[derive(Clone, Debug)]
pub struct Slice {
    /// Its round trips.
    pub measured: Measured,
    /// Why they do not tell anything of the mode, if they do not.
    pub fault: Option<Warning>,
}

/// Measures slices.
pub trait Executor {
    /// Makes sure that everything is as `mode` says, and measures.
    async fn slice(&mut self, mode: Mode, timing: Timing) -> Result<Slice, Error>;
}

/// What is about to be measured, for whoever waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// From 1.
    pub round: usize,
    /// How many there will be.
    pub rounds: usize,
    /// The mode of the slice.
    pub mode: Mode,
}

/// A round in which every slice was what it should be.
pub type Round = BTreeMap<Mode, Measured>;

/// All rounds.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    /// The good ones, at least one.
    pub good: Vec<Round>,
    /// Why others were put aside, one for each.
    pub faults: Vec<Warning>,
}

/// Measures all rounds.
///
/// # Errors
/// Those of the executor, or no round was good.
pub async fn run(
    executor: &mut impl Executor,
    schedule: Schedule,
    modes: &[Mode],
    rng: &mut fastrand::Rng,
    progress: &mut dyn FnMut(Progress),
) -> Result<Rounds, Error> {
    let mut rounds = Rounds::default();
    let mut order = modes.to_vec();
    for number in 1..=schedule.rounds {
        rng.shuffle(&mut order);
        let (mut round, mut fault) = (Round::new(), None);
        for &mode in &order {
            progress(Progress { round: number, rounds: schedule.rounds, mode });
            let slice = executor.slice(mode, schedule.timing).await?;
            let empty = slice.measured.histogram.is_empty().then_some(Warning::Empty { mode: mode.name() });
            fault = fault.or(slice.fault).or(empty);
            round.insert(mode, slice.measured);
        }
        match fault {
            Some(fault) => rounds.faults.push(fault),
            None => rounds.good.push(round),
        }
    }
    match rounds.faults.first() {
        Some(fault) if rounds.good.is_empty() => Err(Error::NoRound(fault.to_string())),
        _ => Ok(rounds),
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;

    const ALL: [Mode; 3] = [Mode::Cable, Mode::Bridge, Mode::Fast];

    /// Notes what it is asked for, and finds fault with slices by number.
    #[derive(Default)]
    struct Mock {
        asked: Vec<Mode>,
        faulty: Vec<usize>,
        empty: Vec<usize>,
        fails_at: Option<usize>,
    }

    impl Executor for Mock {
        async fn slice(&mut self, mode: Mode, _: Timing) -> Result<Slice, Error> {
            self.asked.push(mode);
            let number = self.asked.len();
            if self.fails_at == Some(number) {
                return Err(Error::Interrupted);
            }
            let mut measured = Measured { histogram: Histogram::new(3).unwrap(), asked: 1, lost: 0 };
            if !self.empty.contains(&number) {
                measured.histogram.record(1).unwrap();
            }
            let fault = self.faulty.contains(&number).then_some(Warning::NotPlain { fast: 1 });
            Ok(Slice { measured, fault })
        }
    }

    async fn run_all(mock: &mut Mock, rounds: usize) -> (Result<Rounds, Error>, Vec<Progress>) {
        let schedule = Schedule { rounds, ..Schedule::fit(Duration::from_secs(10), 3) };
        let mut seen = Vec::new();
        let mut rng = fastrand::Rng::with_seed(7);
        let done = run(mock, schedule, &ALL, &mut rng, &mut |progress| seen.push(progress)).await;
        (done, seen)
    }

    #[test]
    fn slices_are_of_one_length_where_there_is_time() {
        let long = Schedule::fit(Duration::from_secs(60), 3);
        assert_eq!(long.rounds, 200);
        assert_eq!(long.timing.warm_up + long.timing.measure, SLICE);
        let short = Schedule::fit(Duration::from_secs(1), 3);
        assert_eq!(short.rounds, 8);
        assert!(short.timing.measure > Duration::from_millis(30));
        assert_eq!(Schedule::fit(Duration::ZERO, 2).rounds, 1, "there is always something to tell");
    }

    #[tokio::test]
    async fn every_round_has_every_mode_once_in_changing_order() {
        let mut mock = Mock::default();
        let (rounds, seen) = run_all(&mut mock, 20).await;
        assert_eq!(rounds.unwrap().good.len(), 20);
        for round in mock.asked.chunks(3) {
            let mut sorted = round.to_vec();
            sorted.sort();
            assert_eq!(sorted, ALL);
        }
        for mode in ALL {
            assert!(mock.asked.iter().step_by(3).any(|&first| first == mode), "{mode:?} is never first");
        }
        assert_eq!(seen[3], Progress { round: 2, rounds: 20, mode: mock.asked[3] });
    }

    #[tokio::test]
    async fn a_round_with_a_fault_is_put_aside_whole() {
        let mut mock = Mock { faulty: vec![2, 3], ..Mock::default() };
        let rounds = run_all(&mut mock, 4).await.0.unwrap();
        assert_eq!((rounds.good.len(), rounds.faults.len()), (3, 1));
        let mut mock = Mock { faulty: vec![1, 5], ..Mock::default() };
        assert!(matches!(run_all(&mut mock, 2).await.0, Err(Error::NoRound(_))));
    }

    #[tokio::test]
    async fn a_round_without_a_figure_is_put_aside_too() {
        let mut mock = Mock { empty: vec![5], ..Mock::default() };
        let rounds = run_all(&mut mock, 3).await.0.unwrap();
        assert_eq!(
            (rounds.good.len(), rounds.faults),
            (2, vec![Warning::Empty { mode: mock.asked[4].name() }])
        );
    }

    #[tokio::test]
    async fn an_error_ends_it() {
        let mut mock = Mock { fails_at: Some(4), ..Mock::default() };
        assert!(run_all(&mut mock, 9).await.0.is_err());
        assert_eq!(mock.asked.len(), 4);
    }
}
