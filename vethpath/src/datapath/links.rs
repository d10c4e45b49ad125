//! Whether anybody on the machine has attached a program by a link since the last time one asked. Most of
//! these tell nobody (`bpf_xdp_link_attach` in net/core/dev.c), but links are numbered as they are made
//! (`bpf_link_alloc_id` in kernel/bpf/syscall.c).
#![expect(unsafe_code, reason = "aya asks for whole lists only")]

use nix::libc::{SYS_bpf, syscall};

/// `BPF_LINK_GET_NEXT_ID` of `linux/bpf.h`.
const LINK_GET_NEXT_ID: i32 = 31;

/// The part of `union bpf_attr` that the command reads and writes.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    start_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// The greatest number that a link had.
#[derive(Debug, Default)]
pub struct LinkNumbers {
    greatest: u32,
}

impl LinkNumbers {
    /// Whether there are new links. The first time there are; so they are where it cannot be asked.
    /// After two thousand million links the numbers begin anew, and new ones are not seen.
    #[must_use]
    pub fn have_grown(&mut self) -> bool {
        let before = self.greatest;
        loop {
            match next(self.greatest) {
                Ok(Some(number)) => self.greatest = number,
                Ok(None) => return before == 0 || self.greatest != before,
                Err(_) => return true,
            }
        }
    }
}

/// The least number greater than `start` that a link has.
fn next(start: u32) -> std::io::Result<Option<u32>> {
    let mut attributes = Attributes { start_id: start, ..Attributes::default() };
    // SAFETY: the kernel writes one number into the attributes, which are as long as is said.
    let result = unsafe { syscall(SYS_bpf, LINK_GET_NEXT_ID, &raw mut attributes, size_of::<Attributes>()) };
    if result == 0 {
        return Ok(Some(attributes.next_id));
    }
    let error = std::io::Error::last_os_error();
    if error.raw_os_error() == Some(nix::libc::ENOENT) { Ok(None) } else { Err(error) }
}
