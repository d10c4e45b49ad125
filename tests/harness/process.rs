//! Commands inside a host: how they are started, what they print, how they end.

use std::{
    fmt, fs,
    io::{Read, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
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
use serde_json::Value;

use super::{Inside, SLACK, wait::on_this_machine, wait_until};

/// A command and its arguments.
pub(crate) trait Args {
    /// Its words.
    fn words(self) -> Vec<String>;
}

/// Split at white space, as a command line without quoting: arguments with spaces need an array.
impl Args for &str {
    fn words(self) -> Vec<String> {
        self.split_whitespace().map(str::to_owned).collect()
    }
}

impl Args for String {
    fn words(self) -> Vec<String> {
        self.as_str().words()
    }
}

impl<const N: usize> Args for [&str; N] {
    fn words(self) -> Vec<String> {
        self.into_iter().map(str::to_owned).collect()
    }
}

impl Args for Vec<String> {
    fn words(self) -> Vec<String> {
        self
    }
}

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
    pub(crate) fn wait(mut self, within: Duration) -> Output {
        let within = on_this_machine(within);
        assert!(self.ends(within), "{self} did not end within {within:?}; so far:\n{}", self.output());
        let status = self.child.wait().unwrap_or_else(|e| panic!("cannot wait for {self}: {e}"));
        for pipe in [&self.stdout, &self.stderr] {
            assert!(pipe.ends(within), "{self} ended, and something else keeps its output open");
        }
        Output::new(self.words.clone(), status, self.stdout.text(), self.stderr.text())
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
    pub(crate) fn resume(&self) {
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

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

/// A command that has ended.
#[must_use = "check its exit status: `.ok()`, `.fails(1)`"]
pub(crate) struct Output {
    words: Vec<String>,
    status: ExitStatus,
    /// What it wrote to standard output.
    pub(crate) stdout: String,
    /// What it wrote to standard error.
    pub(crate) stderr: String,
}

impl Output {
    pub(super) fn new(words: Vec<String>, status: ExitStatus, stdout: String, stderr: String) -> Self {
        Self { words, status, stdout, stderr }
    }

    /// Whether it ended with exit status 0.
    pub(crate) fn succeeded(&self) -> bool {
        self.status.success()
    }

    /// Its exit status; `None` when a signal ended it.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Expects exit status 0.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.succeeded(), "{self}");
        self
    }

    /// Expects this exit status.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self
    }

    /// Expects this text in its standard error.
    #[track_caller]
    pub(crate) fn stderr_has(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{text:?} is not in the standard error of {self}");
        self
    }

    /// Expects this text in its standard output.
    #[track_caller]
    pub(crate) fn stdout_has(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "{text:?} is not in the standard output of {self}");
        self
    }

    /// Its standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {self}"))
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { words, status, stdout, stderr } = self;
        write!(f, "`{}`: {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", words.join(" "))
    }
}
