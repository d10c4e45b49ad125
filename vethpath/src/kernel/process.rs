//! Limits, stack, memory and descriptors of this process.
#![expect(unsafe_code, reason = "close_range and malloc_trim have no safe interface")]

use std::thread;

use nix::{
    libc,
    sys::resource::{Resource, getrlimit, setrlimit},
};

/// The usual stack size, in bytes.
const USUAL_STACK: u64 = 8 << 20;

/// The smallest sufficient stack size, in bytes.
const LEAST_STACK: u64 = 1 << 20;

/// Whether the stack limit of this process's main thread is too small.
#[must_use]
pub fn has_small_stack() -> bool {
    getrlimit(Resource::RLIMIT_STACK).is_ok_and(|(soft, _)| soft < LEAST_STACK)
}

/// Runs `work` on a new thread with a stack of 8 MiB, to which the limit does not apply.
pub fn run_on_default_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let usual = usize::try_from(USUAL_STACK).unwrap_or(usize::MAX);
    thread::scope(|scope| match thread::Builder::new().stack_size(usual).spawn_scoped(scope, work) {
        Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        Err(error) => panic!("cannot create a thread: {error}"),
    })
}

/// Raises the soft limit of open files to the hard limit. A lab of a thousand hosts needs more than the usual 1024,
/// which is a bound for programs that use `select`. An error is ignored: large labs then fail with `EMFILE`.
pub fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Sets close-on-exec on inherited descriptors, except the standard three. Otherwise a long-lived child would keep
/// a lock or a pipe end of the caller open. Has no effect on kernels before 5.11.
pub fn close_inherited_on_exec() {
    // SAFETY: CLOSE_RANGE_CLOEXEC closes nothing. It sets close-on-exec, which all descriptors that this process
    // opens have anyway.
    unsafe {
        libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed());
    }
}

/// Returns freed heap memory to the kernel. A full resync allocates several times what is kept of it, and the
/// freed blocks lie between those that are kept.
pub fn trim_heap() {
    // SAFETY: malloc_trim takes no pointer and is thread-safe (malloc_trim(3)).
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
