//! Defers SIGINT, SIGTERM and SIGHUP until temporary state has been restored.
//!
//! It installs a handler instead of `SIG_IGN`: an ignored signal stays ignored across `exec`, so child processes would
//! ignore it too.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::error::Error;

static SEEN: AtomicBool = AtomicBool::new(false);

/// Whether such a signal has arrived.
pub(crate) fn seen() -> bool {
    SEEN.load(Ordering::Relaxed)
}

/// Installs the handler. From then on these signals do not end this process.
pub(crate) fn watch() -> Result<(), Error> {
    let action = SigAction::new(SigHandler::Handler(record), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }
            .map_err(|source| Error::System { operation: "watch for Ctrl-C", source })?;
    }
    Ok(())
}

extern "C" fn record(_signal: nix::libc::c_int) {
    SEEN.store(true, Ordering::Relaxed);
}
