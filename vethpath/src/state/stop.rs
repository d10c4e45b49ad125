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

/// Says so and waits, if this place is in the list `VETHPATH_WAIT_AT`: until there is the file `VETHPATH_WAIT_FOR`, or
/// for ever without one, as far as nobody interrupts.
#[cfg(debug_assertions)]
pub async fn here_if_told_to_wait(place: &str) {
    use std::io::Write;

    const INTERVAL: std::time::Duration = std::time::Duration::from_millis(5);
    if std::env::var("VETHPATH_WAIT_AT").is_ok_and(|told| told.split(',').any(|at| at == place)) {
        let _ = writeln!(std::io::stderr(), "waiting at {place}");
        let file = std::env::var_os("VETHPATH_WAIT_FOR");
        while !file.as_ref().is_some_and(|file| std::path::Path::new(file).exists()) {
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

/// Waits for nothing.
#[cfg(not(debug_assertions))]
pub fn here_if_told_to_wait(_place: &str) -> std::future::Ready<()> {
    std::future::ready(())
}
