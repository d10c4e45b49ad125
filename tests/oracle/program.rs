//! A wrong program, attached before all others at a port: it redirects all frames to another port.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::{libc, net::if_::if_nametoindex};

use super::{sabotage::Sabotage, world::World};

/// `BPF_PROG_LOAD` and `BPF_LINK_CREATE` of `linux/bpf.h`.
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
/// `BPF_PROG_TYPE_SCHED_CLS`.
const CLASSIFIER: u32 = 3;
/// `BPF_TCX_INGRESS`.
const INGRESS: u32 = 46;
/// `BPF_F_BEFORE`: without a relative program, before all others.
const BEFORE: u32 = 1 << 3;

/// The program, attached while the frames of a script are sent.
pub(crate) struct WrongProgram {
    ports: [String; 2],
    /// As long as this is open, the program is attached.
    link: Option<OwnedFd>,
}

impl WrongProgram {
    /// A program for port `from` that redirects to port `to`.
    pub(crate) fn between(from: &str, to: &str) -> Self {
        Self { ports: [from.to_owned(), to.to_owned()], link: None }
    }
}

impl Sabotage for WrongProgram {
    fn spoil(&mut self, world: &World) {
        let [from, to] = self.ports.each_ref().map(String::as_str);
        let attached = world.at_the_bridges(|| {
            let ifindex = |port| if_nametoindex(port).expect("it is there");
            attach(&redirect_to(ifindex(to))?, ifindex(from))
        });
        self.link = Some(attached.expect("it can be attached"));
    }

    fn restore(&mut self, _: &World) {
        self.link = None;
    }
}

/// Loads `return bpf_redirect(ifindex, 0)`.
fn redirect_to(ifindex: u32) -> io::Result<OwnedFd> {
    const MOVE: u8 = 0xb7;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    const REDIRECT: u32 = 23;
    let line = |code: u8, register: u8, value: u32| {
        let [a, b, c, d] = value.to_ne_bytes();
        u64::from_ne_bytes([code, register, 0, 0, a, b, c, d])
    };
    let program = [line(MOVE, 1, ifindex), line(MOVE, 2, 0), line(CALL, 0, REDIRECT), line(EXIT, 0, 0)];
    let mut request = [0_u64; 16];
    request[0] = two(CLASSIFIER, u32::try_from(program.len()).expect("it is 4"));
    request[1] = program.as_ptr().addr() as u64;
    request[2] = c"GPL".as_ptr().addr() as u64;
    bpf(PROG_LOAD, &request)
}

fn attach(program: &OwnedFd, ifindex: u32) -> io::Result<OwnedFd> {
    let program = u32::try_from(program.as_raw_fd()).expect("it is open");
    let mut request = [0_u64; 16];
    request[..2].copy_from_slice(&[two(program, ifindex), two(INGRESS, BEFORE)]);
    bpf(LINK_CREATE, &request)
}

/// Two adjacent fields of `union bpf_attr`.
fn two(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn bpf(command: libc::c_long, request: &[u64; 16]) -> io::Result<OwnedFd> {
    // SAFETY: the request has the size that is passed, and all memory that it points to outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, request.as_ptr(), size_of_val(request)) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just created the descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor")) })
}
