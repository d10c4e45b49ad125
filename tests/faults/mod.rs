//! Deliberate faults at random moments: whichever process dies, the network goes on, and nothing is left.

mod killed;
mod resources;
