//! A plan: its steps in their order, and the changes that they make.

use serde::{Serialize, Serializer};

use super::{Change, ProgramStep, Step};
use crate::topology::Pair;

/// Ordered steps in five parts. Programs are attached before interfaces come up, so that every frame is counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Removes what is no longer wanted.
    pub clear: Vec<Step>,
    /// Creates objects, and changes existing ones.
    pub make: Vec<Step>,
    /// Attaches programs to existing ports and detaches them. Programs of new pairs need no step.
    pub programs: Vec<ProgramStep>,
    /// Adds addresses, brings interfaces up, adds routes.
    pub raise: Vec<Step>,
    /// Writes settings that the kernel changes during the steps before.
    pub last: Vec<Step>,
}

impl Plan {
    /// All steps in order, but those about programs.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.clear.iter().chain(&self.make).chain(&self.raise).chain(&self.last)
    }

    /// The number of steps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps().count() + self.programs.len()
    }

    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The changes that the steps make.
    pub fn changes(&self) -> impl Iterator<Item = Change> {
        let of = |steps: [_; 2]| {
            let steps = steps.into_iter().flatten();
            steps.filter(|step: &&Step| !step.is_repeated()).flat_map(Step::changes)
        };
        of([&self.clear, &self.make])
            .chain(self.programs.iter().map(ProgramStep::change))
            .chain(of([&self.raise, &self.last]))
    }

    /// Whether the lab leaves a namespace that it has adopted.
    #[must_use]
    pub fn leaves_a_namespace(&self) -> bool {
        let leaves =
            |step: &Step| matches!(step, Step::DeleteNamespace(namespace) if namespace.adopt.is_some());
        self.steps().any(leaves)
    }

    /// The pairs that the plan creates.
    pub fn new_pairs(&self) -> impl Iterator<Item = &Pair> {
        self.make.iter().filter_map(|step| if let Step::Pair(pair) = step { Some(pair) } else { None })
    }
}

/// All changes of a run, in order. They are derived from the plan on demand: a list would be many times as large.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    plan: Plan,
    more: Vec<Change>,
}

impl Changes {
    /// The changes of a plan.
    #[must_use]
    pub fn of(plan: Plan) -> Self {
        Self { plan, more: Vec::new() }
    }

    /// Appends a change.
    pub fn push(&mut self, change: Change) {
        self.more.push(change);
    }

    /// Iterates over the changes.
    pub fn iter(&self) -> impl Iterator<Item = Change> {
        self.plan.changes().chain(self.more.iter().cloned())
    }

    /// The number of changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl Extend<Change> for Changes {
    fn extend<T: IntoIterator<Item = Change>>(&mut self, changes: T) {
        self.more.extend(changes);
    }
}

/// A sequence, serialized one change at a time.
impl Serialize for Changes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}
