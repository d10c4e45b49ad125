//! Dying at a given line of the journal, or within steps that are done together, for tests of what a kill
//! leaves; and waiting for a signal at a given place, for tests of interrupts. In debug builds alone.

/// Kills this process, as `kill -9` would, if `VETHPATH_STOP_AFTER` is the number of times that this
/// has been called.
#[cfg(debug_assertions)]
pub fn here_if_told() {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use nix::{
        sys::signal::{Signal, raise},
        unistd,
    };

    static LINES: AtomicU32 = AtomicU32::new(0);
    let line = LINES.fetch_add(1, Relaxed) + 1;
    let told = std::env::var("VETHPATH_STOP_AFTER").ok().and_then(|number| number.parse().ok());
    if told == Some(line) {
        let _ = raise(Signal::SIGKILL);
        // The signal arrives before anything else is done.
        unistd::pause();
    }
}

/// Does nothing: nobody kills a release build this way.
#[cfg(not(debug_assertions))]
pub fn here_if_told() {}

/// Says so and waits for ever, as far as nobody interrupts, if this place is in the list `VETHPATH_WAIT_AT`.
#[cfg(debug_assertions)]
pub async fn here_if_told_to_wait(place: &str) {
    if std::env::var("VETHPATH_WAIT_AT").is_ok_and(|told| told.split(',').any(|at| at == place)) {
        eprintln!("waiting at {place}");
        std::future::pending().await
    }
}

/// Waits for nothing.
#[cfg(not(debug_assertions))]
pub fn here_if_told_to_wait(_place: &str) -> std::future::Ready<()> {
    std::future::ready(())
}
