//! BPF programs on netfilter hooks. No ruleset shows them.

use std::io::ErrorKind;

use aya::programs::{ProgramError, loaded_programs};
use aya_obj::generated::bpf_prog_type;

use super::{Result, error::Context};

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
