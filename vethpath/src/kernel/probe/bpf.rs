//! Whether the kernel supports our programs.

use std::{fs, io::Read as _};

use aya::{
    programs::{ProgramError, ProgramType, SchedClassifier, tc::TcAttachType},
    sys::{BpfHelper, is_helper_supported},
};
use nix::libc;

use super::Check;

const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Whether the kernel has BTF, with which programs are relocated.
pub(super) fn btf() -> Check {
    // `struct btf_header` begins with this magic number in the kernel's byte order.
    const MAGIC: [u8; 2] = 0xeb9f_u16.to_ne_bytes();
    let mut start = [0; 2];
    match fs::File::open(BTF).and_then(|mut file| file.read_exact(&mut start)) {
        Ok(()) if start == MAGIC => Check::ok("BTF", BTF),
        Ok(()) => Check::missing("BTF", format!("{BTF} is not BTF"), ADVICE_BTF),
        Err(error) => Check::missing("BTF", format!("{BTF}: {error}"), ADVICE_BTF),
    }
}

const ADVICE_BTF: &str =
    "use a kernel with CONFIG_DEBUG_INFO_BTF, as all large distributions have, and mount /sys";

pub(super) fn checks() -> Vec<Check> {
    vec![
        tcx(),
        helper("bpf_redirect_peer", BpfHelper::BPF_FUNC_redirect_peer, "5.10"),
        helper("bpf_ktime_get_coarse_ns", BpfHelper::BPF_FUNC_ktime_get_coarse_ns, "5.11"),
    ]
}

/// Queries the tcx programs of `lo`, which every namespace has (`tcx_prog_query`).
fn tcx() -> Check {
    match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
        Ok(_) => Check::ok("tcx", "supported"),
        Err(error) if errno(&error) == Some(libc::EINVAL) => Check::warning(
            "tcx",
            "not supported",
            "programs are attached with clsact instead, where others can replace them; Linux 6.6 and later have tcx",
        ),
        Err(error) => Check::missing("tcx", format!("cannot be tried: {}", reason(&error)), ADVICE_BPF),
    }
}

const ADVICE_BPF: &str = "run vethpath as root, on a kernel with CONFIG_BPF_SYSCALL that is not locked down";

/// Loads a program of two instructions that calls the helper.
fn helper(name: &str, helper: BpfHelper, since: &str) -> Check {
    match is_helper_supported(ProgramType::SchedClassifier, helper) {
        Ok(true) => Check::ok(name, "supported"),
        Ok(false) => {
            let advice = format!("use Linux {since} or later with CONFIG_NET_CLS_ACT");
            Check::missing(name, "not supported", advice)
        }
        Err(error) => Check::missing(name, format!("cannot be tried: {}", reason(&error)), ADVICE_BPF),
    }
}

fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
}

/// The text of the system error, which names the errno, not that of the library.
fn reason(error: &ProgramError) -> String {
    match error {
        ProgramError::SyscallError(error) => format!("{}: {}", error.call, error.io_error),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{
        probe::{Status, privileges},
        sandbox::succeeds,
    };

    #[test]
    fn what_the_kernel_lacks_is_told_from_what_cannot_be_tried() {
        if privileges().is_err() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root");
            eprintln!("SKIPPED: not root");
            return;
        }
        // A helper for kprobes: the kernel has it, and refuses it to this program type.
        let foreign = helper("probe_read", BpfHelper::BPF_FUNC_override_return, "4.16");
        assert_eq!((foreign.status, foreign.found.as_str()), (Status::Missing, "not supported"));
        let known = helper("redirect", BpfHelper::BPF_FUNC_redirect, "4.4");
        assert_eq!((known.status, known.advice), (Status::Ok, None));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                caps::clear(None, caps::CapSet::Effective).unwrap();
                let check = tcx();
                assert_eq!(check.status, Status::Missing);
                assert!(check.found.contains("os error 1"), "{check:?}");
            });
        });
        assert_eq!(btf().status == Status::Ok, succeeds("test", &["-r", BTF]));
    }
}
