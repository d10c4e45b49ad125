//! A command that has ended, and checks of its result.

use std::{fmt, process::ExitStatus};

use serde_json::Value;

/// A command that has ended.
#[must_use = "look how it ended: `.ok()`, `.fails(1)`"]
pub(crate) struct Done {
    words: Vec<String>,
    status: ExitStatus,
    /// What it wrote to standard output.
    pub(crate) stdout: String,
    /// What it wrote to standard error.
    pub(crate) stderr: String,
}

impl Done {
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
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{text:?} is not in the standard error of {self}");
        self
    }

    /// Expects this text in its standard output.
    #[track_caller]
    pub(crate) fn prints(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "{text:?} is not in the standard output of {self}");
        self
    }

    /// Its standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {self}"))
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { words, status, stdout, stderr } = self;
        write!(f, "`{}`: {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", words.join(" "))
    }
}
