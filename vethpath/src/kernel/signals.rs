//! Signals: the state inherited from the parent process, and waiting for those that end this process.
#![expect(unsafe_code, reason = "nix calls a change of a disposition unsafe, which concerns handlers")]

use std::path::Path;

use futures_util::future::select_all;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use tokio::signal::unix::{self, SignalKind};

use super::files;

/// Resets inherited signal state. All signals are unblocked. SIGCHLD gets its default disposition, so that children
/// can be waited for. Signals that the parent ignores on purpose (SIGHUP under nohup) stay ignored. SIGXFSZ is ignored,
/// so that a write past the file size limit fails with EFBIG.
pub fn reset() {
    // These calls fail only for invalid signals.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    // SAFETY: no handler is installed.
    unsafe {
        let _ = signal(Signal::SIGCHLD, SigHandler::SigDfl);
        let _ = signal(Signal::SIGXFSZ, SigHandler::SigIgn);
    }
}

/// Restores what [`reset`] ignores, before `exec` of another program.
pub fn unignore() {
    // SAFETY: no handler is installed.
    unsafe {
        let _ = signal(Signal::SIGXFSZ, SigHandler::SigDfl);
    }
}

/// Whether this process ignores a signal, by the mask in `/proc/self/status`.
fn is_ignored(signal: Signal) -> bool {
    let status = files::read_bounded(Path::new("/proc/self/status"), files::LIST).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (signal as i32 - 1) != 0)
}

/// Installs the handlers now. The future is ready at the next SIGINT, SIGTERM or SIGHUP (sent by a closed terminal).
pub fn interrupted() -> impl Future<Output = ()> {
    // nohup(1) ignores SIGHUP, and a handler would undo that.
    let hangup = (!is_ignored(Signal::SIGHUP)).then(SignalKind::hangup);
    let kinds = [SignalKind::interrupt(), SignalKind::terminate()].into_iter().chain(hangup);
    let signals: Vec<_> = kinds.filter_map(|kind| unix::signal(kind).ok()).collect();
    async move {
        if signals.is_empty() {
            return std::future::pending().await;
        }
        let each = signals.into_iter().map(|mut signal| Box::pin(async move { signal.recv().await }));
        let _ = select_all(each).await;
    }
}
