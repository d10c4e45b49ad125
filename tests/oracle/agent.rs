//! The agent of the accelerated world: waiting until it has taken in what was done.

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

/// How often it is asked.
const PACE: Duration = Duration::from_millis(1);

/// What becomes of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is killed, and `vethpath up` starts another.
    Replaced,
    /// It is terminated.
    Ended,
    /// It is stopped, and its lease runs out.
    Stopped,
    /// It goes on, or `vethpath up` starts another.
    Back,
}

/// The agent of a lab, whoever it is just now.
pub(crate) struct Agent {
    /// Whether it is there and runs.
    is_well: AtomicBool,
    socket: PathBuf,
    /// `/proc/net/netlink` where the agent listens.
    netlink: PathBuf,
    /// A socket there that is not its own.
    other: String,
}

impl Agent {
    /// `other` is the number of a socket where it listens that is not its own.
    pub(crate) fn of(host: &Host, lab: &str, other: u32) -> Self {
        let socket = host.path(&format!("/run/vethpath/{lab}/agent.sock"));
        Self {
            is_well: AtomicBool::new(true),
            socket,
            netlink: host.path("/proc/1/net/netlink"),
            other: other.to_string(),
        }
    }

    /// Waits until it has acted on everything that has happened so far.
    ///
    /// Events lie in its sockets as soon as a command that causes them has ended; it reads them and
    /// acts on them before it answers or looks again. What has no events is seen by the look after.
    #[track_caller]
    pub(crate) fn settle(&self) {
        if !self.is_well.load(Relaxed) {
            return;
        }
        self.until("it has unread events", |_| !self.has_unread_events());
        let before = self.ask().looks;
        self.signal(Signal::SIGHUP);
        self.until("it does not look", |status| status.looks != before);
    }

    /// Ends or stops it, and waits until nothing goes by its word any more. `lease_holds` looks at
    /// the maps.
    #[track_caller]
    pub(crate) fn meets(&self, fate: Fate, lease_holds: impl Fn() -> bool) {
        self.is_well.store(fate == Fate::Back, Relaxed);
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

    /// It is there again.
    pub(crate) fn is_back(&self) {
        self.is_well.store(true, Relaxed);
    }

    /// Does something that the agent must not do anything beside: it is one alone that writes the maps.
    #[track_caller]
    pub(crate) fn while_it_rests<T>(&self, work: impl FnOnce() -> T) -> T {
        let Some(pid) = self.pid().filter(|_| self.is_well.load(Relaxed)) else { return work() };
        let _ = kill(pid, Signal::SIGSTOP);
        let start = Instant::now();
        while !rests(pid) {
            assert!(start.elapsed() < TIMEOUT, "the agent does not stop");
            thread::yield_now();
        }
        let done = work();
        let _ = kill(pid, Signal::SIGCONT);
        done
    }

    /// Sends a signal, if it is there.
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill(pid, signal);
        }
    }

    /// The process, as our namespace has it, if it is there.
    fn pid(&self) -> Option<Pid> {
        let peer = UnixStream::connect(&self.socket).ok()?;
        // The kernel translates the number.
        let credentials = getsockopt(&peer, PeerCredentials).ok()?;
        Some(Pid::from_raw(credentials.pid()))
    }

    #[track_caller]
    fn ask(&self) -> Status {
        wait_until(TIMEOUT, || query(&self.socket).map_err(|error| format!("the agent: {error}")))
    }

    #[track_caller]
    fn until(&self, complaint: &str, mut done: impl FnMut(&Status) -> bool) {
        // The pace of the other tests would be most of the time that a script takes.
        for _ in 0..50 {
            if done(&self.ask()) {
                return;
            }
            thread::sleep(PACE);
        }
        wait_until(TIMEOUT, || if done(&self.ask()) { Ok(()) } else { Err(complaint.to_owned()) });
    }

    /// Whether a socket with subscriptions (`Groups`) holds bytes (`Rmem`).
    fn has_unread_events(&self) -> bool {
        let table = fs::read_to_string(&self.netlink).expect("every kernel has it");
        table.lines().skip(1).any(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            columns[2] != self.other && columns[3] != "00000000" && columns[4] != "0"
        })
    }
}

/// Whether all threads of a process are stopped.
fn rests(pid: Pid) -> bool {
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
