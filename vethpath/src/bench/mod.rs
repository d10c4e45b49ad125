//! Compares a cable, the plain bridge, the fast path and XDP, in interleaved slices.
//!
//! Data flow of [`run()`]: `selection` finds two pairs and `cases` their work (both pure). `schedule` runs rounds of slices
//! in random order. `executor` sets up each path and verifies it by the programs' counters. `load` measures with a thread
//! or a process at each end. `tally` sums up each case with `vethpath_figures` (both pure), and `summary` makes a [`Report`]
//! of that, which `output` renders.

mod cases;
mod compare;
mod cpus;
mod distribution;
mod endpoints;
mod error;
mod executor;
mod load;
mod machine;
mod measurement;
mod mode;
mod monitor;
mod programs;
mod reliability;
mod report;
mod run;
mod schedule;
mod selection;
mod summary;
mod tally;
mod temporary_lab;
mod warning;
mod workload;
mod xdp;

pub use cases::Wish;
pub use compare::{Change, Compared, Comparison, Difference, Verdict};
pub use distribution::Distribution;
pub use error::Error;
pub use load::Peer;
pub use machine::Machine;
pub use mode::{Mode, PerMode};
#[cfg(test)]
pub(crate) use report::samples;
pub use report::{Case, Ended, Rate, Report, Results, VERSION, Why};
pub use run::{Request, Subject, run};
pub use schedule::Progress;
pub use selection::AtBridge;
pub use temporary_lab::{Shape, ShapeError, TemporaryLab};
pub use vethpath_figures::statistics::Interval;
pub use warning::{Caveat, Warning};
pub use workload::{Better, Cores, Placement, Spec, Unit, Wait, Workload};
pub use xdp::Beside;
