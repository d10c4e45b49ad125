//! Results of commands: exit codes, and messages on stderr.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use crate::{kernel::engine, output::printable};

/// Exit codes, as documented in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Success.
    Done,
    /// The user's file or request is wrong.
    Request,
    /// The system refused, or something unexpected.
    System,
    /// An expectation does not hold.
    Unmet,
    /// SIGINT.
    Interrupted,
    /// The exit code of a program that was run for the user.
    Of(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Request => 1,
            Exit::System => 2,
            Exit::Unmet => 3,
            Exit::Interrupted => 130,
            Exit::Of(code) => code,
        })
    }
}

/// The message, hint and exit code of a failed command.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// The user's file or request is wrong.
    pub fn request(message: impl Into<String>) -> Self {
        Self { exit: Exit::Request, message: message.into(), hint: None }
    }

    /// The system refused a request.
    pub fn system(message: impl Into<String>) -> Self {
        Self { exit: Exit::System, message: message.into(), hint: None }
    }

    /// Interrupted by the user.
    #[must_use]
    pub fn interrupted() -> Self {
        Self {
            exit: Exit::Interrupted,
            message: "interrupted; what had been done is undone".to_owned(),
            hint: None,
        }
    }

    /// Whether the user's file or request is wrong.
    #[must_use]
    pub fn is_request(&self) -> bool {
        self.exit == Exit::Request
    }

    /// Whether the user has interrupted it.
    #[must_use]
    pub fn is_interruption(&self) -> bool {
        self.exit == Exit::Interrupted
    }

    /// A message that is already rendered, such as the faults of a file.
    pub fn rendered(message: impl Into<String>) -> Self {
        Self { exit: Exit::Request, message: message.into(), hint: None }
    }

    /// stdout cannot be written. A closed pipe (`vethpath list | head -1`) is not an error.
    #[must_use]
    pub fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { exit: Exit::Done, message: String::new(), hint: None },
            _ => Self::system(format!("cannot write the output: {error}")),
        }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prints the message and returns the exit code.
    pub fn report(&self, err: &mut dyn Write) -> ExitCode {
        // A closed stderr is ignored: the exit code still reports the failure.
        let _ = self.write(err);
        self.exit.into()
    }

    fn write(&self, err: &mut dyn Write) -> io::Result<()> {
        if self.message.starts_with("error:") {
            writeln!(err, "{}", self.message.trim_end())?;
        } else {
            for line in self.message.lines() {
                writeln!(err, "error: {}", printable(line))?;
            }
        }
        match &self.hint {
            Some(hint) => writeln!(err, "hint: {}", printable(hint)),
            None => Ok(()),
        }
    }
}

impl From<crate::apply::Error> for Failure {
    fn from(error: crate::apply::Error) -> Self {
        if matches!(error, crate::apply::Error::Interrupted) {
            return Self::interrupted();
        }
        let hint = error.hint();
        if error.is_interruption() {
            return Self { exit: Exit::Interrupted, message: error.to_string(), hint };
        }
        let failure = if error.is_request() {
            Self::request(error.to_string())
        } else {
            Self::system(error.to_string())
        };
        Self { hint, ..failure }
    }
}

/// Why containers are missing, of which there is at least one. The hint is about the first.
impl From<&[engine::Error]> for Failure {
    fn from(errors: &[engine::Error]) -> Self {
        let message = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let is_request = errors.iter().all(engine::Error::is_request);
        let failure = if is_request { Self::request(message) } else { Self::system(message) };
        Self { hint: errors.iter().find_map(engine::Error::hint), ..failure }
    }
}

impl From<crate::kernel::Error> for Failure {
    fn from(error: crate::kernel::Error) -> Self {
        Self { hint: error.hint().map(str::to_owned), ..Self::system(error.to_string()) }
    }
}

impl From<crate::state::Error> for Failure {
    fn from(error: crate::state::Error) -> Self {
        let message = error.to_string();
        let failure = if error.is_request() { Self::request(message) } else { Self::system(message) };
        Self { hint: error.hint(), ..failure }
    }
}

/// The tokio runtime. A single thread is enough, since it only serves netlink sockets.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::system(format!("cannot start: {error}")))
}
