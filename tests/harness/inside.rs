//! A thread in its own network, mount and PID namespaces, which starts processes there.
//!
//! `unshare` affects the calling thread alone, so the rest of the test stays in its namespaces. No `pre_exec` is
//! needed: every process that this thread starts is inside.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

/// The command of the first process. It dies with the thread that started it, even when the test is killed, and
/// everything inside dies with it. It ignores SIGCHLD, so orphans leave no zombies.
const INIT: &str = "mount -t proc proc /proc && ip link set lo up && echo ready &&
    exec env --ignore-signal=CHLD sleep infinity";

type Reply = mpsc::Sender<io::Result<Child>>;

/// The namespaces, which exist as long as this.
pub(crate) struct Inside {
    init: Child,
    jobs: Option<mpsc::Sender<(Command, Reply)>>,
    thread: Option<JoinHandle<()>>,
}

impl Inside {
    /// New namespaces with `lo` up, an empty `/run`, and `/proc` and `/sys` that show them.
    pub(crate) fn new() -> Self {
        let (jobs, inbox) = mpsc::channel::<(Command, Reply)>();
        let (started, first) = mpsc::channel();
        let thread = thread::spawn(move || {
            started.send(enter().and_then(|()| init().spawn())).expect("the test waits for this");
            for (mut command, reply) in inbox {
                // A test that has panicked meanwhile no longer receives.
                let _ = reply.send(command.spawn());
            }
        });
        let mut init = first
            .recv()
            .expect("the thread answers before it ends")
            .expect("namespaces of its own (the tests need root)");
        let mut line = String::new();
        BufReader::new(init.stdout.take().expect("it is piped")).read_line(&mut line).expect("readable");
        assert_eq!(line, "ready\n", "the first process inside did not start");
        Self { init, jobs: Some(jobs), thread: Some(thread) }
    }

    /// Starts a process inside.
    pub(crate) fn spawn(&self, command: Command) -> io::Result<Child> {
        let (reply, answer) = mpsc::channel();
        let jobs = self.jobs.as_ref().expect("it is open until drop");
        jobs.send((command, reply)).expect("the thread runs until drop");
        answer.recv().expect("the thread answers every job")
    }

    /// The path outside of `path` inside.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init.id()))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // When init dies, everything inside dies. wait() returns when all processes are gone.
        let _ = self.init.kill();
        let _ = self.init.wait();
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Moves the calling thread to new namespaces.
fn enter() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    // Mounts that a new one would merely hide are still listed, so they are unmounted.
    for point in mount_points_below(&["/run", "/sys"])?.iter().rev() {
        umount2(point.as_str(), MntFlags::MNT_DETACH)?;
    }
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>)?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))?;
    Ok(())
}

/// Mount points at or below some folders, in the order they were mounted.
fn mount_points_below(folders: &[&str]) -> io::Result<Vec<String>> {
    let below = |point: &&str| {
        folders
            .iter()
            .any(|f| point.strip_prefix(f).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    let table = fs::read_to_string("/proc/thread-self/mountinfo")?;
    Ok(table.lines().filter_map(|l| l.split(' ').nth(4)).filter(below).map(str::to_owned).collect())
}

fn init() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "sh", "-c", INIT]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}
