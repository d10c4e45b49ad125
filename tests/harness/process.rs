//! A process inside a host: its output, its exit, its timeout.

use std::{
    fs,
    io::{Read, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::retry_on_intr,
    process::{PidfdFlags, pidfd_open},
};

use super::{Done, Inside, SLACK, wait::on_this_machine, wait_until};

/// What a thread has read from a pipe.
#[derive(Clone, Default)]
struct Collected(Arc<(Mutex<Bytes>, Condvar)>);

#[derive(Default)]
struct Bytes {
    so_far: Vec<u8>,
    is_all: bool,
}

impl Collected {
    fn from(mut pipe: impl Read + Send + 'static) -> Self {
        let collected = Self::default();
        let shared = collected.clone();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut chunk) {
                shared.lock().so_far.extend_from_slice(&chunk[..n]);
            }
            shared.lock().is_all = true;
            shared.0.1.notify_all();
        });
        collected
    }

    fn lock(&self) -> MutexGuard<'_, Bytes> {
        self.0.0.lock().expect("no holder panics")
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().so_far).into_owned()
    }

    /// Whether the pipe ends within `within`.
    fn ends(&self, within: Duration) -> bool {
        let waited = self.0.1.wait_timeout_while(self.lock(), within, |bytes| !bytes.is_all);
        waited.expect("no holder panics").0.is_all
    }
}

/// A process that is killed when this is dropped.
pub(crate) struct Process {
    words: Vec<String>,
    child: Child,
    stdout: Collected,
    stderr: Collected,
}

impl Process {
    /// Starts `words` inside, with `input` as its standard input.
    #[track_caller]
    pub(crate) fn start(inside: &Inside, words: Vec<String>, input: &str) -> Self {
        Self::start_with(inside, words, input, |_| {})
    }

    /// The same for a command that is changed before it is started.
    #[track_caller]
    pub(super) fn start_with(
        inside: &Inside,
        words: Vec<String>,
        input: &str,
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).process_group(0);
        command.env("LC_ALL", "C").env("NO_COLOR", "1");
        let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        change(&mut command);
        let mut child = inside.spawn(command).unwrap_or_else(|e| panic!("cannot start {words:?}: {e}"));
        if let Some(mut stdin) = child.stdin.take() {
            // A process that does not read its input reports that by its exit status.
            let _ = stdin.write_all(input.as_bytes());
        }
        let stdout = Collected::from(child.stdout.take().expect("it is piped"));
        let stderr = Collected::from(child.stderr.take().expect("it is piped"));
        Self { words, child, stdout, stderr }
    }

    /// Waits for its exit and for the end of its output. Kills it and panics after `within`.
    #[track_caller]
    pub(crate) fn wait(mut self, within: Duration) -> Done {
        let within = on_this_machine(within);
        assert!(self.ends(within), "{self} did not end within {within:?}; so far:\n{}", self.output());
        let status = self.child.wait().unwrap_or_else(|e| panic!("cannot wait for {self}: {e}"));
        for pipe in [&self.stdout, &self.stderr] {
            assert!(pipe.ends(within), "{self} ended, and something else keeps its output open");
        }
        Done::new(self.words.clone(), status, self.stdout.text(), self.stderr.text())
    }

    /// Whether it exits within `within`.
    fn ends(&mut self, within: Duration) -> bool {
        if self.has_ended() {
            return true;
        }
        let pid = rustix::process::Pid::from_child(&self.child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("it has not been waited for");
        let within = Timespec::try_from(within).expect("not for years");
        // The pidfd of a process that has ended stays readable.
        let ended = retry_on_intr(|| poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&within)));
        ended.expect("a pidfd can be polled") > 0
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// What Ctrl-C does: the process and what it started in its group get SIGINT.
    pub(crate) fn interrupt(&self) {
        // It may have ended already.
        let _ = killpg(self.pid(), Signal::SIGINT);
    }

    /// What `kill` does: this process gets SIGTERM.
    pub(crate) fn terminate(&self) {
        // It may have ended already.
        let _ = kill(self.pid(), Signal::SIGTERM);
    }

    /// What `kill -9` does: this process dies, and nothing else.
    pub(crate) fn kill(&self) {
        let _ = kill(self.pid(), Signal::SIGKILL);
    }

    /// Stops this process alone, and returns when all its threads are stopped.
    #[track_caller]
    pub(crate) fn stop(&self) {
        // It may have ended already.
        let _ = kill(self.pid(), Signal::SIGSTOP);
        let threads = format!("/proc/{}/task", self.pid());
        wait_until(SLACK, || {
            let threads = fs::read_dir(&threads).into_iter().flatten().flatten();
            let states = threads.filter_map(|thread| {
                let stat = fs::read_to_string(thread.path().join("stat")).ok()?;
                stat.rsplit_once(") ")?.1.chars().next()
            });
            let works = |state| !matches!(state, 'T' | 't' | 'Z' | 'X');
            if states.filter(|&state| works(state)).count() == 0 {
                Ok(())
            } else {
                Err(format!("{self} does not stop"))
            }
        });
    }

    /// Continues it after a [`Process::stop`].
    pub(crate) fn go_on(&self) {
        let _ = kill(self.pid(), Signal::SIGCONT);
    }

    /// Its present name, which changes when it executes another program.
    pub(crate) fn name(&self) -> String {
        fs::read_to_string(format!("/proc/{}/comm", self.pid())).unwrap_or_default().trim().to_owned()
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Its output so far, standard error last.
    pub(crate) fn output(&self) -> String {
        self.stdout.text() + &self.stderr.text()
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", self.words.join(" "))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = killpg(self.pid(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
