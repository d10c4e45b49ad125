//! What this process inherits of signals from whoever starts it.
#![expect(unsafe_code, reason = "nix calls a change of a disposition unsafe, which concerns handlers")]

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};

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
