//! Minimal BPF programs: each has the same verdict for every frame. They stand for programs that others attach to the
//! devices of a lab.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::{errno::Errno, libc, net::if_::if_nametoindex};
use vethpath::kernel::Netns;

use super::{SLACK, wait_until};

/// `BPF_PROG_LOAD` and `BPF_LINK_CREATE` of linux/bpf.h.
const PROG_LOAD: u32 = 5;
const LINK_CREATE: u32 = 28;

/// Attach points of a program, as `(program type, attach type, flags)` of linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// XDP in the driver.
    NativeXdp,
    /// XDP in the stack.
    GenericXdp,
    /// tcx ingress, behind the programs that are attached already.
    Ingress,
    /// tcx egress, behind the programs that are attached already.
    Egress,
}

impl At {
    const fn numbers(self) -> (u32, u32, u32) {
        match self {
            Self::NativeXdp => (6, 37, 1 << 2),
            Self::GenericXdp => (6, 37, 1 << 1),
            Self::Ingress => (3, 46, 0),
            Self::Egress => (3, 47, 0),
        }
    }
}

/// `XDP_DROP` and `XDP_PASS`.
pub(crate) const XDP_DROP: i32 = 1;
pub(crate) const XDP_PASS: i32 = 2;
/// `TC_ACT_SHOT` and `TC_ACT_UNSPEC`.
pub(crate) const TC_DROP: i32 = 2;
pub(crate) const TC_NEXT: i32 = -1;

/// A program that is attached to an interface until this is dropped.
pub(crate) struct VerdictProgram {
    _link: OwnedFd,
    _program: OwnedFd,
}

impl VerdictProgram {
    /// Attaches a program that returns `verdict` to an interface of `netns`.
    #[track_caller]
    pub(crate) fn attach(netns: &Netns, interface: &str, at: At, verdict: i32) -> Self {
        let (kind, hook, flags) = at.numbers();
        Self::attach_code(netns, interface, (kind, hook, flags), || Ok(returning(verdict).to_vec()))
    }

    /// Attaches a program to the tcx ingress of a device, before all others. It redirects every frame to another.
    #[track_caller]
    pub(crate) fn redirect(netns: &Netns, from: &str, to: &str) -> Self {
        /// `bpf_redirect`, and `BPF_F_BEFORE`, which means the first place without a relative program.
        const REDIRECT: u64 = 23;
        const BEFORE: u32 = 1 << 3;
        let (kind, hook, _) = At::Ingress.numbers();
        Self::attach_code(netns, from, (kind, hook, BEFORE), || {
            // r1 = ifindex; r2 = 0; call bpf_redirect; exit
            Ok(vec![u64::from(if_nametoindex(to)?) << 32 | 0x1b7, 0x2b7, REDIRECT << 32 | 0x85, 0x95])
        })
    }

    #[track_caller]
    fn attach_code(
        netns: &Netns,
        interface: &str,
        (kind, hook, flags): (u32, u32, u32),
        code: impl Fn() -> io::Result<Vec<u64>> + Send + Sync,
    ) -> Self {
        let attach = || -> io::Result<Self> {
            let program = load(kind, hook, &code()?)?;
            let words = [program.as_raw_fd().cast_unsigned(), if_nametoindex(interface)?, hook, flags];
            let link = bpf(LINK_CREATE, &attributes(&words))?;
            Ok(Self { _link: link, _program: program })
        };
        // The kernel detaches an earlier program asynchronously.
        wait_until(SLACK, || {
            let attached = netns.run(attach).expect("the namespace can be entered");
            attached.map_err(|error| format!("a program on {interface}: {error}"))
        })
    }
}

/// A program that is attached to a netfilter hook until this is dropped.
pub(crate) struct NetfilterProgram {
    _link: OwnedFd,
    _program: OwnedFd,
}

impl NetfilterProgram {
    /// Attaches a program that returns `verdict` (`NF_DROP` is 0) to the IPv4 forward hook of `netns`.
    #[track_caller]
    pub(crate) fn forward(netns: &Netns, verdict: i32) -> io::Result<Self> {
        /// `BPF_PROG_TYPE_NETFILTER`, `BPF_NETFILTER`, `NFPROTO_IPV4` and `NF_INET_FORWARD`.
        const NUMBERS: (u32, u32, u32, u32) = (32, 45, 2, 2);
        let (kind, hook, family, point) = NUMBERS;
        let program = load(kind, hook, &returning(verdict))?;
        let link = netns.run(|| {
            bpf(
                LINK_CREATE,
                &attributes(&[program.as_raw_fd().cast_unsigned(), 0, hook, 0, family, point, 0, 0]),
            )
        });
        Ok(Self { _link: link.expect("the namespace can be entered")?, _program: program })
    }
}

/// `r0 = verdict; exit`. (On a big-endian machine the fields of an instruction would be swapped.)
fn returning(verdict: i32) -> [u64; 2] {
    [u64::from(verdict.cast_unsigned()) << 32 | 0xb7, 0x95]
}

/// Loads a program of these instructions.
fn load(kind: u32, hook: u32, code: &[u64]) -> io::Result<OwnedFd> {
    let license = *b"GPL\0";
    let (code_at, license_at) = (code.as_ptr().expose_provenance(), (&raw const license).expose_provenance());
    let halves = |pointer: usize| {
        let pointer = pointer as u64;
        [
            u32::try_from(pointer & 0xffff_ffff).expect("32 bits"),
            u32::try_from(pointer >> 32).expect("32 bits"),
        ]
    };
    let [code_low, code_high] = halves(code_at);
    let [license_low, license_high] = halves(license_at);
    let mut words = [0; 18];
    let count = u32::try_from(code.len()).expect("a few instructions");
    words[..6].copy_from_slice(&[kind, count, code_low, code_high, license_low, license_high]);
    // `expected_attach_type` follows log, flags, name and ifindex. tc programs leave it at 0.
    words[17] = if kind == 3 { 0 } else { hook };
    // `BPF_F_XDP_HAS_FRAGS`: the program accepts frames in several buffers.
    words[11] = if kind == 6 { 1 << 5 } else { 0 };
    bpf(PROG_LOAD, &attributes(&words))
}

/// `union bpf_attr` with these first words. (On a big-endian machine the halves would be swapped.)
fn attributes(words: &[u32]) -> [u32; 32] {
    let mut attributes = [0; 32];
    attributes[..words.len()].copy_from_slice(words);
    attributes
}

fn bpf(command: u32, attributes: &[u32; 32]) -> io::Result<OwnedFd> {
    let size = size_of_val(attributes);
    // SAFETY: `size` is the length of the attributes, and what they point to outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size) };
    let fd = Errno::result(fd)?;
    let fd = i32::try_from(fd).expect("descriptors are small");
    // SAFETY: the descriptor is new, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
