//! RCU grace periods: waiting for one, and expediting them while many programs are attached or many links are removed.
//!
//! Attaching a tcx program, and removing a device that has one, waits for a grace period with the RTNL lock held
//! (`tcx_entry_sync` in kernel/bpf/tcx.c). That takes some 10 ms per port, during which no other process on the
//! machine can change an interface. `/sys/kernel/rcu_expedited` makes the kernel expedite grace periods. It is set
//! only while many ports are processed. A child process restores it, even if this process is killed.
#![expect(
    unsafe_code,
    reason = "nix has no membarrier, aya no maps of maps, and a process that outlives a kill of this one has to be forked"
)]

use std::{
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    fcntl::OFlag,
    libc,
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork, pipe2, read},
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// `MEMBARRIER_CMD_GLOBAL` of `linux/membarrier.h`.
const GLOBAL: i32 = 1;

/// `BPF_MAP_CREATE` and `BPF_MAP_UPDATE_ELEM` of `enum bpf_cmd`, `BPF_MAP_TYPE_ARRAY` and
/// `BPF_MAP_TYPE_ARRAY_OF_MAPS` of `enum bpf_map_type`.
const MAP_CREATE: i32 = 0;
const MAP_UPDATE_ELEM: i32 = 2;
const ARRAY: u32 = 2;
const ARRAY_OF_MAPS: u32 = 12;

/// Sleep if the kernel refuses everything else: many times the run time of a program.
const INSTEAD: Duration = Duration::from_millis(100);

/// The part of `union bpf_attr` for a map to create, up to `inner_map_fd`.
#[repr(C)]
struct MapAttributes {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
}

/// The part of `union bpf_attr` for an element to write.
#[repr(C)]
struct ElementAttributes {
    map_fd: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Returns after an RCU grace period (`synchronize_rcu` in kernel/sched/membarrier.c), that is,
/// after every BPF program that was running when it was called has ended.
///
/// A hash map reuses a deleted element at once, also for another key. A program that was preempted between its lookup
/// and its read could then read another station's entry. A grace period between deletion and insertion prevents that.
pub fn grace_period() {
    // SAFETY: the call reads three integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    // Refused where CPUs are `nohz_full`, and by kernels built without it.
    if result < 0 && replace_inner_map().is_err() {
        thread::sleep(INSTEAD);
    }
}

/// Replaces a map in a map of maps. The kernel returns after every BPF program that was running has ended
/// (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c).
/// Minimum kernel: Linux 4.20 (that wait).
fn replace_inner_map() -> io::Result<()> {
    const WORD: u32 = 4;
    let array = |map_type, inner: Option<&OwnedFd>| {
        let attributes = MapAttributes {
            map_type,
            key_size: WORD,
            value_size: WORD,
            max_entries: 1,
            map_flags: 0,
            inner_map_fd: inner.map_or(0, |inner| inner.as_raw_fd().cast_unsigned()),
        };
        // SAFETY: the kernel only reads the attributes, whose size is passed. The descriptor that it returns is new.
        let fd = unsafe {
            libc::syscall(libc::SYS_bpf, MAP_CREATE, &raw const attributes, size_of_val(&attributes))
        };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: as above.
        Ok::<_, io::Error>(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    let inner = array(ARRAY, None)?;
    let outer = array(ARRAY_OF_MAPS, Some(&inner))?;
    let (key, value) = (0_u32, inner.as_raw_fd());
    let attributes = ElementAttributes {
        map_fd: outer.as_raw_fd().cast_unsigned(),
        zero: 0,
        key: &raw const key as u64,
        value: &raw const value as u64,
        flags: 0,
    };
    // SAFETY: the kernel only reads the attributes, the key and the value, which outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, MAP_UPDATE_ELEM, &raw const attributes, size_of_val(&attributes))
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits for grace periods in a thread of its own.
pub struct GracePeriods {
    begin: mpsc::Sender<()>,
    ended: UnboundedReceiver<()>,
    is_running: bool,
}

impl GracePeriods {
    /// Starts the thread, which ends when this is dropped.
    ///
    /// # Errors
    /// No thread can be created.
    pub fn start() -> io::Result<Self> {
        let (begin, requests) = mpsc::channel();
        let (done, ended) = unbounded_channel();
        let wait = move || {
            while requests.recv().is_ok() {
                grace_period();
                // The receiver may be gone.
                let _ = done.send(());
            }
        };
        let _ = thread::Builder::new().name("rcu".to_owned()).spawn(wait)?;
        Ok(Self { begin, ended, is_running: false })
    }

    /// Whether one has begun and [`Self::ended`] has not returned yet.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.is_running
    }

    /// Begins one. None may be running.
    pub fn begin(&mut self) {
        self.is_running = self.begin.send(()).is_ok();
    }

    /// Waits for its end; forever, if none is running. Dropping the future loses nothing.
    pub async fn ended(&mut self) {
        if !self.is_running || self.ended.recv().await.is_none() {
            return std::future::pending().await;
        }
        self.is_running = false;
    }
}

/// Makes the kernel expedite all grace periods.
const SWITCH: &str = "/sys/kernel/rcu_expedited";

/// [`SWITCH`] for the child, which must not allocate.
const SWITCH_C: &std::ffi::CStr = c"/sys/kernel/rcu_expedited";

/// Set by an administrator who wants no expedited grace periods. It overrides the switch.
const NORMAL: &str = "/sys/kernel/rcu_normal";

/// Isolated and nohz_full CPUs. An expedited grace period interrupts every CPU that is not idle.
const LEFT_ALONE: [&str; 2] = ["/sys/devices/system/cpu/isolated", "/sys/devices/system/cpu/nohz_full"];

/// Below this number of ports, the machine-wide setting is not touched.
const MANY: usize = 8;

/// Grace periods are expedited until this is dropped.
pub struct Expedited {
    /// Write end of a pipe. The guardian restores the switch when it is closed.
    life: Option<OwnedFd>,
    guardian: Pid,
}

impl Expedited {
    /// Expedites grace periods if there are at least 8 `ports`. Returns `None` if there are fewer, if grace periods
    /// are expedited already, if `rcu_normal` is set, if CPUs are isolated, or if setting the switch fails. The work
    /// on the ports then takes longer.
    #[must_use]
    pub fn for_ports(ports: usize) -> Option<Self> {
        (ports >= MANY && is_off(SWITCH) && is_off(NORMAL) && LEFT_ALONE.iter().all(|file| is_empty(file)))
            .then(Self::start)
            .flatten()
    }

    fn start() -> Option<Self> {
        let (end, life) = pipe2(OFlag::O_CLOEXEC).ok()?;
        let (ready, report) = pipe2(OFlag::O_CLOEXEC).ok()?;
        let (end_fd, report_fd) = (end.as_raw_fd(), report.as_raw_fd());
        // SAFETY: the child only calls `guard`, which makes nothing but system calls and never returns.
        match unsafe { fork() }.ok()? {
            ForkResult::Child => guard(end_fd, report_fd),
            ForkResult::Parent { child } => {
                drop((end, report));
                let expedited = Self { life: Some(life), guardian: child };
                // The guardian must first have closed its copies of our descriptors, such as those of locks.
                let is_ready = read(&ready, &mut [0]).is_ok_and(|length| length == 1);
                (is_ready && fs::write(SWITCH, "1").is_ok()).then_some(expedited)
            }
        }
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        self.life = None;
        // Waits until the switch is restored.
        let _ = waitpid(self.guardian, None);
    }
}

/// Runs in the child. Closes all descriptors but `end` and `report`, reports that by a byte to `report`, waits for end
/// of file on `end` (the parent is done or dead), and restores the switch.
fn guard(end: i32, report: i32) -> ! {
    let mut byte = [0_u8];
    // SAFETY: system calls with integers, a constant string and a one-byte buffer, which outlives the calls.
    unsafe {
        // SIGINT of the terminal is for the parent only.
        libc::setsid();
        let (first, last) = (end.min(report), end.max(report));
        if first > 0 {
            libc::close_range(0, first.unsigned_abs() - 1, 0);
        }
        if last - first > 1 {
            libc::close_range(first.unsigned_abs() + 1, last.unsigned_abs() - 1, 0);
        }
        libc::close_range(last.unsigned_abs() + 1, u32::MAX, 0);
        libc::write(report, byte.as_ptr().cast(), 1);
        libc::close(report);
        // Returns 0 at end of file. An error such as EINTR is retried.
        while libc::read(end, byte.as_mut_ptr().cast(), 1) < 0 {}
        let switch = libc::open(SWITCH_C.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        libc::write(switch, b"0".as_ptr().cast(), 1);
        libc::_exit(0)
    }
}

fn is_off(file: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.trim() == "0")
}

/// Without isolated CPUs the file is empty, contains `(null)`, or does not exist.
fn is_empty(file: &str) -> bool {
    fs::read_to_string(file).map_or(true, |text| matches!(text.trim(), "" | "(null)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_can_be_replaced_in_a_map_of_maps() {
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root");
            eprintln!("SKIPPED: not root");
            return;
        }
        replace_inner_map().unwrap();
    }

    #[tokio::test]
    async fn a_grace_period_ends_once_for_each_that_begins() {
        let mut periods = GracePeriods::start().unwrap();
        for _ in 0..3 {
            assert!(!periods.is_running());
            periods.begin();
            assert!(periods.is_running());
            periods.ended().await;
        }
        let never = tokio::time::timeout(Duration::from_millis(20), periods.ended());
        assert!(never.await.is_err(), "none is running");
    }
}
