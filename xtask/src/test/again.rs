//! Tests that failed while others ran beside them get one run alone.
//!
//! The tests on real labs wait for a real kernel, several at once on each CPU. What a loaded machine decides is
//! a fault of a test, or of what it tests, and is named at the end of the run; but it is told apart from what
//! fails by itself, and that alone stops the run.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use crate::{error::Error, interrupt, tools::display};

/// If more tests than these fail, something is wrong with all of them.
const MOST: usize = 3;

/// Says the command line, runs it and says what it prints. Returns the tests that failed, if they are the
/// reason why it did, and few.
pub(super) fn run(command: &mut Command, say: impl Fn(&str)) -> Result<Vec<String>, Error> {
    let line = display(command);
    say(&format!("$ {line}"));
    let start = |source| Error::Start { command: line.clone(), source };
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(start)?;
    let (mut failed, mut binaries) = (Vec::new(), Binaries::default());
    for line in child.stdout.take().into_iter().flat_map(|pipe| BufReader::new(pipe).split(b'\n')) {
        // A pipe that breaks has nothing more to show; how the command ended is told below.
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line);
        say(&line);
        binaries.note(&line);
        failed.extend(failed_test(&line).map(str::to_owned));
    }
    let status = child.wait().map_err(start)?;
    if status.success() {
        return Ok(Vec::new());
    }
    let few = (1..=MOST).contains(&failed.len()) && binaries.have_told(failed.len());
    if interrupt::seen() || !few {
        return Err(Error::Failed { command: line, status });
    }
    Ok(failed)
}

/// What the test binaries say of themselves. One that crashes has begun and does not end; what it did not come to
/// nobody has seen pass.
#[derive(Default)]
struct Binaries {
    begun: usize,
    ended: usize,
    failed: usize,
}

impl Binaries {
    fn note(&mut self, line: &str) {
        let counts = line.strip_prefix("running ").and_then(|rest| rest.split_once(" test"));
        self.begun += usize::from(counts.is_some_and(|(count, _)| count.parse::<u32>().is_ok()));
        if let Some(result) = line.strip_prefix("test result: ") {
            self.ended += 1;
            let count = |part: &str| part.trim().strip_suffix(" failed")?.parse::<usize>().ok();
            self.failed += result.split(';').find_map(count).unwrap_or_default();
        }
    }

    /// Whether each has ended, and all that failed are named.
    const fn have_told(&self, named: usize) -> bool {
        self.begun == self.ended && self.failed == named
    }
}

/// The test that a line of the test harness says has failed, by the name under which it can be run alone.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED").filter(|name| !name.contains(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_failed_is_named() {
        assert_eq!(failed_test("test faults::torn ... FAILED"), Some("faults::torn"));
        assert_eq!(failed_test("test faults::torn ... ok"), None);
        assert_eq!(failed_test("test faults::torn - should panic ... FAILED"), None);
        assert_eq!(failed_test("test result: FAILED. 1 passed; 1 failed"), None);
        let script = "echo 'running 2 tests'; echo 'test a ... ok'; echo 'test b ... FAILED'; echo \
                      'test result: FAILED. 1 passed; 1 failed; 0 ignored'; exit 101";
        let shown = std::cell::RefCell::new(Vec::new());
        let few = run(&mut shell(script), |line| shown.borrow_mut().push(line.to_owned()));
        assert_eq!(few.expect("few"), ["b"]);
        assert_eq!(shown.into_inner()[2..4], ["test a ... ok", "test b ... FAILED"]);
    }

    #[test]
    fn a_success_names_nothing() {
        assert_eq!(run(&mut shell("echo 'test a ... ok'"), |_| {}).expect("a success"), [""; 0]);
    }

    #[test]
    fn other_reasons_are_failures() {
        let many = "echo 'running 4 tests'; for test in a b c d; do echo \"test $test ... FAILED\"; done; \
                    echo 'test result: FAILED. 0 passed; 4 failed'; exit 101";
        let crash = "echo 'running 2 tests'; echo 'test a ... FAILED'; exit 101";
        let nameless = "echo 'running 2 tests'; echo 'test a ... FAILED'; echo 'test result: FAILED. 0 passed; 2 failed'; exit 101";
        for script in ["exit 101", many, crash, nameless] {
            let done = run(&mut shell(script), |_| {});
            assert!(matches!(done, Err(Error::Failed { .. })), "{script}: {done:?}");
        }
    }
}
