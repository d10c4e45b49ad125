//! The clock that BPF programs read: the kernel's own `CLOCK_MONOTONIC`. A process in a time namespace reads a shifted
//! clock, from every monotonic clock (`timens_add_monotonic` in linux/time_namespace.h). The offsets that it can read
//! (`/proc/PID/timens_offsets`) are those of its children's time namespace. So a BPF program reads the clock.
#![expect(
    unsafe_code,
    reason = "loading and running a program of a few instructions takes aya the whole of BTF"
)]

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use nix::libc;

use super::{Result, error::Context};

/// `BPF_PROG_LOAD` and `BPF_PROG_TEST_RUN` of `enum bpf_cmd`, and `BPF_PROG_TYPE_SCHED_CLS`.
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;
const SCHED_CLS: u32 = 3;

/// `bpf_ktime_get_ns` and `bpf_skb_store_bytes` of `enum bpf_func_id`.
const KTIME_GET_NS: i32 = 5;
const SKB_STORE_BYTES: i32 = 9;

/// Most attempts to load the program: the verifier gives up (`EAGAIN`) when a signal arrives.
const TRIES: u32 = 10;

/// Length of the frame: one without a payload is refused since Linux 6.1 (`convert___skb_to_skb`).
const FRAME: u32 = 64;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Number of instructions of the program.
const COUNT: u32 = 11;

/// Writes the time to the first eight bytes of the frame.
const PROGRAM: [Instruction; COUNT as usize] = [
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

const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    let registers = if cfg!(target_endian = "little") { to | from << 4 } else { to << 4 | from };
    Instruction { code, registers, offset, immediate }
}

/// The part of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The part of it for `BPF_PROG_TEST_RUN`.
#[repr(C)]
struct Run {
    program: u32,
    result: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

/// The kernel's monotonic clock, independent of the time namespace of this process.
#[derive(Debug)]
pub struct Clock(OwnedFd);

impl Clock {
    /// Loads the program that reads the time. It is freed with the clock.
    ///
    /// # Errors
    /// The kernel refuses the program: `CAP_BPF` (or `CAP_SYS_ADMIN`) and `CAP_NET_ADMIN` are needed.
    pub fn open() -> Result<Self> {
        load().map(Self).doing("load program", "vethpath_clock")
    }

    /// The time since boot, without suspend.
    ///
    /// # Errors
    /// The kernel refuses to run the program.
    pub fn now(&self) -> Result<Duration> {
        self.run().map(Duration::from_nanos).doing("run program", "vethpath_clock")
    }

    fn run(&self) -> io::Result<u64> {
        let before = [0_u8; FRAME as usize];
        let mut after = [0_u8; FRAME as usize];
        let mut run = Run {
            program: self.0.as_raw_fd().cast_unsigned(),
            result: 0,
            size_in: FRAME,
            size_out: FRAME,
            data_in: before.as_ptr() as u64,
            data_out: after.as_mut_ptr() as u64,
            repeat: 1,
            duration: 0,
        };
        // SAFETY: the kernel reads and writes the number of bytes stated, in buffers of that length which outlive the
        // call.
        unsafe { bpf(PROG_TEST_RUN, &mut run)? };
        if run.result != 0 {
            return Err(io::Error::from_raw_os_error(run.result.cast_signed().wrapping_neg()));
        }
        let (time, _) = after.split_at(size_of::<u64>());
        time.try_into().map(u64::from_ne_bytes).map_err(io::Error::other)
    }
}

fn load() -> io::Result<OwnedFd> {
    let mut name = [0; 16];
    name[..14].copy_from_slice(b"vethpath_clock");
    let license = c"Dual MIT/GPL";
    let mut load = Load {
        program_type: SCHED_CLS,
        count: COUNT,
        instructions: PROGRAM.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name,
    };
    let mut tries = TRIES;
    loop {
        tries -= 1;
        // SAFETY: instructions and licence have the length stated, and live as long as the process.
        match unsafe { bpf(PROG_LOAD, &mut load) } {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && tries > 0 => {}
            // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
            other => return other.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
        }
    }
}

/// The bpf(2) system call. A descriptor that it returns is close-on-exec.
///
/// # Safety
/// `attributes` is the structure that `command` expects, and its pointers are valid.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: as the caller promises; the attributes have the size that is passed.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(result).map_err(io::Error::other) }
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
