//! Refuses netlink sockets to a command and to what it starts. `SECCOMP_RET_USER_NOTIF` replies in the kernel's
//! place, for as long as the test wants.
#![expect(unsafe_code, reason = "seccomp has no safe interface; the structures are the kernel's")]
#![expect(clippy::cast_possible_truncation, reason = "numbers of calls, constants and descriptors are small")]

use std::{
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

/// The listener of the command's filter, until the command executes another program.
const LISTENER: RawFd = 200;

/// `SECCOMP_IOCTL_NOTIF_RECV` and `SECCOMP_IOCTL_NOTIF_SEND` of linux/seccomp.h.
const RECEIVE: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
const SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;

/// Refuses sockets of one netlink protocol.
pub(crate) struct Refusal {
    errno: Arc<AtomicI32>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Refusal {
    /// Prepares a command before it is executed, so that its sockets of `protocol` can be refused.
    pub(super) fn prepare(command: &mut Command, protocol: i32) {
        // SAFETY: the closure makes system calls, and allocates nothing.
        unsafe { command.pre_exec(move || install(protocol)) };
    }

    /// Refuses them to the process `pid`, which was prepared so, and to all that it starts.
    pub(super) fn of(pid: u32, errno: Errno) -> io::Result<Self> {
        let listener = take_listener(pid)?;
        let (errno, is_over) = (Arc::new(AtomicI32::new(errno as i32)), Arc::new(AtomicBool::new(false)));
        let (refused, over) = (errno.clone(), is_over.clone());
        let thread = thread::spawn(move || {
            while !over.load(SeqCst) {
                let mut waiting = [PollFd::new(std::os::fd::AsFd::as_fd(&listener), PollFlags::POLLIN)];
                let _ = poll(&mut waiting, PollTimeout::from(50_u8));
                let [events] = waiting.map(|listener| listener.revents().unwrap_or(PollFlags::empty()));
                if events.contains(PollFlags::POLLIN) {
                    respond(&listener, refused.load(SeqCst));
                } else if events.contains(PollFlags::POLLHUP) {
                    // All processes have ended. Before Linux 6.11, receiving would block.
                    break;
                }
            }
        });
        Ok(Self { errno, is_over, thread: Some(thread) })
    }

    /// From now on the kernel handles the calls.
    pub(crate) fn end(&self) {
        self.errno.store(0, SeqCst);
    }
}

impl Drop for Refusal {
    fn drop(&mut self) {
        self.is_over.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Installs a filter on the calling process, with its listener as descriptor [`LISTENER`].
fn install(protocol: i32) -> io::Result<()> {
    /// Of linux/bpf_common.h: load a word of the call, jump if it is equal, return.
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// Offset of an argument's low word in `struct seccomp_data`.
    const fn argument(number: u32) -> u32 {
        16 + 8 * number + if cfg!(target_endian = "big") { 4 } else { 0 }
    }
    let step = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let mut program = [
        step(LOAD, 0, 0),
        step(EQUAL, 5, libc::SYS_socket as u32),
        step(LOAD, 0, argument(0)),
        step(EQUAL, 3, libc::AF_NETLINK as u32),
        step(LOAD, 0, argument(2)),
        step(EQUAL, 1, protocol as u32),
        step(RETURN, 0, libc::SECCOMP_RET_USER_NOTIF),
        step(RETURN, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: `len` is the length of the program, which outlives the call.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    Errno::result(listener)?;
    // SAFETY: it takes two descriptors, and nothing uses the second one.
    Errno::result(unsafe { libc::dup2(listener as RawFd, LISTENER) })?;
    Ok(())
}

/// Copies the listener of a process that has it as [`LISTENER`].
fn take_listener(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: integers only.
    let process = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the descriptor is new, and nothing else owns it.
    let process = unsafe { OwnedFd::from_raw_fd(process as RawFd) };
    // SAFETY: integers only.
    let listener = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), LISTENER, 0) };
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(Errno::result(listener)? as RawFd) })
}

/// Replies to one call: with an errno, or, if that is 0, by having the kernel run it.
fn respond(listener: &OwnedFd, errno: i32) {
    // SAFETY: both structures may be zero bytes.
    let (mut call, mut response): (libc::seccomp_notif, libc::seccomp_notif_resp) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: the kernel writes a call to memory that has room for one.
    if unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut call) } != 0 {
        return;
    }
    response.id = call.id;
    response.error = -errno;
    response.flags = if errno == 0 { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 } else { 0 };
    // The caller may be gone by now. SAFETY: the kernel reads a response.
    let _ = unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw mut response) };
}
