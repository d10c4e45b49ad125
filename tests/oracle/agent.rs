//! The agent of the accelerated world, and waiting until it has processed all changes.

use std::{
    fmt, fs,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{getsockopt, sockopt::PeerCredentials},
    },
    unistd::Pid,
};
use vethpath::agent::status::{Status, query};

use crate::harness::{Host, TIMEOUT, wait_for, wait_until};

/// Poll interval.
const PACE: Duration = Duration::from_millis(1);

/// What happens to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is killed, and `vethpath up` starts another.
    Replaced,
    /// It gets SIGTERM.
    Ended,
    /// It is stopped, and its lease expires.
    Stopped,
    /// It continues, or `vethpath up` starts another.
    Back,
}

/// The current agent of a lab.
pub(crate) struct Agent {
    /// Whether it is alive and not stopped.
    is_running: AtomicBool,
    socket: PathBuf,
    /// `/proc/net/netlink` of the agent's network namespace.
    netlink: PathBuf,
    /// The port ID of a socket there that is not the agent's.
    other: String,
}

impl Agent {
    /// `other` is the port ID of a netlink socket in the agent's network namespace that is not the agent's.
    pub(crate) fn of(host: &Host, lab: &str, other: u32) -> Self {
        let socket = host.path(&format!("/run/vethpath/{lab}/agent.sock"));
        Self {
            is_running: AtomicBool::new(true),
            socket,
            netlink: host.path("/proc/1/net/netlink"),
            other: other.to_string(),
        }
    }

    /// Waits until the agent has processed every change so far.
    ///
    /// When a command has ended, its events are in the agent's sockets. The agent processes them before it answers or
    /// scans again. The scan after SIGHUP finds changes without events.
    #[track_caller]
    pub(crate) fn settle(&self) {
        if !self.is_running.load(Relaxed) {
            return;
        }
        self.wait_until("it has unread events", |_| !self.has_unread_events());
        let before = self.status().polls;
        self.signal(Signal::SIGHUP);
        self.wait_until("it does not poll", |status| status.polls != before);
    }

    /// Signals the agent. If it ends or stops, waits until the lease has expired. `lease_holds` reads the maps.
    #[track_caller]
    pub(crate) fn apply(&self, fate: Fate, lease_holds: impl Fn() -> bool) {
        self.is_running.store(fate == Fate::Back, Relaxed);
        self.signal(match fate {
            Fate::Replaced => Signal::SIGKILL,
            Fate::Ended => Signal::SIGTERM,
            Fate::Stopped => Signal::SIGSTOP,
            Fate::Back => Signal::SIGCONT,
        });
        if matches!(fate, Fate::Ended | Fate::Stopped) {
            wait_for(TIMEOUT, "the lease holds on", || !lease_holds());
        }
    }

    /// Records that the agent runs again.
    pub(crate) fn set_running(&self) {
        self.is_running.store(true, Relaxed);
    }

    /// Runs `work` while the agent is stopped, since the maps allow one writer only.
    #[track_caller]
    pub(crate) fn while_stopped<T>(&self, work: impl FnOnce() -> T) -> T {
        let Some(pid) = self.pid().filter(|_| self.is_running.load(Relaxed)) else { return work() };
        let _ = kill(pid, Signal::SIGSTOP);
        let start = Instant::now();
        while !is_stopped(pid) {
            assert!(start.elapsed() < TIMEOUT, "the agent does not stop");
            thread::yield_now();
        }
        let result = work();
        let _ = kill(pid, Signal::SIGCONT);
        result
    }

    /// Sends a signal to the agent, if there is one.
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill(pid, signal);
        }
    }

    /// The agent's pid in our PID namespace, if there is an agent.
    fn pid(&self) -> Option<Pid> {
        let peer = UnixStream::connect(&self.socket).ok()?;
        // The kernel translates the pid to our namespace.
        let credentials = getsockopt(&peer, PeerCredentials).ok()?;
        Some(Pid::from_raw(credentials.pid()))
    }

    #[track_caller]
    fn status(&self) -> Status {
        wait_until(TIMEOUT, || query(&self.socket).map_err(|error| format!("the agent: {error}")))
    }

    #[track_caller]
    fn wait_until(&self, complaint: &str, mut condition: impl FnMut(&Status) -> bool) {
        // The poll interval of the other tests would be most of a script's run time.
        for _ in 0..50 {
            if condition(&self.status()) {
                return;
            }
            thread::sleep(PACE);
        }
        wait_until(TIMEOUT, || if condition(&self.status()) { Ok(()) } else { Err(complaint.to_owned()) });
    }

    /// Whether a socket with multicast groups (`Groups`) holds unread bytes (`Rmem`).
    fn has_unread_events(&self) -> bool {
        let table = fs::read_to_string(&self.netlink).expect("every kernel has it");
        table.lines().skip(1).any(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            columns[2] != self.other && columns[3] != "00000000" && columns[4] != "0"
        })
    }
}

/// Whether all threads of a process are stopped.
fn is_stopped(pid: Pid) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    let mut stats = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    stats.all(|stat| stat.contains(") T "))
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replaced => "the agent is killed; vethpath up",
            Self::Ended => "the agent ends",
            Self::Stopped => "the agent is stopped, and its lease runs out",
            Self::Back => "the agent goes on; vethpath up",
        })
    }
}
