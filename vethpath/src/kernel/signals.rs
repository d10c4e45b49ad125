//! Signals: what this process inherits of them from whoever starts it, and waiting for those that end it.
#![expect(unsafe_code, reason = "nix calls a change of a disposition unsafe, which concerns handlers")]

use std::path::Path;

use futures_util::future::select_all;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use tokio::signal::unix::{self, SignalKind};

use super::files;

/// Has signals do what they usually do: none is blocked, and children can be waited for (SIGCHLD is not ignored). What a
/// program ignores on purpose (SIGHUP under nohup) stays ignored. A limit on the length of files is an error of what is
/// written (SIGXFSZ is ignored, EFBIG comes).
pub fn reset() {
    // Both fail for signals that there are not.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    // SAFETY: no handler is installed.
    unsafe {
        let _ = signal(Signal::SIGCHLD, SigHandler::SigDfl);
        let _ = signal(Signal::SIGXFSZ, SigHandler::SigIgn);
    }
}

/// Gives back what [`reset`] ignores, for a program that is executed in the place of this one.
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

/// Listens from now on, and returns at the next SIGINT, SIGTERM or SIGHUP, which a closed terminal sends.
pub fn interrupted() -> impl Future<Output = ()> {
    // nohup(1) ignores it, and a handler would undo that.
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
