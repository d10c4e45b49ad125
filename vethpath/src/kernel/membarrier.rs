//! Waiting until no program can still hold a map element that was deleted.
#![expect(unsafe_code, reason = "nix has no membarrier")]

use std::io;

use nix::libc::{SYS_membarrier, syscall};

use super::{Result, error::Context};

/// `MEMBARRIER_CMD_GLOBAL` of `linux/membarrier.h`.
const GLOBAL: i32 = 1;

/// Returns after an RCU grace period (`synchronize_rcu` in kernel/sched/membarrier.c), that is,
/// after every BPF program that was running when it was called has ended.
///
/// A hash map reuses a deleted element at once, also for another key. A program that was preempted
/// between its lookup and its read could then read another station's entry; a grace period between
/// deleting and inserting rules that out.
///
/// # Errors
/// The kernel was built without membarrier, or runs with `nohz_full` CPUs.
pub fn grace_period() -> Result<()> {
    // SAFETY: the call reads three integers and touches no memory of ours.
    let result = unsafe { syscall(SYS_membarrier, GLOBAL, 0, 0) };
    let result = if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    result.doing("wait for", "an RCU grace period")
}
