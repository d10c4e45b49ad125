//! Test hooks, in debug builds only: the process kills itself at a given line of the journal, within a batch of steps or
//! within a move of counts, waits for a signal at a given place, or panics there.

/// Kills this process with SIGKILL if `VETHPATH_STOP_AFTER` is the number of calls of this function so far.
#[cfg(debug_assertions)]
pub fn kill_point() {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use nix::{
        sys::signal::{Signal, raise},
        unistd,
    };

    static LINES: AtomicU32 = AtomicU32::new(0);
    let line = LINES.fetch_add(1, Relaxed) + 1;
    let value = std::env::var("VETHPATH_STOP_AFTER").ok().and_then(|number| number.parse().ok());
    if value == Some(line) {
        let _ = raise(Signal::SIGKILL);
        // The signal arrives before anything else is done.
        unistd::pause();
    }
}

/// Does nothing in release builds.
#[cfg(not(debug_assertions))]
pub fn kill_point() {}

/// Prints a message and waits if `place` is in the list `VETHPATH_WAIT_AT`, until a file exists whose path is that of
/// `VETHPATH_WAIT_FOR` with `-` and the place behind it. Without that variable, only an interrupt ends it.
#[cfg(debug_assertions)]
pub async fn wait_point(place: &str) {
    use std::io::Write;

    const INTERVAL: std::time::Duration = std::time::Duration::from_millis(5);
    if std::env::var("VETHPATH_WAIT_AT").is_ok_and(|value| value.split(',').any(|at| at == place)) {
        let _ = writeln!(std::io::stderr(), "waiting at {place}");
        let file = std::env::var("VETHPATH_WAIT_FOR")
            .map(|path| std::path::PathBuf::from(format!("{path}-{place}")));
        while !file.as_ref().is_ok_and(|file| file.exists()) {
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

/// Returns at once in release builds.
#[cfg(not(debug_assertions))]
pub fn wait_point(_place: &str) -> std::future::Ready<()> {
    std::future::ready(())
}

/// Panics if `VETHPATH_PANIC_AT` is this place.
#[cfg(debug_assertions)]
pub fn panic_point(place: &str) {
    let is_here = std::env::var("VETHPATH_PANIC_AT").is_ok_and(|at| at == place);
    assert!(!is_here, "a test's panic at {place}");
}

/// Does nothing in release builds.
#[cfg(not(debug_assertions))]
pub fn panic_point(_place: &str) {}
