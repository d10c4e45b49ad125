//! The schedule: in each round every mode is set up once and every case has a slice, in random order. A change of the
//! machine's speed then affects all modes alike. A case ends when its interval is narrow enough; the time limit ends
//! all.

use std::{collections::BTreeMap, time::Duration};

use super::{
    error::Error,
    measurement::{Measurement, Timing},
    mode::Mode,
    report::{Ended, Why},
    tally::Tally,
    warning::Warning,
    workload::Spec,
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
    pub measured: Measurement,
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
mod tests {
    use super::*;
    use crate::bench::workload::{Cores, Workload};

    const ALL: [Mode; 3] = [Mode::Cable, Mode::Bridge, Mode::Fast];
    const ONE: [Spec; 1] = [Spec::UDP];

    /// The duration of a slice on the mock's clock.
    const TAKEN: Duration = Duration::from_millis(100);

    /// Records the calls. Slices fail by number.
    #[derive(Default)]
    struct Mock {
        rounds: usize,
        entered: Vec<Mode>,
        slices: Vec<(Mode, usize)>,
        faulty: Vec<usize>,
        empty: Vec<usize>,
        fails_at: Option<usize>,
        /// By case: the variation of the figure from round to round, in nanoseconds.
        noise: Vec<u64>,
    }

    impl Executor for Mock {
        fn elapsed(&self) -> Duration {
            TAKEN * u32::try_from(self.slices.len()).unwrap()
        }

        async fn begin_round(&mut self) -> Result<(), Error> {
            self.rounds += 1;
            Ok(())
        }

        async fn enter(&mut self, mode: Mode) -> Result<(), Error> {
            self.entered.push(mode);
            Ok(())
        }

        async fn slice(&mut self, mode: Mode, case: usize, _: Timing) -> Result<Slice, Error> {
            assert_eq!(self.entered.last(), Some(&mode));
            self.slices.push((mode, case));
            let number = self.slices.len();
            if self.fails_at == Some(number) {
                return Err(Error::Interrupted);
            }
            let mut measured = Measurement::round_trips().unwrap();
            measured.sent = 1;
            if !self.empty.contains(&number) {
                let floor = match mode {
                    Mode::Cable => 10_000,
                    Mode::Bridge => 14_000,
                    Mode::Fast => 11_000,
                    Mode::Xdp => 12_000,
                };
                let noise = self.noise.get(case).copied().unwrap_or_default();
                let varied = (number as u64 * 7919) % 101 * noise / 100;
                measured.record(Duration::from_nanos(floor + varied), true);
            }
            let fault = self.faulty.contains(&number).then_some(Warning::NotPlain { fast: 1 });
            Ok(Slice { measured, fault })
        }
    }

    /// Runs this many rounds, unless the cases end earlier.
    async fn run_all(
        mock: &mut Mock,
        cases: &[Spec],
        rounds: usize,
    ) -> (Result<Rounds, Error>, Vec<Progress>) {
        let slices = u32::try_from(rounds * ALL.len() * cases.len()).unwrap();
        let schedule =
            Schedule { limit: TAKEN * slices, ..Schedule::fit(Duration::from_secs(10), 3, cases.len()) };
        let mut seen = Vec::new();
        let mut rng = fastrand::Rng::with_seed(7);
        let done = run(mock, schedule, &ALL, cases, &mut rng, &mut |progress| seen.push(progress)).await;
        (done, seen)
    }

    #[test]
    fn slices_are_of_one_length_where_there_is_time() {
        let slice = |seconds, cases| {
            let Timing { warm_up, measure } = Schedule::fit(Duration::from_secs(seconds), 3, cases).timing;
            warm_up + measure
        };
        assert_eq!(slice(60, 1), SLICE);
        assert_eq!(slice(60, 4), SHORT_SLICE, "several cases share what is between modes");
        assert!(slice(1, 1) > Duration::from_millis(30));
        assert_eq!(slice(0, 4), SHORTEST, "there is always something to tell");
    }

    #[tokio::test]
    async fn every_round_has_every_mode_and_case_once_in_changing_order() {
        let other = Spec { cores: Cores::Cross, ..Spec::UDP };
        let mut mock = Mock { noise: vec![20_000, 20_000], ..Mock::default() };
        let (rounds, seen) = run_all(&mut mock, &[Spec::UDP, other], 20).await;
        let rounds = rounds.unwrap();
        assert_eq!(rounds.tallies.iter().map(|tally| tally.rounds).collect::<Vec<_>>(), [20, 20]);
        for (modes, slices) in mock.entered.chunks(3).zip(mock.slices.chunks(6)) {
            let mut sorted = modes.to_vec();
            sorted.sort();
            assert_eq!(sorted, ALL, "each mode is set up once");
            let mut sorted: Vec<_> = slices.to_vec();
            sorted.sort();
            let every: Vec<_> = ALL.iter().flat_map(|&mode| [(mode, 0), (mode, 1)]).collect();
            assert_eq!(sorted, every);
        }
        for mode in ALL {
            assert!(mock.entered.iter().step_by(3).any(|&first| first == mode), "{mode:?} is never first");
        }
        assert!(mock.slices.iter().step_by(6).any(|slice| slice.1 == 1), "the second case is never first");
        let first = Progress { round: 1, left: TAKEN * 120, mode: mock.slices[0].0, case: seen[0].case };
        assert_eq!(seen[0], first);
        assert_eq!((seen[6].round, seen[6].left), (2, TAKEN * 114));
    }

    #[tokio::test]
    async fn rounds_end_when_the_interval_is_narrow() {
        let mut mock = Mock::default();
        let rounds = run_all(&mut mock, &ONE, 1000).await.0.unwrap();
        assert_eq!(rounds.rounds, FEWEST, "not before there are enough");
        let ended = rounds.tallies[0].ended.unwrap();
        assert_eq!((ended.why, ended.width), (Why::Narrow, Some(0.0)));
    }

    #[tokio::test]
    async fn rounds_end_when_the_time_is_over() {
        let mut mock = Mock { noise: vec![30_000], ..Mock::default() };
        let rounds = run_all(&mut mock, &ONE, 30).await.0.unwrap();
        assert_eq!((rounds.rounds, mock.rounds), (30, 30));
        let ended = rounds.tallies[0].ended.unwrap();
        assert_eq!(ended.why, Why::Time);
        assert!(ended.width.is_none_or(|width| width > ended.wanted), "{ended:?}");
        assert_eq!(
            run_all(&mut Mock::default(), &ONE, 0).await.0.unwrap().rounds,
            1,
            "the first is always whole"
        );
    }

    #[tokio::test]
    async fn a_case_that_is_done_leaves_its_time_to_the_others() {
        let restless = Spec { work: Workload::TcpRr, ..Spec::UDP };
        let mut mock = Mock { noise: vec![0, 30_000], ..Mock::default() };
        let time = FEWEST + 10;
        let rounds = run_all(&mut mock, &[Spec::UDP, restless], time).await.0.unwrap();
        assert_eq!(rounds.tallies[0].rounds, FEWEST);
        assert!(rounds.tallies[1].rounds > time, "{}", rounds.tallies[1].rounds);
    }

    #[tokio::test]
    async fn a_round_with_a_fault_is_put_aside_whole() {
        let mut mock = Mock { faulty: vec![2, 3], ..Mock::default() };
        let rounds = run_all(&mut mock, &ONE, 4).await.0.unwrap();
        assert_eq!((rounds.tallies[0].rounds, rounds.faults.len(), rounds.rounds), (3, 1, 4));
    }

    #[tokio::test]
    async fn a_good_round_is_waited_for_beyond_the_time_but_not_for_ever() {
        let mut mock = Mock { faulty: vec![1, 5], ..Mock::default() };
        let rounds = run_all(&mut mock, &ONE, 2).await.0.unwrap();
        assert_eq!((rounds.tallies[0].rounds, rounds.rounds), (1, 3));
        let mut mock = Mock { faulty: (1..=300).collect(), ..Mock::default() };
        assert!(matches!(run_all(&mut mock, &ONE, 2).await.0, Err(Error::NoRound(_))));
        assert_eq!(mock.slices.len(), MORE * ALL.len());
    }

    #[tokio::test]
    async fn a_fault_of_one_case_leaves_the_others_alone() {
        let other = Spec { cores: Cores::Cross, ..Spec::UDP };
        let mut mock = Mock { faulty: vec![2], ..Mock::default() };
        let rounds = run_all(&mut mock, &[Spec::UDP, other], 3).await.0.unwrap();
        let mut good: Vec<_> = rounds.tallies.iter().map(|tally| tally.rounds).collect();
        good.sort_unstable();
        assert_eq!(good, [2, 3]);
    }

    #[tokio::test]
    async fn a_round_without_a_figure_is_put_aside_too() {
        let mut mock = Mock { empty: vec![5], ..Mock::default() };
        let rounds = run_all(&mut mock, &ONE, 3).await.0.unwrap();
        let empty = Warning::Empty { mode: mock.slices[4].0.name(), case: Spec::UDP };
        assert_eq!((rounds.tallies[0].rounds, rounds.faults), (2, vec![empty]));
    }

    #[tokio::test]
    async fn an_error_ends_it() {
        let mut mock = Mock { fails_at: Some(4), ..Mock::default() };
        assert!(run_all(&mut mock, &ONE, 9).await.0.is_err());
        assert_eq!(mock.slices.len(), 4);
    }
}
