//! Stack size. `ulimit -s` may leave less than the argument parser needs.

use std::thread;

use nix::sys::resource::{Resource, getrlimit};

/// The usual stack size, in bytes.
const USUAL: u64 = 8 << 20;

/// The smallest sufficient stack size, in bytes.
const LEAST: u64 = 1 << 20;

/// Whether the stack limit of this process's main thread is too small.
#[must_use]
pub fn is_small() -> bool {
    getrlimit(Resource::RLIMIT_STACK).is_ok_and(|(soft, _)| soft < LEAST)
}

/// Runs `work` on a new thread with a stack of 8 MiB, to which the limit does not apply.
pub fn run_on_default_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let usual = usize::try_from(USUAL).unwrap_or(usize::MAX);
    thread::scope(|scope| match thread::Builder::new().stack_size(usual).spawn_scoped(scope, work) {
        Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        Err(error) => panic!("cannot create a thread: {error}"),
    })
}
