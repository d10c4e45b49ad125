//! A line of a script.

use std::fmt;

use super::{agent::Fate, frame::Frame, operation::Operation};

/// What happens in both worlds.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A host sends a frame.
    Frame(Frame),
    /// A manual change.
    Operation(Operation),
    /// The agent of the accelerated world is signalled or replaced.
    Agent(Fate),
}

impl From<Frame> for Step {
    fn from(frame: Frame) -> Self {
        Self::Frame(frame)
    }
}

impl From<Operation> for Step {
    fn from(operation: Operation) -> Self {
        Self::Operation(operation)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(frame) => frame.fmt(f),
            Self::Operation(operation) => operation.fmt(f),
            Self::Agent(fate) => fate.fmt(f),
        }
    }
}

/// Formats a script, one step per line.
pub(crate) fn script(steps: &[Step]) -> String {
    steps.iter().enumerate().map(|(number, step)| format!("{:3}  {step}\n", number + 1)).collect()
}
