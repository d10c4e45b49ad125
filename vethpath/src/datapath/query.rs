//! Queries about programs of the machine: those at a tcx hook, in one system call (`BPF_PROG_QUERY`; aya also looks up
//! each program, which takes three more), and those of the netfilter type, which no ruleset shows.
#![expect(unsafe_code, reason = "aya asks for more than is needed, a thousand times a second")]

use std::io::{self, ErrorKind};

use aya::programs::{ProgramError, TcAttachType, loaded_programs};
use aya_obj::generated::bpf_prog_type;
use nix::libc::{ENOENT, SYS_bpf, syscall};

use crate::kernel::{Context, Result};

/// `BPF_PROG_QUERY` of `linux/bpf.h`.
const PROG_QUERY: i32 = 16;

/// `BPF_TCX_INGRESS` and `BPF_TCX_EGRESS` of `enum bpf_attach_type`.
const INGRESS: u32 = 46;
const EGRESS: u32 = 47;

/// Maximum number of programs at a hook (`BPF_MPROG_MAX` of `linux/bpf_mprog.h`).
const MOST: usize = 64;

/// The `query` part of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    unused: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The ids of the programs at a hook of an interface in the calling thread's namespace, in order.
///
/// # Errors
/// The interface is gone, or the kernel has no tcx (`EINVAL`).
pub fn tcx(ifindex: u32, hook: TcAttachType) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; MOST];
    let mut attributes = Attributes {
        ifindex,
        attach_type: if matches!(hook, TcAttachType::Egress) { EGRESS } else { INGRESS },
        ids: ids.as_mut_ptr() as u64,
        count: u32::try_from(MOST).unwrap_or_default(),
        ..Attributes::default()
    };
    // SAFETY: the kernel writes at most `count` ids to `ids`, which has room for that many. The attributes have the
    // size that is passed.
    let result = unsafe { syscall(SYS_bpf, PROG_QUERY, &raw mut attributes, size_of::<Attributes>()) };
    if result < 0 {
        let error = io::Error::last_os_error();
        // No program was ever attached here.
        return if error.raw_os_error() == Some(ENOENT) { Ok(Vec::new()) } else { Err(error) };
    }
    Ok(ids[..MOST.min(attributes.count as usize)].to_vec())
}

/// Whether a program for netfilter hooks (`BPF_PROG_TYPE_NETFILTER`, Linux 6.4) is loaded on the machine. Its namespace
/// and hook are unknown: only nfnetlink_hook reports them, which few kernels have.
///
/// # Errors
/// The kernel refuses to list programs.
pub fn has_netfilter_programs() -> Result<bool> {
    for program in loaded_programs() {
        match program {
            Ok(program) if program.program_type() == bpf_prog_type::BPF_PROG_TYPE_NETFILTER => {
                return Ok(true);
            }
            Ok(_) => {}
            // The program was unloaded meanwhile.
            Err(ProgramError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).doing("list", "BPF programs"),
        }
    }
    Ok(false)
}
