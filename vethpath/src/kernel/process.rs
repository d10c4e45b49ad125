//! This process: its signals, limits, stack, memory and descriptors.
#![expect(
    unsafe_code,
    reason = "close_range and malloc_trim have no safe interface, and nix calls a change of a disposition unsafe"
)]

use std::{path::Path, thread, time::Duration};

use futures_util::future::select_all;
use nix::{
    libc,
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask},
    },
    time::{ClockId, clock_gettime},
};
use tokio::signal::unix::{self, SignalKind};

use super::{Context, Result, files};

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
/// a lock or a pipe end of the caller open.
/// Minimum kernel: Linux 5.11 (`CLOSE_RANGE_CLOEXEC`); no effect before.
pub fn close_inherited_on_exec() {
    // SAFETY: CLOSE_RANGE_CLOEXEC closes nothing. It sets close-on-exec, which all descriptors that this process
    // opens have anyway.
    unsafe {
        libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed());
    }
}

/// Gives the calling thread, and those that it starts from here on, the highest priority among normal threads: a nice
/// value of -20. It runs as soon as it is woken, even if all CPUs are busy.
///
/// # Errors
/// CAP_SYS_NICE is missing, and RLIMIT_NICE does not permit it.
pub fn raise_priority() -> Result<()> {
    /// See `getpriority(2)`.
    const HIGHEST: i32 = -20;
    let raised = rustix::process::setpriority_process(None, HIGHEST).map_err(std::io::Error::from);
    raised.doing("raise", "the priority")
}

/// Names the calling thread, as `ps` and `pgrep` show it. A process that was started from `/proc/self/exe` would
/// be named `exe`.
pub fn set_name() {
    // It fails only for an invalid pointer.
    let _ = prctl::set_name(c"vethpath");
}

/// The resident memory of this process, in KiB.
#[must_use]
pub fn resident_kib() -> Option<u64> {
    own_status("VmRSS:")?.split_whitespace().next()?.parse().ok()
}

/// The CPU time that the calling thread has used.
#[must_use]
pub fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
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

/// Resets inherited signal state. All signals are unblocked. SIGCHLD gets its default disposition, so that children
/// can be waited for. Signals that the parent ignores on purpose (SIGHUP under nohup) stay ignored. SIGXFSZ is ignored,
/// so that a write past the file size limit fails with EFBIG.
pub fn reset_signals() {
    // These calls fail only for invalid signals.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    // SAFETY: no handler is installed.
    unsafe {
        let _ = signal(Signal::SIGCHLD, SigHandler::SigDfl);
        let _ = signal(Signal::SIGXFSZ, SigHandler::SigIgn);
    }
}

/// Restores what [`reset_signals`] ignores, before `exec` of another program.
pub fn restore_ignored_signals() {
    // SAFETY: no handler is installed.
    unsafe {
        let _ = signal(Signal::SIGXFSZ, SigHandler::SigDfl);
    }
}

/// Whether this process ignores a signal, by the mask in `/proc/self/status`.
fn is_ignored(signal: Signal) -> bool {
    let mask = own_status("SigIgn:").and_then(|mask| u64::from_str_radix(&mask, 16).ok());
    mask.is_some_and(|mask| mask & 1 << (signal as i32 - 1) != 0)
}

/// The rest of the line of `/proc/self/status` that begins with `label`.
fn own_status(label: &str) -> Option<String> {
    let status = files::read_bounded(Path::new("/proc/self/status"), files::LIST).ok()?;
    status.lines().find_map(|line| Some(line.strip_prefix(label)?.trim().to_owned()))
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
