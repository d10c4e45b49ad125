//! Runs each integration test in a separate process, several at a time.
//!
//! No test can inherit another's descriptors, threads, signal mask or ports. A test that exceeds the time limit is
//! killed with all its child processes; its namespaces end with them.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};

use serde::{Deserialize, Serialize};

use super::{
    machine::Settings,
    stage::{Suite, cargo_with, fixed},
};
use crate::{
    error::Error,
    interrupt,
    tools::{command, output, root, run as run_command, say, target_dir},
};

/// The poll interval for interrupts and time limits.
const TICK: Duration = Duration::from_millis(200);

/// The name prefix of a test's temporary folder. It is short, since socket paths include it.
const SCRATCH: &str = "vethpath-";

/// A test binary.
pub(super) struct Binary(PathBuf);

/// The tests to run, with options.
pub(super) struct Plan {
    pub(super) suite: Suite,
    /// By name, in starting order. Tests of an inner list run in sequence.
    pub(super) tests: Vec<Vec<String>>,
    /// How many tests run in parallel.
    pub(super) slots: usize,
    /// Run in sequence after all others have ended, with the machine's original settings.
    pub(super) alone: Vec<String>,
    /// A test that runs longer than this is killed and fails.
    pub(super) limit: Duration,
    /// Environment variables for all tests.
    pub(super) environment: Vec<(String, String)>,
}

/// The result of a test.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) time: Duration,
    /// Why it failed, if it did.
    failure: Option<String>,
    /// The message of its first panic.
    #[serde(default)]
    panic: Option<String>,
    /// The kernel feature that the test needs and this kernel lacks, from its output.
    lacks: Option<String>,
}

/// The prefix of the message that a test prints if this kernel lacks a feature: see tests/harness/environment.rs.
const LACKS: &str = "this kernel lacks ";

impl Binary {
    /// Builds the integration tests. `change` adjusts the command.
    pub(super) fn build(change: impl FnOnce(&mut Command)) -> Result<Self, Error> {
        let mut command = cargo_with(&["test", "--package", "vethpath", "--test", "integration", "--no-run"]);
        change(&mut command);
        run_command(&mut command)?;
        // A second run builds nothing and prints the path.
        command.arg("--message-format=json").arg("--quiet");
        let messages = output(&mut command).unwrap_or_default();
        let path = messages.lines().find_map(executable).ok_or(Error::NoTestBinary)?;
        Ok(Self(path))
    }

    /// A binary that was built before.
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The names of the tests that match `arguments`, without the ignored ones.
    pub(super) fn list(&self, arguments: &[String]) -> Result<Vec<String>, Error> {
        let ignored = self.names(&["--ignored"], arguments)?;
        let mut names = self.names(&[], arguments)?;
        names.retain(|name| !ignored.contains(name));
        if !ignored.is_empty() {
            say(&format!("not run, since they need another kernel: {}", ignored.join(", ")));
        }
        Ok(names)
    }

    /// The names of the tests that match `which` and `arguments`.
    pub(super) fn names(&self, which: &[&str], arguments: &[String]) -> Result<Vec<String>, Error> {
        let mut command = self.command();
        command.args(["--list", "--format", "terse"]).args(which).args(arguments);
        let listed = output(&mut command).ok_or_else(|| Error::NoTests(arguments.join(" ")))?;
        Ok(listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }

    /// A command for the binary, in the working directory that cargo would use.
    fn command(&self) -> Command {
        let mut command = fixed(command(&self.0));
        command.current_dir(root().join("vethpath"));
        command
    }

    /// Runs one test. Its output goes to a file. Its temporary folder is removed at the end.
    fn run(&self, name: &str, plan: &Plan, log: &Path, running: &Running) -> io::Result<Outcome> {
        let file = File::create(log)?;
        let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir()?;
        let mut command = self.command();
        command.args(["--exact", name, "--include-ignored", "--nocapture", "--test-threads=1"]);
        command.envs(plan.environment.iter().cloned()).env("TMPDIR", scratch.path());
        command.stdout(file.try_clone()?).stderr(file).process_group(0);
        let started = Instant::now();
        let mut child = command.spawn()?;
        let pid = Pid::from_raw(child.id().cast_signed());
        running.add(pid, name);
        // WNOWAIT leaves a zombie, so the pid is not reused before the test is removed from `running`.
        while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
        let killed = running.remove(pid);
        let status = child.wait()?;
        let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())?;
        let left = fs::read_dir(&scratch)?.flatten().next();
        let failure = match killed {
            Some(reason) => Some(reason),
            None if !status.success() => Some(format!("it failed ({status})")),
            None if !text.contains("test result: ok. 1 passed;") => Some("it did not run".to_owned()),
            None => left.map(|entry| format!("it left {}", entry.path().display())),
        };
        let lacks = failure.as_ref().and_then(|_| missing(&text));
        let panic = failure.as_ref().and_then(|_| panic_message(&text));
        Ok(Outcome { name: name.to_owned(), time: started.elapsed(), failure, panic, lacks })
    }
}

/// Runs all tests of a plan, even if some fail. The error names the failed ones, with what they said.
pub(super) fn run(binary: &Binary, plan: &Plan, outcomes: &mut Vec<Outcome>) -> Result<(), Error> {
    run_each(binary, plan, |outcome, log| {
        outcome.show(log);
        outcomes.push(outcome);
    })?;
    let failed: Vec<_> =
        outcomes.iter().filter(|outcome| outcome.failure.is_some()).map(Outcome::in_brief).collect();
    say(&format!("\n{} passed, {} failed", outcomes.len() - failed.len(), failed.len()));
    if failed.is_empty() { Ok(()) } else { Err(Error::TestsFailed(failed)) }
}

/// Runs the tests of a plan and reports each with its log file.
pub(super) fn run_each(
    binary: &Binary,
    plan: &Plan,
    mut report: impl FnMut(Outcome, &Path),
) -> Result<(), Error> {
    let logs = target_dir().join("integration");
    let _ = fs::remove_dir_all(&logs);
    fs::create_dir_all(&logs).map_err(|source| Error::File { path: logs.clone(), source })?;
    let settings = Settings::for_suite(plan.suite);
    run_some(binary, plan, (&plan.tests, plan.slots), &logs, &mut report);
    drop(settings);
    let alone = [plan.alone.clone()];
    run_some(binary, plan, (&alone, 1), &logs, &mut report);
    if interrupt::seen() { Err(Error::Interrupted) } else { Ok(()) }
}

/// Runs tests, `slots` in parallel, and reports each result.
fn run_some(
    binary: &Binary,
    plan: &Plan,
    (tests, slots): (&[Vec<String>], usize),
    logs: &Path,
    mut report: impl FnMut(Outcome, &Path),
) {
    let queue: Mutex<VecDeque<&[String]>> = Mutex::new(tests.iter().map(Vec::as_slice).collect());
    let (running, (sender, ended)) = (Running::default(), mpsc::channel());
    thread::scope(|scope| {
        for _ in 0..slots {
            let (sender, queue, running) = (sender.clone(), &queue, &running);
            scope.spawn(move || {
                while let Some(names) = next(queue) {
                    for name in names.iter().take_while(|_| !interrupt::seen()) {
                        let log = logs.join(name.replace("::", "."));
                        let outcome = binary.run(name, plan, &log, running).unwrap_or_else(|error| Outcome {
                            name: name.clone(),
                            time: Duration::ZERO,
                            failure: Some(format!("it cannot be run: {error}")),
                            panic: None,
                            lacks: None,
                        });
                        if sender.send((outcome, log)).is_err() {
                            return;
                        }
                    }
                }
            });
        }
        drop(sender);
        loop {
            match ended.recv_timeout(TICK) {
                Ok((outcome, log)) => {
                    report(outcome, &log);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            if interrupt::seen() {
                queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
                running.kill_older_than(Duration::ZERO, "it was interrupted");
            }
            running.kill_older_than(plan.limit, "it took too long and was killed");
        }
    });
}

fn next<'t>(queue: &Mutex<VecDeque<&'t [String]>>) -> Option<&'t [String]> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

impl Outcome {
    /// Whether it passed.
    pub(super) fn passed(&self) -> bool {
        self.failure.is_none()
    }

    /// The feature that it needs and this kernel lacks.
    pub(super) fn lacks(&self) -> Option<&str> {
        self.lacks.as_deref()
    }

    /// Whether it failed although the kernel has all that it needs.
    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some() && self.lacks.is_none()
    }

    /// Its name, with the message of its panic or another reason why it failed.
    fn in_brief(&self) -> String {
        let reason = self.panic.as_ref().or(self.failure.as_ref()).map_or("it passed", String::as_str);
        format!("{}: {reason}", self.name)
    }

    /// Prints a line for a passed test, and also the output of a failed one.
    pub(super) fn show(&self, log: &Path) {
        let Some(failure) = &self.failure else {
            say(&format!("ok     {:6.1} s  {}", self.time.as_secs_f64(), self.name));
            return;
        };
        say(&format!("FAILED {:6.1} s  {}: {failure}; its output:", self.time.as_secs_f64(), self.name));
        say(&fs::read(log)
            .map_or_else(|error| error.to_string(), |bytes| String::from_utf8_lossy(&bytes).into()));
        say(&format!("--- end of the output of {}", self.name));
    }
}

/// The running tests. Each leads a process group.
#[derive(Default)]
struct Running(Mutex<HashMap<Pid, Test>>);

struct Test {
    started: Instant,
    name: String,
    killed: Option<String>,
}

impl Running {
    fn add(&self, pid: Pid, name: &str) {
        let test = Test { started: Instant::now(), name: name.to_owned(), killed: None };
        self.tests().insert(pid, test);
    }

    /// Removes a test, which is not signalled after this. Returns why it was killed, if it was.
    fn remove(&self, pid: Pid) -> Option<String> {
        self.tests().remove(&pid)?.killed
    }

    fn kill_older_than(&self, limit: Duration, reason: &str) {
        for (pid, test) in self.tests().iter_mut().filter(|(_, test)| test.killed.is_none()) {
            if test.started.elapsed() >= limit {
                test.killed = Some(reason.to_owned());
                if let Err(error) = killpg(*pid, Signal::SIGKILL) {
                    eprintln!("warning: cannot kill {}: {error}", test.name);
                }
            }
        }
    }

    fn tests(&self) -> std::sync::MutexGuard<'_, HashMap<Pid, Test>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The missing feature, from a test's output.
fn missing(output: &str) -> Option<String> {
    output.lines().find_map(|line| line.strip_prefix(LACKS)).map(str::to_owned)
}

/// The message of the first panic in a test's output: at most six lines of at most 300 bytes.
fn panic_message(output: &str) -> Option<String> {
    let mut lines =
        output.lines().skip_while(|line| !(line.starts_with("thread '") && line.contains(" panicked at ")));
    let _place = lines.next()?;
    let message =
        lines.take_while(|line| !line.starts_with("stack backtrace:") && !line.starts_with("note: ")).take(6);
    let lines: Vec<_> = message.map(|line| &line[..line.floor_char_boundary(300)]).collect();
    Some(lines.join("\n    "))
}

/// The path in cargo's message about an executable.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_it = message["reason"] == "compiler-artifact" && message["target"]["name"] == "integration";
    message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, os::unix::fs::PermissionsExt as _};

    use super::*;

    /// A fake test binary, called with `--exact NAME`.
    const SCRIPT: &str = "#!/bin/sh
        echo \"output of $2\"
        case $2 in
            good) echo 'test result: ok. 1 passed; 0 failed' ;;
            bad) echo 'test result: FAILED. 0 passed; 1 failed'; exit 101 ;;
            nothing) echo 'test result: ok. 0 passed; 0 failed' ;;
            hangs) sleep 1000 ;;
            litters) echo 'test result: ok. 1 passed; 0 failed'; touch \"$TMPDIR/litter\" ;;
            dies) kill -SEGV $$ ;;
        esac
    ";

    /// Runs tests and returns each name with its failure.
    fn outcomes(tests: &[&str]) -> Vec<(String, Option<String>)> {
        let mut name = format!("xtask-runner-{}", std::process::id());
        let _ = write!(name, "-{:?}", thread::current().id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let script = folder.join("tests");
        fs::write(&script, SCRIPT).expect("a file");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let tests: Vec<_> = tests.iter().map(|&name| vec![name.to_owned()]).collect();
        let plan = Plan {
            suite: Suite::Long,
            tests: tests.clone(),
            slots: 2,
            alone: Vec::new(),
            limit: Duration::from_secs(2),
            environment: Vec::new(),
        };
        let mut outcomes = Vec::new();
        run_some(&Binary(script), &plan, (&tests, plan.slots), &folder, |outcome, _| outcomes.push(outcome));
        fs::remove_dir_all(&folder).expect("our own folder");
        outcomes.sort_by(|one, other| one.name.cmp(&other.name));
        outcomes.into_iter().map(|outcome| (outcome.name, outcome.failure)).collect()
    }

    #[test]
    fn what_a_test_lacks_is_in_its_output() {
        let output = "thread 'a' panicked at tests/a.rs:1:1:\nthis kernel lacks XDP: no\nnote: run";
        assert_eq!(missing(output).as_deref(), Some("XDP: no"));
        assert_eq!(missing("it says that this kernel lacks XDP"), None);
    }

    #[test]
    fn the_message_of_the_first_panic_is_kept() {
        let output = "running\nthread 'a' (7) panicked at tests/a.rs:1:1:\none\ntwo\nstack backtrace:\n  0: x\n\
                      thread 'b' panicked at tests/b.rs:1:1:\nthree\n";
        assert_eq!(panic_message(output).as_deref(), Some("one\n    two"));
        assert_eq!(panic_message("it says that it panicked at noon"), None);
    }

    #[test]
    fn a_test_passes_that_has_run_and_passed() {
        assert_eq!(outcomes(&["good"]), [("good".to_owned(), None)]);
    }

    #[test]
    fn all_others_fail_and_say_how() {
        let ended = outcomes(&["bad", "dies", "good", "hangs", "litters", "nothing"]);
        let why: Vec<_> = ended.iter().map(|(_, failure)| failure.as_deref().unwrap_or_default()).collect();
        let [bad, dies, "", hangs, litters, nothing] = why[..] else { panic!("{ended:?}") };
        assert!(litters.starts_with("it left ") && litters.ends_with("/litter"), "{ended:?}");
        assert!(bad.contains("exit status: 101") && dies.contains("signal"), "{ended:?}");
        assert_eq!((hangs, nothing), ("it took too long and was killed", "it did not run"));
    }

    #[test]
    fn the_binary_is_the_one_that_cargo_names() {
        let message = |name: &str| {
            format!(
                "{{\"reason\":\"compiler-artifact\",\"target\":{{\"name\":\"{name}\"}},\"executable\":\"/x\"}}"
            )
        };
        assert_eq!(executable(&message("integration")), Some(PathBuf::from("/x")));
        assert_eq!(executable(&message("vethpath")), None);
        assert_eq!(executable("no JSON"), None);
    }
}
