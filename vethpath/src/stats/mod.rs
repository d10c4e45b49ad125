//! The traffic account of each pair. This module has the data, and `output` renders it.
//!
//! There are three sources, read in this order: the agent's socket, the kernel's counters of the inner ends, and
//! the programs' counters ([`collect`]). [`account`] combines them into one account. `docs/stats.md` explains it
//! with an example.

mod account;
mod agent;
mod collect;
mod ends;
mod guests;
mod model;
mod rates;
mod round_trips;
mod selection;
mod summary;

pub use account::{Lost, UNSEEN, account, apart, seen, unseen};
pub use agent::{Agent, AgentView, State};
pub use collect::{collect, matrix};
pub use guests::{Containers, behind_guests, containers};
pub use model::{Count, Directions, Dropped, Flow, Flows, Pair, Stats, Traffic, Trunk};
pub use rates::{Growth, PairRates, Rate, rates};
pub use round_trips::{RoundTrips, round_trips};
pub use selection::{SortKey, matches, order};
pub use summary::{NotArmed, Summary};
