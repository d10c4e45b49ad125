//! Waiting for conditions: always by polling, always with a timeout.

use std::{
    env,
    fmt::Debug,
    panic::{Location, resume_unwind},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

/// The shortest and the longest poll interval.
const PACE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// What a loaded machine may add to any promised time.
pub(crate) const SLACK: Duration = Duration::from_secs(30);

/// The timeout on this machine: `VETHPATH_SLOWNESS` times as long on one that is slower, such as an emulated one.
pub(super) fn on_this_machine(time: Duration) -> Duration {
    let factor = env::var("VETHPATH_SLOWNESS").ok().and_then(|text| text.parse().ok());
    time.saturating_mul(factor.unwrap_or(1))
}

/// Polls `poll` until it succeeds, and returns its result. Panics with its last error when `within` has passed.
#[track_caller]
pub(crate) fn wait_until<T>(within: Duration, mut poll: impl FnMut() -> Result<T, String>) -> T {
    let (start, within) = (Instant::now(), on_this_machine(within));
    loop {
        let late = start.elapsed() > within;
        match poll() {
            Ok(found) => return found,
            Err(error) if late => panic!("not within {within:?}: {error}"),
            // Fast conditions are seen soon, and slow ones do not keep a CPU busy.
            Err(_) => thread::sleep((start.elapsed() / 10).clamp(PACE.0, PACE.1)),
        }
    }
}

/// Polls until `condition` holds. `what` completes the sentence "not within 5s: ...".
#[track_caller]
pub(crate) fn wait_for(within: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    wait_until(within, || if condition() { Ok(()) } else { Err(what.to_owned()) });
}

/// Polls until the result has been the same for a second, and returns it.
#[track_caller]
pub(crate) fn wait_until_stable<T: PartialEq>(mut poll: impl FnMut() -> T) -> T {
    let (mut last, mut since) = (poll(), Instant::now());
    wait_until(SLACK, || {
        let is_long = since.elapsed() > Duration::from_secs(1);
        let now = poll();
        if now != last {
            (last, since) = (now, Instant::now());
        } else if is_long {
            return Ok(now);
        }
        Err("there is always something new".to_owned())
    })
}

/// Polls for the whole of `time`, and panics as soon as `condition` does not hold.
pub(crate) fn holds_for(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let place = Location::caller();
    let start = Instant::now();
    while start.elapsed() < time {
        assert!(condition(), "{place}: {what}, after {:?}", start.elapsed());
        thread::sleep(PACE.1);
    }
}

/// Runs `work` for all `items` in parallel, each on a thread that has the item as its name in a panic.
pub(crate) fn in_parallel<T: Debug + Send, R: Send>(
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = items
            .into_iter()
            .map(|item| {
                let thread = thread::Builder::new().name(format!("{item:?}"));
                thread.spawn_scoped(scope, move || work(item)).expect("a thread")
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// Lets other threads of the test run until the guard of `stop_on_drop` is dropped, be it by a panic.
#[derive(Default)]
pub(crate) struct StopFlag(AtomicBool);

impl StopFlag {
    /// Whether to go on.
    pub(crate) fn is_running(&self) -> bool {
        !self.0.load(SeqCst)
    }

    /// Ends it at the end of the caller's scope.
    pub(crate) fn stop_on_drop(&self) -> impl Drop + '_ {
        StopOnDrop(self)
    }
}

struct StopOnDrop<'a>(&'a StopFlag);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, SeqCst);
    }
}
