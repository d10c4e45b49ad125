//! Grace periods of RCU that come soon, while many programs are attached or many links removed.
//!
//! Attaching a tcx program, and removing a device that has one, waits for a grace period and holds the
//! lock of all of networking meanwhile (`tcx_entry_sync` in kernel/bpf/tcx.c): some 10 ms for each port,
//! during which nobody else on the machine can change an interface either. The kernel has a switch to
//! bring grace periods about at once, `/sys/kernel/rcu_expedited`. It is thrown for the moment in which
//! many ports are worked on, and put back by a process of its own, whatever becomes of this one.
#![expect(unsafe_code, reason = "a process that outlives a kill of this one has to be forked")]

use std::{
    fs,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    fcntl::OFlag,
    libc,
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork, pipe2, read},
};

/// The switch.
const SWITCH: &str = "/sys/kernel/rcu_expedited";

/// The same for the child, which must not allocate.
const SWITCH_C: &std::ffi::CStr = c"/sys/kernel/rcu_expedited";

/// An administrator wants no expedited grace periods, whatever the switch says.
const NORMAL: &str = "/sys/kernel/rcu_normal";

/// CPUs that are to be left alone: an expedited grace period interrupts those that do not idle.
const LEFT_ALONE: [&str; 2] = ["/sys/devices/system/cpu/isolated", "/sys/devices/system/cpu/nohz_full"];

/// Below this number of ports it is not worth touching what is the whole machine's.
const MANY: usize = 8;

/// Grace periods come soon as long as this lives.
pub struct Expedited {
    /// The guardian puts the switch back when nobody holds the other end any more.
    life: Option<OwnedFd>,
    guardian: Pid,
}

impl Expedited {
    /// Makes grace periods come soon, if `ports` are many; `None` where they are few, where it is so
    /// already, where an administrator has made arrangements of their own, or where it cannot be done:
    /// then everything takes longer.
    #[must_use]
    pub fn for_ports(ports: usize) -> Option<Self> {
        (ports >= MANY && is_off(SWITCH) && is_off(NORMAL) && LEFT_ALONE.iter().all(|file| is_empty(file)))
            .then(Self::begin)
            .flatten()
    }

    fn begin() -> Option<Self> {
        let (end, life) = pipe2(OFlag::O_CLOEXEC).ok()?;
        let (ready, word) = pipe2(OFlag::O_CLOEXEC).ok()?;
        let (end_fd, word_fd) = (end.as_raw_fd(), word.as_raw_fd());
        // SAFETY: the child calls nothing but `guard`, which makes system calls only and never returns.
        match unsafe { fork() }.ok()? {
            ForkResult::Child => guard(end_fd, word_fd),
            ForkResult::Parent { child } => {
                drop((end, word));
                let this = Self { life: Some(life), guardian: child };
                // Only a guardian that has let go of our files, such as locks, may take over.
                let is_ready = read(&ready, &mut [0]).is_ok_and(|length| length == 1);
                (is_ready && fs::write(SWITCH, "1").is_ok()).then_some(this)
            }
        }
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        self.life = None;
        // Not before the switch is back.
        let _ = waitpid(self.guardian, None);
    }
}

/// The child's life: lets go of everything but `end`, says so, waits until the parent is done or dead,
/// and puts the switch back.
fn guard(end: i32, word: i32) -> ! {
    let mut byte = [0_u8];
    // SAFETY: system calls with numbers, a constant string and a buffer of one byte, which outlives them.
    unsafe {
        // Interrupts of the terminal are the parent's.
        libc::setsid();
        let (first, last) = (end.min(word), end.max(word));
        if first > 0 {
            libc::close_range(0, first.unsigned_abs() - 1, 0);
        }
        if last - first > 1 {
            libc::close_range(first.unsigned_abs() + 1, last.unsigned_abs() - 1, 0);
        }
        libc::close_range(last.unsigned_abs() + 1, u32::MAX, 0);
        libc::write(word, byte.as_ptr().cast(), 1);
        libc::close(word);
        // Ends at the end of the file; a signal does not count.
        while libc::read(end, byte.as_mut_ptr().cast(), 1) < 0 {}
        let switch = libc::open(SWITCH_C.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        libc::write(switch, b"0".as_ptr().cast(), 1);
        libc::_exit(0)
    }
}

fn is_off(file: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.trim() == "0")
}

/// A kernel that leaves no CPUs alone has an empty file, or a word for none, or no file.
fn is_empty(file: &str) -> bool {
    fs::read_to_string(file).map_or(true, |text| matches!(text.trim(), "" | "(null)"))
}
