//! The view of `stats --watch` on a terminal. Data first, rendering apart:
//!
//! | part | is |
//! |---|---|
//! | [`Model`] | the last account, its rates, and their history |
//! | [`App`] | what is shown of it: a state machine of samples, events and keys |
//! | `columns`, `grid`, `draw`, `panes` | widgets: from an [`App`] to a frame |
//! | [`Screen`] | the terminal: set up, and restored in any case |
//!
//! The loop that connects them is `commands/watch.rs`. Accounts are read on a thread of their own, so that keys are
//! served while an agent is slow to reply.

mod app;
mod columns;
mod draw;
mod grid;
mod keys;
mod model;
mod panes;
mod screen;
#[cfg(test)]
mod tests;

pub use app::{App, Flow, Look, Options, Pane, Units};
pub use model::{Facts, Model, PairFacts, Sample, facts};
pub use screen::Screen;
