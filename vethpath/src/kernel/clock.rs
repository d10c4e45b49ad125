//! The clock that BPF programs read: the kernel's own `CLOCK_MONOTONIC`. A process in a time namespace reads a shifted
//! clock, from every monotonic clock (`timens_add_monotonic` in linux/time_namespace.h). The offsets that it can read
//! (`/proc/PID/timens_offsets`) are those of its children's time namespace. So a BPF program reads the clock.

use std::{io, os::fd::OwnedFd, time::Duration};

use super::{
    Result,
    bpf_program::{self, Instruction, instruction},
    error::Context,
};

/// The name of the program.
const NAME: &str = "vethpath_clock";

/// `bpf_ktime_get_ns` and `bpf_skb_store_bytes` of `enum bpf_func_id`.
const KTIME_GET_NS: i32 = 5;
const SKB_STORE_BYTES: i32 = 9;

/// Length of the frame: one without a payload is refused since Linux 6.1 (`convert___skb_to_skb`).
const FRAME: usize = 64;

/// Writes the time to the first eight bytes of the frame.
const PROGRAM: [Instruction; 11] = [
    instruction(0xbf, 6, 1, 0, 0),               // r6 = r1: the frame
    instruction(0x85, 0, 0, 0, KTIME_GET_NS),    // r0 = the time
    instruction(0x7b, 10, 0, -8, 0),             // *(u64 *)(r10 - 8) = r0
    instruction(0xbf, 1, 6, 0, 0),               // r1 = r6
    instruction(0xb7, 2, 0, 0, 0),               // r2 = 0: where to
    instruction(0xbf, 3, 10, 0, 0),              // r3 = r10
    instruction(0x07, 3, 0, 0, -8),              // r3 += -8: where from
    instruction(0xb7, 4, 0, 0, 8),               // r4 = 8: how many
    instruction(0xb7, 5, 0, 0, 0),               // r5 = 0: no flags
    instruction(0x85, 0, 0, 0, SKB_STORE_BYTES), // r0 = 0, or less
    instruction(0x95, 0, 0, 0, 0),               // return r0
];

/// The kernel's monotonic clock, independent of the time namespace of this process.
#[derive(Debug)]
pub struct Clock(OwnedFd);

impl Clock {
    /// Loads the program that reads the time. It is freed with the clock.
    ///
    /// # Errors
    /// The kernel refuses the program: `CAP_BPF` (or `CAP_SYS_ADMIN`) and `CAP_NET_ADMIN` are needed.
    pub fn open() -> Result<Self> {
        bpf_program::load(NAME, &PROGRAM).map(Self).doing("load program", NAME)
    }

    /// The time since boot, without suspend.
    ///
    /// # Errors
    /// The kernel refuses to run the program.
    pub fn now(&self) -> Result<Duration> {
        self.run().map(Duration::from_nanos).doing("run program", NAME)
    }

    fn run(&self) -> io::Result<u64> {
        let mut after = [0_u8; FRAME];
        let result = bpf_program::test_run(&self.0, &[0; FRAME], &mut after)?;
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result.cast_signed().wrapping_neg()));
        }
        let (time, _) = after.split_at(size_of::<u64>());
        time.try_into().map(u64::from_ne_bytes).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use nix::time::{ClockId, clock_gettime};

    use super::*;
    use crate::kernel::probe::privileges;

    /// Tests run in the initial time namespace, where user space reads the same clock.
    #[test]
    fn it_is_the_clock_that_programs_read() {
        if privileges().is_err() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root");
            eprintln!("SKIPPED: not root");
            return;
        }
        let clock = Clock::open().unwrap();
        let user = || Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
        for _ in 0..100 {
            let (before, now, after) = (user(), clock.now().unwrap(), user());
            assert!(before <= now && now <= after, "{before:?} {now:?} {after:?}");
        }
    }
}
