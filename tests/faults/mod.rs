//! Faults on purpose, at random moments: whatever dies, the network goes on, and nothing is left.

mod agent_killed;
mod descriptors;
mod flat;
mod torn;
