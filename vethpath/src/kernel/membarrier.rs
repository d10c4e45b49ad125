//! Waits until no program can still hold a map element that was deleted.
#![expect(unsafe_code, reason = "nix has no membarrier")]

use std::time::Duration;

use nix::libc::{SYS_membarrier, syscall};

/// `MEMBARRIER_CMD_GLOBAL` of `linux/membarrier.h`.
const GLOBAL: i32 = 1;

/// Sleep used where membarrier is not available (kernels with `nohz_full` CPUs, or built without it): many times the
/// run time of a program.
const INSTEAD: Duration = Duration::from_millis(100);

/// Returns after an RCU grace period (`synchronize_rcu` in kernel/sched/membarrier.c), that is,
/// after every BPF program that was running when it was called has ended.
///
/// A hash map reuses a deleted element at once, also for another key. A program that was preempted between its lookup
/// and its read could then read another station's entry. A grace period between deletion and insertion prevents that.
pub fn grace_period() {
    // SAFETY: the call reads three integers and touches no memory of ours.
    let result = unsafe { syscall(SYS_membarrier, GLOBAL, 0, 0) };
    if result < 0 {
        std::thread::sleep(INSTEAD);
    }
}
