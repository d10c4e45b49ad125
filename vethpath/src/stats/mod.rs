//! What each pair has sent and received: data first, rendering in `output`.
//!
//! Three sources, read in this order: the agent's socket, the kernel's counters of the inner ends,
//! the programs' counters ([`collect`]). The arithmetic that makes one account of them is in
//! [`account`], and told with an example in `docs/stats.md`.

mod account;
mod agent;
mod collect;
mod ends;
mod matrix;
mod model;
mod rates;

pub use account::{Lost, UNSEEN, account, apart, seen};
pub use agent::{Agent, AgentView, State};
pub use collect::{Error, collect};
pub(crate) use ends::place_exists;
pub use matrix::{Flow, Flows, matrix};
pub use model::{Count, Dropped, Pair, Stats, Traffic, Trunk, Ways};
pub use rates::{Rates, rates};
