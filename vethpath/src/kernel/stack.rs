//! Room for the stack: a shell's `ulimit -s` may leave less than an argument parser takes.

use std::thread;

use nix::sys::resource::{Resource, getrlimit};

/// What a thread gets by default where nobody has set a limit.
const USUAL: u64 = 8 << 20;

/// Less than this is too little.
const LEAST: u64 = 1 << 20;

/// Whether the stack of this process's first thread may not grow as far as is needed.
#[must_use]
pub fn is_small() -> bool {
    getrlimit(Resource::RLIMIT_STACK).is_ok_and(|(soft, _)| soft < LEAST)
}

/// Runs `work` on a thread, whose stack no limit is about.
pub fn run_on_default_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let usual = usize::try_from(USUAL).unwrap_or(usize::MAX);
    thread::scope(|scope| match thread::Builder::new().stack_size(usual).spawn_scoped(scope, work) {
        Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        Err(error) => panic!("cannot create a thread: {error}"),
    })
}
