//! Ctrl-C and polite requests to end: noted here, obeyed once everything is as it was.
//!
//! A handler, not `SIG_IGN`: an ignored signal stays ignored across `exec`, and then the programs
//! we start would not hear it either.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::error::Error;

static SEEN: AtomicBool = AtomicBool::new(false);

/// Whether anybody asked us to end.
pub(crate) fn seen() -> bool {
    SEEN.load(Ordering::Relaxed)
}

/// From now on, such signals are noted and do not end this process.
pub(crate) fn watch() -> Result<(), Error> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic and does nothing else, which is allowed at any point.
        unsafe { sigaction(signal, &action) }
            .map_err(|source| Error::System { operation: "watch for Ctrl-C", source })?;
    }
    Ok(())
}

extern "C" fn note(_signal: nix::libc::c_int) {
    SEEN.store(true, Ordering::Relaxed);
}
