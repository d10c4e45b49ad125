//! BPF programs of a few instructions, which are written out in the source: loads and runs them. aya would parse an ELF
//! object and the BTF of the kernel, which takes 20 ms.
#![expect(unsafe_code, reason = "bpf(2) takes structures with pointers")]

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::libc;

/// `BPF_PROG_LOAD` and `BPF_PROG_TEST_RUN` of `enum bpf_cmd`, and `BPF_PROG_TYPE_SCHED_CLS`.
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;
const SCHED_CLS: u32 = 3;

/// Most attempts to load a program: the verifier gives up (`EAGAIN`) when a signal arrives.
const TRIES: u32 = 10;

/// The size of a program's name in bytes, with its final zero (`BPF_OBJ_NAME_LEN`).
const NAME: usize = 16;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// An instruction: its code, the registers that it writes and reads, its offset and its immediate value.
pub(super) const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
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
    name: [u8; NAME],
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

/// Loads a tc program. It is freed with its descriptor and what it is attached to. Of a longer `name`, the kernel gets
/// the first 15 bytes.
///
/// # Errors
/// The kernel refuses the program: `CAP_BPF` (or `CAP_SYS_ADMIN`) and `CAP_NET_ADMIN` are needed.
pub(super) fn load(name: &str, instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let mut padded = [0; NAME];
    padded.iter_mut().zip(name.bytes().take(NAME - 1)).for_each(|(to, from)| *to = from);
    let license = c"Dual MIT/GPL";
    let mut load = Load {
        program_type: SCHED_CLS,
        count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: padded,
    };
    let mut tries = TRIES;
    loop {
        tries -= 1;
        // SAFETY: instructions and licence have the length stated, and outlive the call.
        match unsafe { bpf(PROG_LOAD, &mut load) } {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && tries > 0 => {}
            // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
            other => return other.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
        }
    }
}

/// Runs a program once on a frame, of which it writes a copy to `after`. Returns the program's result.
///
/// # Errors
/// The kernel refuses to run the program, or the buffers have different sizes.
pub(super) fn test_run(program: &OwnedFd, before: &[u8], after: &mut [u8]) -> io::Result<u32> {
    if before.len() != after.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let size = u32::try_from(before.len()).map_err(io::Error::other)?;
    let mut run = Run {
        program: program.as_raw_fd().cast_unsigned(),
        result: 0,
        size_in: size,
        size_out: size,
        data_in: before.as_ptr() as u64,
        data_out: after.as_mut_ptr() as u64,
        repeat: 1,
        duration: 0,
    };
    // SAFETY: the kernel reads and writes the number of bytes stated, in buffers of that length which outlive the call.
    unsafe { bpf(PROG_TEST_RUN, &mut run)? };
    Ok(run.result)
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
