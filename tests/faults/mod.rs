//! Faults on purpose, at random moments: whatever dies, the network goes on, and nothing is left.

mod agent_killed;
mod flat;
mod torn;
