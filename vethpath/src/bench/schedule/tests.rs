use super::*;
use crate::bench::work::{Cores, Work};

const ALL: [Mode; 3] = [Mode::Cable, Mode::Bridge, Mode::Fast];
const ONE: [Spec; 1] = [Spec::UDP];

/// The duration of a slice on the mock's clock.
const TAKEN: Duration = Duration::from_millis(100);

/// Records the calls. Slices fail by number.
#[derive(Default)]
struct Mock {
    begun: usize,
    entered: Vec<Mode>,
    asked: Vec<(Mode, usize)>,
    faulty: Vec<usize>,
    empty: Vec<usize>,
    fails_at: Option<usize>,
    /// By case: the variation of the figure from round to round, in nanoseconds.
    noise: Vec<u64>,
}

impl Executor for Mock {
    fn elapsed(&self) -> Duration {
        TAKEN * u32::try_from(self.asked.len()).unwrap()
    }

    async fn begin_round(&mut self) -> Result<(), Error> {
        self.begun += 1;
        Ok(())
    }

    async fn enter(&mut self, mode: Mode) -> Result<(), Error> {
        self.entered.push(mode);
        Ok(())
    }

    async fn slice(&mut self, mode: Mode, case: usize, _: Timing) -> Result<Slice, Error> {
        assert_eq!(self.entered.last(), Some(&mode));
        self.asked.push((mode, case));
        let number = self.asked.len();
        if self.fails_at == Some(number) {
            return Err(Error::Interrupted);
        }
        let mut measured = Measured::round_trips().unwrap();
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
async fn run_all(mock: &mut Mock, cases: &[Spec], rounds: usize) -> (Result<Rounds, Error>, Vec<Progress>) {
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
    for (modes, slices) in mock.entered.chunks(3).zip(mock.asked.chunks(6)) {
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
    assert!(mock.asked.iter().step_by(6).any(|slice| slice.1 == 1), "the second case is never first");
    let first = Progress { round: 1, left: TAKEN * 120, mode: mock.asked[0].0, case: seen[0].case };
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
    assert_eq!((rounds.rounds, mock.begun), (30, 30));
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
    let restless = Spec { work: Work::TcpRr, ..Spec::UDP };
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
    assert_eq!(mock.asked.len(), MORE * ALL.len());
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
    let empty = Warning::Empty { mode: mock.asked[4].0.name(), case: Spec::UDP };
    assert_eq!((rounds.tallies[0].rounds, rounds.faults), (2, vec![empty]));
}

#[tokio::test]
async fn an_error_ends_it() {
    let mut mock = Mock { fails_at: Some(4), ..Mock::default() };
    assert!(run_all(&mut mock, &ONE, 9).await.0.is_err());
    assert_eq!(mock.asked.len(), 4);
}
