//! Tests that failed while others ran beside them get one run alone.
//!
//! The tests on real labs wait for a real kernel, several at once on each CPU. What a loaded machine decides is
//! a fault of a test, or of what it tests, and is named at the end of the run; but it is told apart from what
//! fails by itself, and that alone stops the run.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, ExitStatus, Stdio},
};

use crate::{error::Error, interrupt, tools::display};

/// If more tests than these fail, something is wrong with all of them.
const MOST: usize = 3;

/// `cargo test`, where tests ran and failed.
const TESTS_FAILED: i32 = 101;

/// Runs all tests. Returns those that failed, if they are the reason why it did, and few.
pub(super) fn beside_others(command: &mut Command, say: impl Fn(&str)) -> Result<Vec<String>, Error> {
    let (status, told) = run(command, say)?;
    if status.success() {
        return Ok(Vec::new());
    }
    if interrupt::seen() || status.code() != Some(TESTS_FAILED) || !told.is_of_few() {
        return Err(Error::Failed { command: display(command), status });
    }
    Ok(told.names)
}

/// Runs `tests` by a command that is theirs alone.
pub(super) fn alone(command: &mut Command, tests: &[String], say: impl Fn(&str)) -> Result<(), Error> {
    let (status, told) = run(command, say)?;
    match status.success() {
        false => Err(Error::Failed { command: display(command), status }),
        true if told.passed < tests.len() => Err(Error::NotRun(tests.to_vec())),
        true => Ok(()),
    }
}

/// Says the command line, runs it and says what it prints.
fn run(command: &mut Command, say: impl Fn(&str)) -> Result<(ExitStatus, Told), Error> {
    let line = display(command);
    say(&format!("$ {line}"));
    let start = |source| Error::Start { command: line.clone(), source };
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(start)?;
    let mut told = Told::default();
    for line in child.stdout.take().into_iter().flat_map(|pipe| BufReader::new(pipe).split(b'\n')) {
        // A pipe that breaks has nothing more to show; how the command ended is told below.
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line);
        say(&line);
        told.note(&line);
    }
    Ok((child.wait().map_err(start)?, told))
}

/// What the test binaries have told. One that crashes among its tests has begun and does not end: what it did not
/// come to nobody has seen pass.
#[derive(Default)]
struct Told {
    begun: usize,
    ended: usize,
    passed: usize,
    failed: usize,
    /// Those that failed.
    names: Vec<String>,
}

impl Told {
    fn note(&mut self, line: &str) {
        let counts = line.strip_prefix("running ").and_then(|rest| rest.split_once(" test"));
        self.begun += usize::from(counts.is_some_and(|(count, _)| count.parse::<u32>().is_ok()));
        if let Some(result) = line.strip_prefix("test result: ") {
            let words: Vec<_> = result.split([' ', ';']).collect();
            let count = |of| {
                let found = words.windows(2).find(|two| two[1] == of);
                found.and_then(|two| two[0].parse::<usize>().ok()).unwrap_or(0)
            };
            self.ended += 1;
            self.passed += count("passed");
            self.failed += count("failed");
        }
        self.names.extend(failed_test(line).map(str::to_owned));
    }

    /// Whether each binary has come to its end, and all that failed are named, and few.
    fn is_of_few(&self) -> bool {
        self.begun == self.ended && self.failed == self.names.len() && (1..=MOST).contains(&self.failed)
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

    /// What a binary of this many tests prints, `passed` and `failed` of which are as they are called.
    fn binary(passed: &[&str], failed: &[&str]) -> String {
        let mut lines = vec![format!("running {} tests", passed.len() + failed.len())];
        lines.extend(passed.iter().map(|test| format!("test {test} ... ok")));
        lines.extend(failed.iter().map(|test| format!("test {test} ... FAILED")));
        lines.push(format!("test result: any. {} passed; {} failed; 0 ignored", passed.len(), failed.len()));
        lines.iter().map(|line| format!("echo '{line}'\n")).collect()
    }

    #[test]
    fn what_failed_is_named() {
        assert_eq!(failed_test("test faults::torn ... FAILED"), Some("faults::torn"));
        assert_eq!(failed_test("test faults::torn ... ok"), None);
        assert_eq!(failed_test("test faults::torn - should panic ... FAILED"), None);
        assert_eq!(failed_test("test result: FAILED. 1 passed; 1 failed"), None);
        let script = binary(&["a"], &["b"]) + &binary(&[], &["c"]) + "exit 101";
        let shown = std::cell::RefCell::new(Vec::new());
        let few = beside_others(&mut shell(&script), |line| shown.borrow_mut().push(line.to_owned()));
        assert_eq!(few.expect("few"), ["b", "c"]);
        assert!(shown.into_inner().contains(&"test b ... FAILED".to_owned()));
    }

    #[test]
    fn a_success_names_nothing() {
        assert_eq!(beside_others(&mut shell(&binary(&["a"], &[])), |_| {}).expect("a success"), [""; 0]);
    }

    #[test]
    fn other_reasons_are_failures() {
        let many = binary(&[], &["a", "b", "c", "d"]) + "exit 101";
        let crash = "echo 'running 2 tests'; echo 'test a ... FAILED'; exit 101".to_owned();
        let nameless = binary(&[], &["a - should panic"]) + "exit 101";
        let killed = binary(&["a"], &["b"]) + "kill -KILL $$";
        for script in ["exit 101".to_owned(), many, crash, nameless, killed] {
            let done = beside_others(&mut shell(&script), |_| {});
            assert!(matches!(done, Err(Error::Failed { .. })), "{script}: {done:?}");
        }
    }

    #[test]
    fn what_did_not_run_did_not_pass() {
        let tests = ["a".to_owned(), "b".to_owned()];
        let run = |script: &str| alone(&mut shell(script), &tests, |_| {});
        assert!(run(&binary(&["a", "b"], &[])).is_ok());
        assert!(matches!(run(&binary(&["a"], &[])), Err(Error::NotRun(_))));
        assert!(matches!(run(&(binary(&["a"], &["b"]) + "exit 101")), Err(Error::Failed { .. })));
    }
}
