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
    let mut failed = Vec::new();
    for line in child.stdout.take().into_iter().flat_map(|pipe| BufReader::new(pipe).split(b'\n')) {
        // A pipe that breaks has nothing more to show; how the command ended is told below.
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line);
        say(&line);
        failed.extend(failed_test(&line).map(str::to_owned));
    }
    let status = child.wait().map_err(start)?;
    if status.success() {
        return Ok(Vec::new());
    }
    if interrupt::seen() || failed.is_empty() || failed.len() > MOST {
        return Err(Error::Failed { command: line, status });
    }
    Ok(failed)
}

/// The test that a line of the test harness says has failed.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
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
        assert_eq!(failed_test("test result: FAILED. 1 passed; 1 failed"), None);
        let script = "echo 'test a ... ok'; echo 'test b ... FAILED'; exit 101";
        let shown = std::cell::RefCell::new(Vec::new());
        let few = run(&mut shell(script), |line| shown.borrow_mut().push(line.to_owned()));
        assert_eq!(few.expect("few"), ["b"]);
        assert_eq!(shown.into_inner()[1..], ["test a ... ok", "test b ... FAILED"]);
    }

    #[test]
    fn a_success_names_nothing() {
        assert_eq!(run(&mut shell("echo 'test a ... ok'"), |_| {}).expect("a success"), [""; 0]);
    }

    #[test]
    fn other_reasons_are_failures() {
        let many = "for test in a b c d; do echo \"test $test ... FAILED\"; done; exit 101";
        for script in ["exit 101", many] {
            let done = run(&mut shell(script), |_| {});
            assert!(matches!(done, Err(Error::Failed { .. })), "{script}: {done:?}");
        }
    }
}
